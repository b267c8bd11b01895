import pytest
import torch
from golden import Golden
from golden_transformer import TRANSFORMER_FILES, golden_transformer
from symmetry import make_batch, permute_hidden, relative

from lightning_dws import INRArchitecture, WeightBatch
from lightning_dws.models import NeuralGraphTransformer, pairs
from lightning_dws.models.relational_attention import AttentionTerms, attend, attend_at_once
from lightning_dws.models.relational_edges import (
    EdgeUpdateTerms,
    keep_mask,
    update_edges,
    update_edges_at_once,
)

ARCHITECTURES = [(2, 6, 6, 1), (1, 1, 1), (2, 5, 1), (3, 8, 6, 4, 2)]
SIZES = {
    "node_dim": 8,
    "edge_dim": 4,
    "num_layers": 3,
    "num_heads": 2,
    "attention_dim": 6,
    "node_hidden_dim": 10,
    "edge_hidden_dim": 7,
    "head_dim": 9,
    "fourier_features": 16,
}


def make_model(widths, dtype=torch.float64, **options):
    torch.manual_seed(0)
    model = NeuralGraphTransformer(INRArchitecture(widths), 5, **(SIZES | options))
    for parameter in model.parameters():  # at the initial scale the input hardly matters
        parameter.data *= 2
    return model.to(dtype).eval()


def gradients(model, batch):
    """Give logits and the gradients of parameters and of the INRs."""
    rows = batch.parameters.clone().requires_grad_()
    logits = model(batch.replace(parameters=rows))
    loss = torch.nn.functional.cross_entropy(logits, torch.arange(len(batch)) % 5)
    return logits, torch.autograd.grad(loss, [*model.parameters(), rows])


def random_attention_terms(batch=3, queries=4, keys=5, heads=2, channels=3, dim=6):
    torch.manual_seed(0)
    shapes = [
        (batch, dim, queries, keys),
        (batch, heads, queries, keys),
        (batch, queries, heads, dim),
        (batch, keys, heads, dim),
        (heads, dim, dim),
        (batch, heads, channels, keys),
        (heads, channels, dim),
    ]
    edges, *terms = (torch.randn(shape, dtype=torch.float64).requires_grad_() for shape in shapes)
    return edges, AttentionTerms(*terms)


def random_update_terms(batch=3, queries=4, keys=5, dim=6, hidden=7):
    torch.manual_seed(0)
    shapes = [
        *[(batch, dim, queries, keys)] * 2,
        (batch, hidden, queries),
        (batch, hidden, keys),
        *[(hidden, dim)] * 2,
        (dim, hidden),
        (dim,),
        (2, dim),
        (hidden, dim),
        (dim, hidden),
        (dim,),
        (2, dim),
    ]
    edges, opposite, *terms = (
        torch.randn(shape, dtype=torch.float64).requires_grad_() for shape in shapes
    )
    return edges, opposite, EdgeUpdateTerms(*terms)


def assert_same_gradients(found, expected, inputs):
    weights = [torch.randn_like(out) for out in expected]
    grads = [
        torch.autograd.grad(outs, inputs, weights, retain_graph=True) for outs in (found, expected)
    ]
    for own, other in zip(found, expected, strict=True):
        assert relative(own, other) < 1e-12
    for own, other in zip(*grads, strict=True):
        assert relative(own, other) < 1e-10


def test_golden_files_are_there():
    assert len(TRANSFORMER_FILES) == 2


@pytest.mark.parametrize("name", TRANSFORMER_FILES)
def test_gives_the_published_models_numbers(name):
    golden = Golden(name)
    model = golden_transformer(golden)
    assert sum(p.numel() for p in model.parameters()) == golden.options["parameters"]
    assert relative(model(golden.batch), golden.logits) < 1e-10
    single = model.float()(golden.batch.to(torch.float32))
    assert relative(single.double(), golden.logits) < 1e-4


@pytest.mark.parametrize(("num_probes", "expected"), [(0, 376_586), (64, 393_866)])
def test_has_the_published_number_of_parameters(num_probes, expected):
    model = NeuralGraphTransformer(INRArchitecture((2, 32, 32, 1)), 10, num_probes=num_probes)
    assert sum(p.numel() for p in model.parameters()) == expected


@pytest.mark.parametrize("bytes_at_once", [1, 2**20])
def test_attention_is_its_definition(bytes_at_once, monkeypatch):
    monkeypatch.setitem(pairs._BYTES_AT_ONCE, "cpu", bytes_at_once)
    edges, terms = random_attention_terms()
    found, expected = attend(edges, terms), attend_at_once(edges, *terms)
    assert_same_gradients(found, expected, [edges, *terms])


@pytest.mark.parametrize("bytes_at_once", [1, 2**20])
@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_edge_update_is_its_definition(bytes_at_once, dropout, monkeypatch):
    monkeypatch.setitem(pairs._BYTES_AT_ONCE, "cpu", bytes_at_once)
    edges, opposite, terms = random_update_terms()
    torch.manual_seed(3)
    found = update_edges(edges, opposite, terms, dropout)
    torch.manual_seed(3)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    expected = update_edges(edges, opposite, terms, dropout)
    assert_same_gradients([found], [expected], [edges, opposite, *terms])
    if dropout == 0:
        assert torch.equal(expected, update_edges_at_once(None, edges, opposite, *terms))


def test_gradients_numerically():
    edges, terms = random_attention_terms(2, 2, 3, 2, 2, 2)
    assert torch.autograd.gradcheck(lambda e, *t: attend(e, AttentionTerms(*t)), (edges, *terms))
    edges, opposite, terms = random_update_terms(2, 2, 3, 3, 2)

    def update(e, o, *t):
        return update_edges(e, o, EdgeUpdateTerms(*t))

    assert torch.autograd.gradcheck(update, (edges, opposite, *terms), atol=1e-4)


def test_dropout_keeps_its_share():
    torch.manual_seed(0)
    keep, share = keep_mask((3, 100, 333), 0.3, torch.device("cpu"))
    assert keep.shape == (3, 100, 333)
    assert abs(share - 0.7) < 1e-4
    assert abs(keep.double().mean() - 0.7) < 0.006
    per_position = keep.double().mean((0, 1))
    assert abs(per_position.view(-1)[:332].view(-1, 4).mean(0) - 0.7).max() < 0.02


@pytest.mark.parametrize("widths", ARCHITECTURES, ids=str)
@pytest.mark.parametrize("options", [{}, {"num_probes": 3, "readout": "max"}], ids=str)
def test_hidden_permutations_do_not_matter(widths, options):
    model, batch = make_model(widths, **options), make_batch(widths)
    logits = model(batch)
    assert logits.shape == (4, 5)
    assert relative(logits[1:], logits[:-1]) > 1e-3  # the input does matter
    assert relative(model(permute_hidden(batch)), logits) < 1e-9


@pytest.mark.parametrize("widths", [(2, 6, 6, 1), (2, 5, 1), (3, 8, 6, 4, 2)], ids=str)
def test_broken_couplings_matter(widths):
    model, batch = make_model(widths), make_batch(widths)
    logits = model(batch)
    for layer in range(len(widths) - 2):
        assert relative(model(permute_hidden(batch, skip=layer)), logits) > 1e-3


@pytest.mark.parametrize("readout", ["outputs", "mean", "max"])
def test_inputs_and_outputs_are_not_interchangeable(readout):
    model, batch = make_model((3, 4, 2), readout=readout), make_batch((3, 4, 2))
    inputs, outputs, biases = batch.weights, batch.weights, batch.biases
    inputs[0] = inputs[0].flip(2)
    outputs[1], flipped = outputs[1].flip(1), [biases[0], biases[1].flip(1)]
    for weights, own_biases in ((inputs, biases), (outputs, flipped)):
        changed = WeightBatch.from_layers(batch.architecture, weights, own_biases)
        assert relative(model(changed), model(batch)) > 1e-4


def test_neither_batch_nor_chunks_matter(monkeypatch):
    model, batch = make_model((2, 6, 6, 1)), make_batch((2, 6, 6, 1), 7)
    logits, expected = gradients(model, batch)
    alone = torch.cat([model(batch[index : index + 1]) for index in range(7)])
    torch.testing.assert_close(alone, logits, rtol=1e-12, atol=1e-12)
    monkeypatch.setitem(pairs._BYTES_AT_ONCE, "cpu", 1)
    found_logits, found = gradients(model, batch)
    torch.testing.assert_close(found_logits, logits, rtol=1e-12, atol=1e-12)
    scale = max(gradient.abs().max() for gradient in expected)
    for own, other in zip(found, expected, strict=True):
        assert (own - other).abs().max() < 1e-10 * scale


def test_only_the_nodes_that_are_read_out_are_computed_last():
    """With all nodes computed and the outputs taken, the logits are the same."""
    model, batch = make_model((2, 6, 6, 1)), make_batch((2, 6, 6, 1))
    logits = model(batch)
    model.readout = "mean"
    seen = []
    model.layers[-1].register_forward_hook(lambda _, __, out: seen.append(out[0]))
    model(batch)
    torch.testing.assert_close(model.head(seen[0][:, -1]), logits)


def test_exact_zeros_are_weights():
    model, batch = make_model((2, 6, 6, 1)), make_batch((2, 6, 6, 1))
    parameters = batch.parameters.clone()
    parameters[:, 5] = 0
    zero = model(batch.replace(parameters=parameters))
    parameters[:, 5] = 1e-9
    assert relative(model(batch.replace(parameters=parameters)), zero) < 1e-6
    assert relative(zero, model(batch)) > 1e-6


def test_large_architectures():
    model, batch = make_model((3, 64, 64, 64, 4)), make_batch((3, 64, 64, 64, 4), 1)
    assert model(batch).shape == (1, 5)


def test_embed_is_what_the_head_takes():
    for readout, size in (("outputs", 16), ("mean", 8), ("max", 8)):
        model, batch = make_model((3, 4, 2), readout=readout), make_batch((3, 4, 2))
        features = model.embed(batch)
        assert features.shape == (4, size)
        torch.testing.assert_close(model.head(features), model(batch))


def test_one_layer():
    model, batch = make_model((2, 6, 1), num_layers=1), make_batch((2, 6, 1))
    assert relative(model(permute_hidden(batch)), model(batch)) < 1e-9


def test_dropout_only_in_training():
    model, batch = make_model((2, 6, 6, 1), dropout=0.5), make_batch((2, 6, 6, 1))
    assert torch.equal(model(batch), model(batch))
    model.train()
    torch.manual_seed(0)
    first = gradients(model, batch)
    assert not torch.equal(model(batch), first[0])
    torch.manual_seed(0)
    again = gradients(model, batch)
    assert torch.equal(first[0], again[0])
    assert all(torch.equal(own, other) for own, other in zip(first[1], again[1], strict=True))


def test_mixed_precision_runs():
    model = make_model((2, 6, 6, 1), torch.float32).train()
    batch = make_batch((2, 6, 6, 1), dtype=torch.float32)
    model.eval()
    expected = model(batch)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(batch)
        logits.sum().backward()
    assert relative(logits.float(), expected) < 0.2


def test_a_state_dict_is_enough():
    model, batch = make_model((2, 6, 6, 1)), make_batch((2, 6, 6, 1))
    model.standardize.fit(batch.parameters)
    other = make_model((2, 6, 6, 1))
    torch.nn.init.zeros_(other.positions)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(batch), model(batch))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"node_dim": 0}, "node_dim must be at least 1, got 0"),
        ({"edge_hidden_dim": 0}, "edge_hidden_dim must be at least 1, got 0"),
        ({"num_heads": 4}, "num_heads must divide attention_dim, got 4 heads for 6 channels"),
        ({"fourier_scale": -1.0}, "fourier_scale must be positive and finite, got -1.0"),
        ({"num_probes": -1}, "num_probes must not be negative, got -1"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
        ({"readout": "sum"}, "readout must be one of .*, got 'sum'"),
    ],
)
def test_refuses_options(options, message):
    with pytest.raises(ValueError, match=message):
        make_model((2, 4, 1), **options)


def test_refuses_other_widths():
    with pytest.raises(ValueError, match=r"widths \(2, 4, 1\), got \(2, 5, 1\)"):
        make_model((2, 4, 1))(make_batch((2, 5, 1)))
