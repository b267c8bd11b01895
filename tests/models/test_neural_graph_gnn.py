import pytest
import torch
from golden import Golden
from golden_gnn import GNN_FILES, published_gnn
from symmetry import make_batch, permute_hidden, relative
from torch_geometric.nn import LayerNorm

from lightning_dws import INRArchitecture, WeightBatch
from lightning_dws.models import NeuralGraphGNN, dense_edges, neural_graph_gnn
from lightning_dws.models.graph_features import FourierFeatures
from lightning_dws.models.pna import GraphNorm, PNAConv
from lightning_dws.models.weight_encoding import encode_weights, interpolate, tabulate

ARCHITECTURES = [(2, 6, 6, 1), (1, 1, 1), (2, 5, 1), (3, 8, 6, 4, 2)]


def make_model(widths, dtype=torch.float64, **options):
    torch.manual_seed(0)
    options = {"hidden_dim": 8, "num_layers": 3, "fourier_features": 16} | options
    model = NeuralGraphGNN(INRArchitecture(widths), 5, **options).to(dtype).eval()
    for parameter in model.parameters():  # at the initial scale the input hardly matters
        parameter.data *= 2
    return model


def without_kernels(monkeypatch):
    for module in (dense_edges, neural_graph_gnn):
        monkeypatch.setattr(module, "takes_kernels", lambda x: False)


def gradients(model, batch):
    """Give logits and the gradients of parameters."""
    logits = model(batch)
    loss = torch.nn.functional.cross_entropy(logits, torch.arange(len(batch)) % 5)
    names, parameters = zip(*model.named_parameters(), strict=True)
    return logits, dict(zip(names, torch.autograd.grad(loss, parameters), strict=True))


def test_golden_files_are_there():
    assert len(GNN_FILES) == 4


@pytest.mark.parametrize("name", GNN_FILES)
@pytest.mark.parametrize("message_passing", [False, True])
def test_gives_the_published_models_numbers(name, message_passing):
    golden = Golden(name)
    model = published_gnn(golden, message_passing=message_passing)
    assert sum(p.numel() for p in model.parameters()) == golden.options["parameters"]
    assert relative(model(golden.batch), golden.logits) < 1e-10
    single = model.float()(golden.batch.to(torch.float32))
    assert relative(single.double(), golden.logits) < 1e-4


@pytest.mark.parametrize(("num_probes", "expected"), [(0, 92_010), (64, 100_714)])
def test_has_the_published_number_of_parameters(num_probes, expected):
    model = NeuralGraphGNN(INRArchitecture((2, 32, 32, 1)), 10, num_probes=num_probes)
    assert sum(p.numel() for p in model.parameters()) == expected


@pytest.mark.parametrize("widths", ARCHITECTURES, ids=str)
@pytest.mark.parametrize("reverse_edges", [True, False])
@pytest.mark.parametrize("kernels", [True, False])
def test_both_ways_are_equal(widths, reverse_edges, kernels, monkeypatch):
    if not kernels:
        without_kernels(monkeypatch)
    options = {"reverse_edges": reverse_edges, "num_probes": 3, "readout": "mean"}
    model, batch = make_model(widths, **options), make_batch(widths, 6)
    logits, dense = gradients(model, batch)
    model.message_passing = True
    expected_logits, expected = gradients(model, batch)
    assert relative(logits, expected_logits) < 1e-10
    scale = max(gradient.abs().max() for gradient in expected.values())
    for name, gradient in dense.items():
        assert (gradient - expected[name]).abs().max() < 1e-10 * scale, name


def test_gradient_of_the_inrs(monkeypatch):
    model, batch = make_model((2, 4, 3, 1)), make_batch((2, 4, 3, 1), 3)
    found = []
    for message_passing in (False, True):
        model.message_passing = message_passing
        parameters = batch.parameters.clone().requires_grad_()
        model(batch.replace(parameters=parameters)).sum().backward()
        found.append(parameters.grad)
    assert relative(*found) < 1e-10
    assert found[0].abs().min() > 0


def test_gradients_numerically():
    widths = (2, 3, 2, 1)
    model, batch = make_model(widths, hidden_dim=2, num_layers=2), make_batch(widths, 2)

    def logits(*values):
        state = dict(zip(names, values, strict=True))
        return torch.func.functional_call(model, state, batch)

    names, values = zip(*model.named_parameters(), strict=True)
    assert torch.autograd.gradcheck(logits, values, fast_mode=True)


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
        assert relative(model(changed), model(batch)) > 1e-3


@pytest.mark.parametrize("message_passing", [False, True])
def test_an_inr_does_not_depend_on_its_batch(message_passing):
    model = make_model((2, 6, 6, 1), message_passing=message_passing)
    batch = make_batch((2, 6, 6, 1), 7)
    alone = torch.cat([model(batch[index : index + 1]) for index in range(7)])
    torch.testing.assert_close(alone, model(batch), rtol=1e-12, atol=1e-12)


def test_neither_chunks_nor_threads_matter(monkeypatch):
    monkeypatch.setattr(neural_graph_gnn, "fill_lanes", lambda *table: False)
    model = make_model((2, 6, 6, 1), torch.float32)
    batch = make_batch((2, 6, 6, 1), 20, torch.float32)
    logits, expected = gradients(model, batch)
    one_inr = batch.architecture.num_parameters  # a chunk of one INR, and some of several
    for chunk_bytes in (1, 4 * one_inr * 8 * 4):
        monkeypatch.setattr(neural_graph_gnn, "_CHUNK_BYTES", chunk_bytes)
        found_logits, found = gradients(model, batch)
        torch.testing.assert_close(found_logits, logits, rtol=1e-5, atol=1e-6)
        for name, gradient in found.items():
            torch.testing.assert_close(gradient, expected[name], rtol=1e-3, atol=1e-6)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        alone_logits, alone = gradients(model, batch)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(alone_logits, found_logits)
    assert all(torch.equal(alone[name], found[name]) for name in found)


def test_exact_zeros_are_edges():
    model, batch = make_model((2, 6, 6, 1)), make_batch((2, 6, 6, 1))
    parameters = batch.parameters.clone()
    parameters[:, 5] = 0
    zero = model(batch.replace(parameters=parameters))
    parameters[:, 5] = 1e-9
    assert relative(model(batch.replace(parameters=parameters)), zero) < 1e-6
    assert relative(zero, model(batch)) > 1e-6


def test_large_architectures():
    model, batch = make_model((3, 64, 64, 64, 4)), make_batch((3, 64, 64, 64, 4), 2)
    assert model(batch).shape == (2, 5)


@pytest.mark.parametrize("directions", [1, 2])
def test_interpolated_encoding(directions):
    torch.manual_seed(0)
    features = FourierFeatures(1, 128, 3.0)
    frequencies = torch.randn(directions, 128) * 4
    linear = torch.nn.Linear(256, 8)
    values = torch.randn(64, 100)
    values[0, 0], values[1, 1] = 9.0, -8.0
    arguments = values, frequencies, linear.weight, linear.bias
    table, positions = tabulate(*arguments)
    assert len(table) < values.numel()
    outs = [interpolate(positions, table), encode_weights(*(x.double() for x in arguments))]
    encoded = [out.detach().double() for out in outs]
    grads = [torch.autograd.grad(out.sin().sum(), linear.weight)[0] for out in outs]
    assert encoded[0].shape == (64, 100, directions, 8)
    assert (encoded[0] - encoded[1]).abs().max() < 1e-5
    assert relative(*grads) < 1e-4
    # The definition, from the features themselves.
    features.frequencies.copy_(frequencies[-1][:, None])
    expected = linear(features(values[..., None]))
    torch.testing.assert_close(encoded[0][..., -1, :].float(), expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
def test_one_weight_out_of_all_range_is_no_harm_to_other_inrs(value):
    model = make_model((2, 6, 6, 1), torch.float32)
    batch = make_batch((2, 6, 6, 1), dtype=torch.float32)
    expected = model(batch)
    batch.parameters[1, 2] = value
    found = model(batch)
    assert found[1].isfinite().all() == (value == 1e30)
    torch.testing.assert_close(found[[0, 2, 3]], expected[[0, 2, 3]], rtol=1e-4, atol=1e-5)
    encoded = tabulate(batch.parameters, torch.ones(1, 3), torch.randn(2, 6), torch.zeros(2))
    assert encoded is None


def test_equal_extremes_share_or_pass_on_their_gradient():
    """Of equal messages from equal nodes, whoever has the gradient, parameters get the same."""
    model = make_model((2, 4, 4, 1))
    batch = make_batch((2, 4, 4, 1))
    weights, biases = batch.weights, batch.biases
    for layer in (0, 1):  # all neurons of a layer alike
        weights[layer] = weights[layer][:, :1].expand_as(weights[layer])
        biases[layer] = biases[layer][:, :1].expand_as(biases[layer])
        weights[layer + 1] = weights[layer + 1][:, :, :1].expand_as(weights[layer + 1])
    alike = WeightBatch.from_layers(batch.architecture, weights, biases)
    _, dense = gradients(model, alike)
    model.message_passing = True
    _, expected = gradients(model, alike)
    for name, gradient in dense.items():
        assert (gradient - expected[name]).abs().max() < 1e-10, name


def test_graph_norm_is_torch_geometrics():
    torch.manual_seed(0)
    norm, theirs = GraphNorm(5), LayerNorm(5, mode="graph")
    for own in (norm, theirs):
        torch.nn.init.normal_(own.weight, generator=torch.Generator().manual_seed(1))
        torch.nn.init.normal_(own.bias, generator=torch.Generator().manual_seed(2))
    x = torch.randn(4, 7, 5)
    index = torch.arange(4).repeat_interleave(7)
    torch.testing.assert_close(norm(x).view(-1, 5), theirs(x.view(-1, 5), index))
    constant = torch.ones(1, 7, 5, requires_grad=True)
    norm(constant).sum().backward()
    assert constant.grad.isfinite().all()


def test_pna_conv_takes_any_graph():
    torch.manual_seed(0)
    edge_index = torch.tensor([[0, 1, 2, 2], [1, 2, 1, 0]])  # nothing ends in node 3
    conv = PNAConv(4, torch.bincount(edge_index[1], minlength=4))
    x, edges = torch.randn(4, 4), torch.randn(4, 4)
    out = conv(x, edge_index, edges)
    assert out.shape == (4, 4)
    order = torch.tensor([2, 0, 3, 1])
    place = order.argsort()
    moved = conv(x[order], place[edge_index], edges)
    torch.testing.assert_close(moved, out[order])
    own = conv.post.weight[:, :4] @ x[3] + conv.post.bias
    torch.testing.assert_close(out[3], conv.out(own))
    together = conv(torch.stack([x, x]), edge_index, torch.stack([edges, edges]))
    torch.testing.assert_close(together[1], out)


def test_embed_is_what_the_head_takes():
    for readout, size in (("outputs", 16), ("mean", 8), ("max", 8)):
        model, batch = make_model((3, 4, 2), readout=readout), make_batch((3, 4, 2))
        features = model.embed(batch)
        assert features.shape == (4, size)
        torch.testing.assert_close(model.head(features), model(batch))


def test_dropout_only_in_training():
    model, batch = make_model((2, 6, 6, 1), dropout=0.5), make_batch((2, 6, 6, 1))
    assert torch.equal(model(batch), model(batch))
    model.train()
    assert not torch.equal(model(batch), model(batch))


def test_probes_see_raw_weights():
    model, batch = make_model((2, 6, 6, 1), num_probes=3), make_batch((2, 6, 6, 1))
    before = model.probes(batch)
    model.standardize.fit(batch.parameters)
    seen = []
    model.probes.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].parameters))
    model(batch)
    assert torch.equal(seen[0], batch.parameters)
    assert torch.equal(model.probes(batch), before)


def test_mixed_precision_runs():
    model = make_model((2, 6, 6, 1), torch.float32).train()
    batch = make_batch((2, 6, 6, 1), dtype=torch.float32)
    expected = model(batch)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(batch)
        logits.sum().backward()
    assert relative(logits.float(), expected) < 0.2


def test_mixed_precision_keeps_to_float32_before_the_head():
    """On a CPU lower precision is slower: what the head takes is the same, bit for bit."""
    model = make_model((2, 6, 6, 1), torch.float32)
    batch = make_batch((2, 6, 6, 1), dtype=torch.float32)
    parameters = list(model.convs.parameters())
    expected = model.embed(batch)
    with torch.autocast("cpu", torch.bfloat16):
        found = model.embed(batch)
    assert torch.equal(found, expected)
    grads = [torch.autograd.grad(x.square().sum(), parameters) for x in (found, expected)]
    assert all(torch.equal(own, other) for own, other in zip(*grads, strict=True))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_dim": 0}, "hidden_dim must be at least 1, got 0"),
        ({"num_layers": 0}, "num_layers must be at least 1, got 0"),
        ({"fourier_features": 0}, "fourier_features must be at least 1, got 0"),
        ({"fourier_scale": 0.0}, "fourier_scale must be positive and finite, got 0.0"),
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


def test_hooks_of_parameters_see_the_whole_gradient_once(monkeypatch):
    monkeypatch.setattr(neural_graph_gnn, "_CHUNK_BYTES", 1)
    model, batch = make_model((2, 6, 6, 1)), make_batch((2, 6, 6, 1), 5)
    _, expected = gradients(model, batch)
    seen = {name: [] for name in expected}
    for name, parameter in model.named_parameters():
        parameter.register_hook(seen[name].append)
    logits = model(batch)
    torch.nn.functional.cross_entropy(logits, torch.arange(len(batch)) % 5).backward()
    for name, grads in seen.items():
        [gradient] = grads
        torch.testing.assert_close(gradient, expected[name])


@pytest.mark.parametrize("message_passing", [False, True])
def test_no_inrs_give_no_logits(message_passing):
    model = make_model((2, 6, 6, 1), torch.float32, message_passing=message_passing)
    batch = make_batch((2, 6, 6, 1), 0, torch.float32)
    assert model(batch).shape == (0, 5)
    model(batch).sum().backward()


def test_a_tiny_fourier_scale_is_no_error():
    model = make_model((2, 6, 6, 1), torch.float32, fourier_scale=1e-50)
    assert model(make_batch((2, 6, 6, 1), dtype=torch.float32)).isfinite().all()
