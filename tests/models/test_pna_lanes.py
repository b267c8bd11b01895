"""The GNN's kernels that have an INR in each lane, beside the same network in double precision."""

import copy

import pytest
import torch
from symmetry import make_batch, relative

from lightning_dws import INRArchitecture, WeightBatch
from lightning_dws.models import NeuralGraphGNN, pna_lanes
from lightning_dws.models.in_chunks import in_chunks
from lightning_dws.models.lanes import LANES
from lightning_dws.models.message_kernels import EDGES
from lightning_dws.models.neural_graph import NeuralGraph

SIZE = LANES + 3


@pytest.fixture
def calls(monkeypatch):
    """Note which rounds the kernels compute, forward and backward."""
    made = []

    def note(name):
        kernel = getattr(pna_lanes, name)

        def call(*arguments):
            made.append(name)
            kernel(*arguments)

        monkeypatch.setattr(pna_lanes, name, call)

    for name in ("first_round", "later_round", "first_round_backward", "later_round_backward"):
        note(name)
    return made


def make_inrs(widths, size=SIZE):
    """Make INRs whose activations single precision gives as well."""
    rows = make_batch(widths, size, torch.float32).parameters
    return WeightBatch.from_parameters(INRArchitecture(widths, w0=1.0), rows)


def make_model(widths, **options):
    torch.manual_seed(0)
    sizes = {"hidden_dim": 7, "num_layers": 3, "fourier_features": 16, "fourier_scale": 0.02}
    model = NeuralGraphGNN(INRArchitecture(widths, w0=1.0), 5, **(sizes | options))
    for parameter in model.parameters():  # at the initial scale the input hardly matters
        parameter.data *= 2
    return model


def logits_and_gradients(model, batch):
    torch.manual_seed(1)  # of dropout
    logits = model(batch)
    weights = torch.linspace(-1, 1, logits.numel(), dtype=logits.dtype).view_as(logits)
    return [logits, *torch.autograd.grad((logits * weights).sum(), list(model.parameters()))]


def assert_close(found, expected):
    """Compare with what double precision gives; a gradient may be as good as 0."""
    scale = max(tensor.abs().max() for tensor in expected[1:])
    for own, exact in zip(found, expected, strict=True):
        error = (own.double() - exact).norm()
        assert error < 1e-3 * exact.norm() + 1e-5 * scale, (error, exact.norm())


@pytest.mark.parametrize(
    ("widths", "options"),
    [
        ((2, 6, 6, 1), {"hidden_dim": 8}),
        ((2, 6, 5, 1), {"num_probes": 3, "reverse_edges": False}),
        ((1, 2, 1), {"num_layers": 4}),
        ((3, 7, 5, 4, 2), {"hidden_dim": 5, "readout": "mean", "num_layers": 2}),
        ((2, EDGES + 6, 2), {"num_layers": 2}),
        ((2, 5, 1), {"num_layers": 1, "hidden_dim": 1}),
        ((2, 5, 1), {"num_layers": 1, "readout": "max", "reverse_edges": False}),
        ((2, 6, 6, 1), {"dropout": 0.4}),
    ],
    ids=str,
)
def test_lanes_are_the_network(widths, options, calls):
    model, batch = make_model(widths, **options), make_inrs(widths)
    exact, exact_batch = copy.deepcopy(model).double(), batch.to(torch.float64)
    exact.message_passing = True
    model._draw_dropout = exact._draw_dropout = lambda x: kept.to(x)
    num_nodes, gaps = sum(widths), len(model.norms)
    kept = torch.ones(SIZE, gaps, num_nodes, model.node_in.out_features)
    kept = torch.nn.functional.dropout(kept, options.get("dropout", 0.0))
    expected = logits_and_gradients(exact, exact_batch)
    assert not calls
    found = logits_and_gradients(model, batch)
    assert_close(found, expected)
    assert calls.count("first_round") == calls.count("first_round_backward") == 2  # groups
    assert calls.count("later_round") == calls.count("later_round_backward") == 2 * gaps
    calls.clear()
    with torch.no_grad():
        assert relative(model(batch).double(), expected[0]) < 1e-3
        features = model.parameter_features(batch)
        assert relative(features.double(), exact.parameter_features(exact_batch)) < 1e-3
    assert len(calls) == 4 * (gaps + 1)


def test_equal_extremes_pass_on_their_gradient():
    """Of equal messages from equal nodes, whoever has the gradient, parameters get the same."""
    widths = (2, 4, 4, 1)
    model, batch = make_model(widths), make_inrs(widths)
    weights, biases = batch.weights, batch.biases
    for layer in (0, 1):  # all neurons of a layer alike
        weights[layer] = weights[layer][:, :1].expand_as(weights[layer])
        biases[layer] = biases[layer][:, :1].expand_as(biases[layer])
        weights[layer + 1] = weights[layer + 1][:, :, :1].expand_as(weights[layer + 1])
    alike = WeightBatch.from_layers(batch.architecture, weights, biases)
    exact = copy.deepcopy(model).double()
    exact.message_passing = True
    expected = logits_and_gradients(exact, alike.to(torch.float64))
    assert_close(logits_and_gradients(model, alike), expected)


def test_neither_threads_nor_what_is_kept_matter(monkeypatch):
    widths = (2, 6, 6, 1)
    model, batch = make_model(widths, dropout=0.2), make_inrs(widths, 3 * LANES)
    parameters = [*model.convs.parameters(), *model.encode_weight.parameters()]
    threads, results = torch.get_num_threads(), []
    try:
        for number, kept_bytes in ((1, 2**29), (3, 2**29), (3, 0)):
            torch.set_num_threads(number)
            monkeypatch.setattr(pna_lanes, "_KEPT_BYTES", kept_bytes)
            torch.manual_seed(1)  # of dropout
            features = model.embed(batch)
            results.append([features, *torch.autograd.grad(features.sin().sum(), parameters)])
    finally:
        torch.set_num_threads(threads)
    for result in results[1:]:
        assert all(torch.equal(*pair) for pair in zip(result, results[0], strict=True))


def test_an_inr_does_not_see_the_others_of_its_vector():
    widths = (2, 6, 6, 1)
    model, batch = make_model(widths), make_inrs(widths)
    logits = model(batch)
    torch.testing.assert_close(model(batch[2:]), logits[2:], rtol=1e-4, atol=1e-4)
    biases = batch.biases  # a bias is not tabulated
    biases[0][1:] = float("nan")
    broken = WeightBatch.from_layers(batch.architecture, batch.weights, biases)
    found = model(broken)
    torch.testing.assert_close(found[0], logits[0], rtol=1e-4, atol=1e-4)
    assert found[1:].isnan().all()


def test_few_inrs_and_what_has_no_table_take_the_other_way(calls):
    widths = (2, 6, 6, 1)
    model = make_model(widths, hidden_dim=8)
    batch = make_inrs(widths, LANES)
    model(batch[: LANES // 2 - 1])
    model.double()(batch.to(torch.float64))
    model.float()(batch.replace(parameters=batch.parameters.clone().requires_grad_()))
    batch.parameters[0, 0] = 1e30
    model(batch)
    assert not calls


def test_edges_are_sorted_by_the_nodes_that_they_end_in():
    graph = NeuralGraph(INRArchitecture((2, 3, 1)), reverse_edges=True)
    incoming = pna_lanes.sort_edges(graph)
    source, target = graph.edge_index.tolist()
    found = set()
    for node, (first, end) in enumerate(zip(incoming.bounds, incoming.bounds[1:], strict=False)):
        assert end - first == graph.in_degree[node]
        for edge in range(first, end):
            number = incoming.direction[edge] * graph.num_weights + incoming.weight[edge]
            assert (source[number], target[number]) == (incoming.source[edge], node)
            found.add(number)
    assert len(found) == graph.num_edges


@pytest.mark.parametrize("keeps", [False, True])
def test_chunks_have_another_backward_pass(keeps):
    torch.manual_seed(0)
    x, weight = torch.randn(5, 3, requires_grad=True), torch.randn(3, requires_grad=True)
    function_calls = []

    def function(x, weight):
        function_calls.append(len(x))
        return (x * weight).sin()

    out = in_chunks(function, [x], [weight], 2, keeps)
    expected = torch.autograd.grad((x * weight).sin().sum(), [x, weight])
    for _ in range(2):
        found = torch.autograd.grad(out.sum(), [x, weight], retain_graph=True)
        torch.testing.assert_close(found, expected)
    assert function_calls == [2, 2, 1] * (2 if keeps else 3)
