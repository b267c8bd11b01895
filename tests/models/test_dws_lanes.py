"""DWSNet's kernels beside its layers in float64, who takes them, and what does not matter."""

import copy

import numpy as np
import pytest
import torch
from cnns import CNNS, cnn_batch
from symmetry import make_batch, relative

from lightning_dws import INRArchitecture
from lightning_dws.models import DWSNet, dws_lanes, pooling_kernels
from lightning_dws.models.dws_lanes import takes_lanes
from lightning_dws.models.dws_layer import DWSLayer
from lightning_dws.models.dws_tables import fits_tables
from lightning_dws.models.lane_dropout import draw_keep_bits
from lightning_dws.models.lanes import LANES, from_lanes, multiply, multiply_lanes, multiply_sum
from lightning_dws.models.parameter_axes import ParameterTensor
from lightning_dws.models.softmax_kernels import softmax, softmax_backward


def make_model(architecture, **options):
    torch.manual_seed(0)
    options = {"hidden_dim": 5, "num_hidden": 2, "set_layer": "deepsets", "num_heads": 1} | options
    model = DWSNet(architecture, 3, **options)
    model.standardize.keep_identity()
    for parameter in model.parameters():  # at the initial scale the input hardly matters
        torch.nn.init.normal_(parameter.data, std=0.3)
    return model


def make_inrs(widths, size):
    return make_batch(widths, size=size).to(torch.float32)


def results(model, batch):
    """Give logits, gradients of the input and of all parameters, and running statistics."""
    rows = batch.parameters.detach().clone().requires_grad_()
    logits = model(batch.replace(parameters=rows))
    weights = torch.linspace(-1, 1, logits.numel(), dtype=torch.float64).view_as(logits)
    (logits * weights.to(logits.dtype)).sum().backward()
    named = {name: parameter.grad for name, parameter in model.named_parameters()}
    statistics = {name: x for name, x in model.named_buffers() if "running" in name}
    return {"logits": logits.detach(), "input": rows.grad} | named | statistics


def assert_like_float64(model, batch):
    assert model._takes_lanes(batch.parameters)
    exact = copy.deepcopy(model).double()
    expected = results(exact, batch.to(torch.float64))
    found = results(model, batch)
    largest = max(float(x.abs().max()) for name, x in expected.items() if name != "logits")
    for name, x in expected.items():
        torch.testing.assert_close(
            found[name].double(),
            x,
            rtol=1e-4,
            atol=1e-5 * largest,
            msg=lambda m, n=name: f"{n} {m}",
        )


both_set_layers = pytest.mark.parametrize("set_layer", ["deepsets", "attention"])


@both_set_layers
@pytest.mark.parametrize("reduction", ["mean", "sum", "max"])
@pytest.mark.parametrize(
    ("widths", "size", "options"),
    [
        ((2, 6, 7, 1), 2 * LANES - 3, {"num_heads": 5}),
        ((2, 6, 7, 1), LANES, {"batch_norm": False, "num_hidden": 1}),
        ((1, 1, 1), 2 * LANES, {"num_hidden": 1}),
        ((3, 4, 2), 2 * LANES - 1, {"hidden_dim": 3, "num_hidden": 3}),
        ((3, 9, 6, 5, 2), LANES, {"hidden_dim": 1}),
        ((1, 3, 2, 4, 3, 2), LANES, {"hidden_dim": 6, "num_hidden": 1, "num_heads": 2}),
        ((2, 3, 71, 1), LANES, {"num_hidden": 1}),  # a row longer than what is taken at once
    ],
    ids=str,
)
def test_training_is_as_in_float64(widths, size, options, reduction, set_layer):
    model = make_model(INRArchitecture(widths), reduction=reduction, set_layer=set_layer, **options)
    assert_like_float64(model, make_inrs(widths, size))


@both_set_layers
@pytest.mark.parametrize("reduction", ["mean", "sum", "max"])
def test_running_statistics_are_used_as_in_float64(reduction, set_layer):
    # One layer: of more, maxima are all but equal, and which one is found is chance.
    widths = (2, 6, 7, 1)
    model = make_model(
        INRArchitecture(widths), reduction=reduction, set_layer=set_layer, num_hidden=1
    )
    batch = make_inrs(widths, 2 * LANES - 2)
    model(batch)
    model.eval()
    assert_like_float64(model, batch)
    logits = model(batch)
    with torch.no_grad():  # a few INRs at a time
        torch.testing.assert_close(model(batch), logits, rtol=1e-6, atol=1e-6)


@both_set_layers
@pytest.mark.parametrize("name", CNNS)
def test_other_networks_are_as_in_float64(name, set_layer):
    batch = cnn_batch(name, size=LANES).to(torch.float32)
    options = {"reduction": "mean", "num_hidden": 1, "batch_norm": False, "set_layer": set_layer}
    model = make_model(batch.architecture, **options)
    if fits_tables(model.layers[0]):
        assert_like_float64(model, batch)
    else:
        assert not model._takes_lanes(batch.parameters)


class KnownDropout(torch.nn.Module):
    """Dropout of the entries that the kernels dropped, layer by layer and tensor by tensor."""

    def __init__(self, p, masks):
        super().__init__()
        self.p, self.masks = p, iter(masks)

    def forward(self, x):
        mask, share = next(self.masks)
        channels, positions = x.shape[1], x.shape[2:]
        return x * mask.view(-1, *positions, channels).movedim(-1, 1) / share


@both_set_layers
def test_dropout_drops_the_same_in_both_passes(monkeypatch, set_layer):
    widths, size = (2, 4, 5, 1), 2 * LANES - 1
    batch = make_inrs(widths, size)
    options = {"reduction": "max", "set_layer": set_layer}
    model = make_model(INRArchitecture(widths), dropout=0.3, **options)
    masks = []

    def draw(shape, dropout):
        bits, share = draw_keep_bits(shape, dropout)
        words = torch.from_numpy(bits[:, : shape[1]].astype(np.int64))
        keep = from_lanes((words[..., None] >> torch.arange(LANES)) & 1, size)
        positions = [4, 20, 5, 4, 5, 1]  # of weights and biases, whose fixed axes are channels
        sizes = [5 * n * tensor.fold for n, tensor in zip(positions, model.tensors, strict=True)]
        masks.extend((mask, share) for mask in keep.split(sizes, 1))
        return bits, share

    monkeypatch.setattr(dws_lanes, "draw_keep_bits", draw)
    found = results(model, batch)
    exact = make_model(INRArchitecture(widths), **options).double()
    exact.dropout = KnownDropout(0.3, masks)
    expected = results(exact, batch.to(torch.float64))
    assert 0.6 < torch.cat([mask.flatten() for mask, _ in masks]).double().mean() < 0.8
    for name in ("logits", "input", "layers.0.linears.0.weight", "norms.1.0.weight"):
        assert relative(found[name].double(), expected[name]) < 1e-4


def test_next_to_no_dropout_is_none():
    bits, share = draw_keep_bits((2, 3), 1e-6)
    assert bits.shape == (2, 0)
    assert share == 1


@both_set_layers
def test_threads_do_not_matter(set_layer):
    widths = (2, 6, 7, 1)
    model = make_model(INRArchitecture(widths), set_layer=set_layer)
    batch = make_inrs(widths, 3 * LANES)
    threads = torch.get_num_threads()
    try:
        found = []
        for count in (1, 2):
            torch.set_num_threads(count)
            found.append(results(copy.deepcopy(model), batch))
    finally:
        torch.set_num_threads(threads)
    for name, x in found[0].items():
        assert torch.equal(found[1][name], x), name


@both_set_layers
def test_an_inrs_neighbours_do_not_matter(set_layer):
    widths = (2, 6, 7, 1)
    model = make_model(INRArchitecture(widths), set_layer=set_layer).eval()
    batch = make_inrs(widths, 3 * LANES)
    logits = model(batch)
    few = batch.replace(
        **{
            name: getattr(batch, name)[LANES + 2 :]
            for name in ("parameters", "label", "object_id", "view")
        }
    )
    torch.testing.assert_close(model(few), logits[LANES + 2 :], rtol=1e-5, atol=1e-5)


@both_set_layers
def test_what_needs_no_gradient_gets_none(set_layer):
    widths = (2, 6, 7, 1)
    batch = make_inrs(widths, LANES)
    rows = torch.randn(batch.parameters.shape[1], LANES).T  # of no whole memory
    rows.copy_(batch.parameters)
    model = make_model(INRArchitecture(widths), set_layer=set_layer)
    expected = results(copy.deepcopy(model), batch)
    model.layers[1].requires_grad_(False)
    model.norms[0].requires_grad_(False)
    found = results(model, batch.replace(parameters=rows))
    for name, x in found.items():
        if name.startswith(("layers.1", "norms.0")) and "running" not in name:
            assert x is None
        else:
            torch.testing.assert_close(x, expected[name])
    model.requires_grad_(False)
    assert not model(batch).requires_grad


@both_set_layers
def test_what_is_evaluated_first_is_trained_as_any_other(set_layer):
    """As by Lightning's ``validate`` before ``fit``."""
    batch = make_inrs((2, 6, 7, 1), LANES)
    model = make_model(batch.architecture, set_layer=set_layer)
    expected = results(copy.deepcopy(model), batch)
    with torch.inference_mode():
        model.eval()(batch)
    found = results(model.train(), batch)
    assert all(torch.equal(found[name], x) for name, x in expected.items())


def test_the_default_dtype_does_not_matter():
    batch = make_inrs((2, 6, 7, 1), LANES)
    model = make_model(batch.architecture)
    expected = results(copy.deepcopy(model), batch)
    try:
        torch.set_default_dtype(torch.float64)
        found = results(model, batch)
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(torch.equal(found[name], x) for name, x in expected.items())


def test_lanes_are_taken_where_most_are_filled():
    x = torch.zeros(4 * LANES, 3)
    taken = [size for size in range(2 * LANES + 1) if takes_lanes(x[:size])]
    assert taken == [*range(3 * LANES // 4, LANES + 1), *range(3 * LANES // 2, 2 * LANES + 1)]
    assert not takes_lanes(x.double())
    assert not takes_lanes(x.bfloat16())
    with torch.autocast("cpu", torch.bfloat16):
        assert not takes_lanes(x)


@pytest.mark.parametrize("size", [3, LANES])
def test_a_lower_precision_changes_nothing_before_the_head(size):
    """On CPUs it would be slower, in lanes and without."""
    widths = (2, 4, 5, 1)
    batch = make_inrs(widths, size)
    model = make_model(batch.architecture)
    expected = model.embed(batch)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(model.embed(batch), expected)
        assert model(batch).dtype == torch.bfloat16


def test_who_takes_lanes():
    widths, rows = (2, 4, 5, 1), torch.zeros(LANES, 2 * 4 + 4 + 20 + 5 + 5 + 1)
    model = make_model(INRArchitecture(widths))
    assert model._takes_lanes(rows)
    model.norms[0][0].eval()
    assert not model._takes_lanes(rows)
    model.train().norms[1][0].synchronised = True
    assert not model._takes_lanes(rows)
    assert model.eval()._takes_lanes(rows)
    assert not model.double()._takes_lanes(rows)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("layers.1", "forward"),
        ("layers.0", "forward_pre"),
        ("norms.0.1", "full_backward"),
        ("norms.1.1", "full_backward_pre"),
        ("dropout", "forward"),
    ],
)
def test_nothing_with_hooks_is_in_lanes(name, kind):
    batch = make_inrs((2, 4, 5, 1), LANES)
    model = make_model(batch.architecture, dropout=0.5)
    called = []
    register = getattr(model.get_submodule(name), f"register_{kind}_hook")
    handle = register(lambda *_: called.append(True))
    model(batch).sum().backward()
    assert called
    handle.remove()
    assert model._takes_lanes(batch.parameters)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_what_a_hook_has_seen_stays(batch_norm):
    batch = make_inrs((2, 4, 5, 1), LANES)
    model = make_model(batch.architecture, batch_norm=batch_norm)
    seen = []

    def look(module, inputs, out):
        seen.extend((x, x.clone()) for x in (out if isinstance(out, list) else [out]))

    for module in [*model.layers, *(norm for norms in model.norms for norm in norms)]:
        module.register_forward_hook(look)
    logits = model(batch)
    assert seen
    assert all(torch.equal(x, then) for x, then in seen)
    plain = make_model(batch.architecture, batch_norm=batch_norm)(batch)
    torch.testing.assert_close(logits, plain, rtol=1e-4, atol=1e-4)


def fit_tables(axes, set_layer="deepsets"):
    tensors = [ParameterTensor(str(number), own, 1) for number, own in enumerate(axes)]
    return fits_tables(DWSLayer(tensors, 1, 1, set_layer, "max", 1))


@pytest.mark.parametrize("axes", [[(1, 1)], [(1, 2), (2, 1)], [(1, 2), (1, 2)]])
def test_axes_that_meet_twice_fit_no_tables(axes):
    assert not fit_tables(axes)
    assert fit_tables(axes[:1]) == (axes[0] != (1, 1))


def test_attention_fits_tables_where_not_all_have_the_same_axis():
    axes = [(1,), (1,), (1,)]  # two weights and a bias of the only hidden layer
    assert fit_tables(axes)
    assert not fit_tables(axes, "attention")
    assert fit_tables([*axes, ()], "attention")


def test_softmax_is_as_in_float64_and_keeps_what_is_no_number():
    count, step = 7, 3
    scores = 30 * torch.randn(count, step, LANES, generator=torch.Generator().manual_seed(0))
    scores[2, 1, 1] = torch.nan
    shares, grads = scores.clone(), torch.linspace(-1, 1, scores.numel()).view_as(scores)
    found = grads.clone()
    softmax(shares.view(-1).numpy(), 1, count, step)
    softmax_backward(shares.view(-1).numpy(), found.view(-1).numpy(), 1, count, step)
    own = scores[:, 1].double().requires_grad_()
    expected = own.softmax(0)
    (expected * grads[:, 1]).sum().backward()
    torch.testing.assert_close(
        shares[:, 1].double(), expected, rtol=1e-5, atol=1e-7, equal_nan=True
    )
    torch.testing.assert_close(found[:, 1].double(), own.grad, rtol=1e-4, atol=1e-6, equal_nan=True)
    assert shares[:, 1, 1].isnan().all()
    assert torch.equal(shares[:, [0, 2]], scores[:, [0, 2]])


def test_compiled_code_that_differs_has_names_that_differ():
    functions = [multiply, multiply_lanes, multiply_sum]
    functions += [pooling_kernels._max_rows, pooling_kernels.sum_rows]
    assert len({function.py_func.__qualname__ for function in functions}) == len(functions)
