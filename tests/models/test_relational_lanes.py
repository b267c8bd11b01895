"""The transformer's kernels: dropout, threads, and who shares a vector with whom."""

import numpy as np
import pytest
import torch
from symmetry import make_batch, relative

from lightning_dws import INRArchitecture
from lightning_dws.models import NeuralGraphTransformer, relational_lanes
from lightning_dws.models.lane_dropout import draw_keep_bits
from lightning_dws.models.lanes import LANES, from_lanes, to_lanes
from lightning_dws.models.relational_edges import EdgeUpdateTerms, update_edges_at_once
from lightning_dws.models.relational_lanes import (
    LanePairs,
    attend_in_lanes,
    bipartite_places,
    dense_places,
    update_in_lanes,
)

WIDTHS = (2, 6, 6, 1)


def make_model(**options):
    torch.manual_seed(0)
    sizes = {"node_dim": 8, "edge_dim": 4, "num_layers": 3, "num_heads": 2, "attention_dim": 6}
    sizes |= {"node_hidden_dim": 10, "edge_hidden_dim": 7, "head_dim": 9, "fourier_features": 16}
    return NeuralGraphTransformer(INRArchitecture(WIDTHS), 5, **(sizes | options))


def test_lanes_hold_the_inrs():
    x = torch.randn(LANES + 1, 3, 2)
    lanes = to_lanes(x)
    assert lanes.shape == (2, 3, 2, LANES)
    assert torch.equal(from_lanes(lanes, len(x)), x)
    assert torch.equal(lanes[1, ..., 1], x[-1])


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_update_is_its_definition(dropout):
    torch.manual_seed(0)
    size, nodes, queries, channels, hidden = LANES + 2, 5, 2, 3, 7
    inputs = random_update(size, nodes, queries, channels, hidden)
    edges, *terms = inputs
    features = to_lanes(edges.permute(0, 2, 3, 1).flatten(1, 2))
    pairs = LanePairs(features, dense_places(nodes, nodes), nodes)
    torch.manual_seed(1)
    updated = update_in_lanes(pairs, EdgeUpdateTerms(*terms), queries, dropout)
    found = from_lanes(updated.features, size).unflatten(1, (queries, nodes))
    found = found.permute(0, 3, 1, 2)[:, :channels]

    torch.manual_seed(1)
    shape = (2, 2, queries, nodes, channels)
    bits, share = draw_keep_bits(shape, dropout)
    keep = None
    if dropout > 0:
        words = torch.from_numpy(bits[:, : np.prod(shape[1:])].astype(np.int64)).view(shape)
        lanes = (words[..., None] >> torch.arange(LANES)) & 1
        keep = from_lanes(lanes.bool(), size).permute(1, 0, 4, 2, 3)
    exact = [x.detach().double().requires_grad_() for x in inputs]
    definition = EdgeUpdateTerms(*exact[1:])
    scaled = {
        name: getattr(definition, name) / share
        for name in ("out", "out_bias", "mlp_out", "mlp_out_bias")
    }
    e = exact[0]
    expected = update_edges_at_once(
        keep, e[:, :, -queries:], e[..., -queries:].mT, *definition._replace(**scaled)
    )
    weights = torch.randn_like(expected)
    grads = torch.autograd.grad(found, inputs, weights.float())
    expected_grads = torch.autograd.grad(expected, exact, weights)
    for own, other in zip([found, *grads], [expected, *expected_grads], strict=True):
        assert relative(own.double(), other) < 2e-5


def test_dropout_keeps_its_share():
    torch.manual_seed(0)
    bits, share = draw_keep_bits((3, 40_000), 0.3)
    assert abs(share - 0.7) < 1e-4
    kept = np.unpackbits(bits.view(np.uint8)).reshape(3, -1, 16)
    assert abs(kept.mean() - 0.7) < 0.002
    assert np.abs(kept.mean((0, 1)) - 0.7).max() < 0.008
    assert abs(np.corrcoef(kept[0, :, 0], kept[0, :, 1])[0, 1]) < 0.02
    assert abs(np.corrcoef(kept[0, :-1, 0], kept[0, 1:, 0])[0, 1]) < 0.02
    assert abs(np.corrcoef(kept[0, :, 0], kept[1, :, 0])[0, 1]) < 0.02


def random_update(size, nodes, queries, channels, hidden):
    """Give edges of all pairs, and the terms of their update."""
    shapes = [(size, channels, nodes, nodes), (size, hidden, queries), (size, hidden, nodes)]
    shapes += [(hidden, channels)] * 2 + [(channels, hidden), (channels,), (2, channels)]
    shapes += [(hidden, channels), (channels, hidden), (channels,), (2, channels)]
    return [torch.randn(shape).requires_grad_() for shape in shapes]


def test_the_number_of_threads_does_not_matter():
    torch.manual_seed(0)
    size, nodes, heads, channels = 3 * LANES, 5, 2, 3
    edges, *terms = random_update(size, nodes, nodes, channels, 4)
    ends = [torch.randn(size, nodes, heads, 2).requires_grad_() for _ in range(3)]
    maps = [torch.randn(heads, 2, channels).requires_grad_() for _ in range(3)]
    threads, results = torch.get_num_threads(), []
    try:
        for number in (1, 3):
            torch.set_num_threads(number)
            features = to_lanes(edges.permute(0, 2, 3, 1).flatten(1, 2))
            pairs = LanePairs(features, dense_places(nodes, nodes), nodes)
            torch.manual_seed(1)
            gated_mean, edge_mean, pairs = attend_in_lanes(pairs, *ends, *maps)
            updated = update_in_lanes(pairs, EdgeUpdateTerms(*terms), nodes, 0.2).features
            outs = [gated_mean, edge_mean, updated[:, :, :channels]]
            inputs = [edges, *terms, *ends, *maps]
            results.append([*outs, *torch.autograd.grad([out.sum() for out in outs], inputs)])
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(*pair) for pair in zip(*results, strict=True))


def test_an_inr_does_not_see_the_others_of_its_vector():
    model = make_model().eval()
    batch = make_batch(WIDTHS, LANES + 3, dtype=torch.float32)
    logits = model(batch)
    torch.testing.assert_close(model(batch[3:]), logits[3:], rtol=1e-5, atol=1e-5)
    others = batch.parameters.clone()
    others[1:] = float("nan")
    assert torch.equal(
        model(batch.replace(parameters=others))[0].isnan().any(), torch.tensor(False)
    )


def test_few_inrs_and_double_precision_take_torch(monkeypatch):
    monkeypatch.setattr(relational_lanes, "attend_group", None)
    model = make_model().eval()
    for size, dtype in ((LANES // 4 - 1, torch.float32), (LANES, torch.float64)):
        assert model.to(dtype)(make_batch(WIDTHS, size, dtype=dtype)).shape == (size, 5)


def test_places_are_those_of_the_weights():
    rows, columns = bipartite_places((2, 3, 1))
    pairs = {}
    for node, (first, start, stop) in enumerate(rows):
        pairs |= {(node, key): first + key - start for key in range(start, stop)}
    assert list(pairs.values()) == list(range(9))
    assert list(pairs)[:3] == [(0, 2), (0, 3), (0, 4)]
    for key, (first, step, start, stop) in enumerate(columns):
        for number, node in enumerate(range(start, stop)):
            assert pairs.pop((node, key)) == first + number * step
    assert not pairs
