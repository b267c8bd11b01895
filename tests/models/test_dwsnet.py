import copy
import itertools

import pytest
import torch
from golden import DWSNET_FILES, Golden
from symmetry import make_batch, permute_hidden, relative
from torch.optim.swa_utils import update_bn

from lightning_dws import INRArchitecture, WeightBatch
from lightning_dws.models import DWSNet
from lightning_dws.models.batch_norm import PositionBatchNorm
from lightning_dws.models.dws_layer import linear_maps
from lightning_dws.models.lanes import LANES
from lightning_dws.models.parameter_axes import parameter_tensors
from lightning_dws.models.pooling import map_entries, pool, pool_matrix
from lightning_dws.models.set_attention import attend

ARCHITECTURES = [(2, 6, 6, 1), (1, 1, 1), (2, 5, 1), (3, 4, 2), (3, 8, 6, 4, 2)]
SET_LAYERS = ["attention", "deepsets"]
REDUCTIONS = ["max", "mean", "sum"]


def make_model(widths, dtype=torch.float64, **options):
    torch.manual_seed(0)
    options = {"hidden_dim": 8, "num_hidden": 2, "num_heads": 4} | options
    model = DWSNet(INRArchitecture(widths), 5, **options).to(dtype).eval()
    for parameter in model.parameters():  # at the initial scale the input hardly matters
        torch.nn.init.normal_(parameter.data)
    return model


@pytest.mark.parametrize("name", DWSNET_FILES)
def test_gives_the_published_models_numbers(name):
    golden = Golden(name)
    model = golden.dwsnet()
    assert sum(p.numel() for p in model.parameters()) == golden.options["parameters"]
    assert relative(model(golden.batch), golden.logits) < 1e-10
    expected = golden.equivariant_features()
    for tensor, found, wanted in zip(
        model.tensors, model.equivariant_features(golden.batch), expected, strict=bool(expected)
    ):
        found = found.unflatten(1, (tensor.fold, -1))  # (B, fold, C, *axes)
        fold_last = tensor.name == "weight0"  # (B, out, in, C), of which the inputs are folded
        found = found.permute(0, 3, 1, 2) if fold_last else found.movedim(2, -1)
        assert relative(found.reshape(wanted.shape), wanted) < 1e-10
    single = model.float()(golden.batch.to(torch.float32))
    assert relative(single.double(), golden.logits) < 1e-4


def test_golden_files_are_there():
    assert len(DWSNET_FILES) == 4


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"batch_norm": False}, 551_114),
        ({}, 552_650),
        ({"hidden_dim": 16, "num_hidden": 2, "batch_norm": False}, 76_970),
        ({"set_layer": "deepsets", "batch_norm": False}, 319_050),
    ],
)
def test_has_the_published_number_of_parameters(options, expected):
    model = DWSNet(INRArchitecture((2, 32, 32, 1)), 10, **options)
    assert sum(p.numel() for p in model.parameters()) == expected


@pytest.mark.parametrize("widths", ARCHITECTURES, ids=str)
@pytest.mark.parametrize("set_layer", SET_LAYERS)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_hidden_permutations_do_not_matter(widths, set_layer, reduction):
    model, batch = make_model(widths, set_layer=set_layer, reduction=reduction), make_batch(widths)
    logits = model(batch)
    assert logits.shape == (4, 5)
    assert relative(logits[1:], logits[:-1]) > 1e-3  # the input does matter
    assert relative(model(permute_hidden(batch)), logits) < 1e-9


@pytest.mark.parametrize("widths", [(2, 6, 6, 1), (2, 5, 1), (3, 8, 6, 4, 2)], ids=str)
@pytest.mark.parametrize("set_layer", SET_LAYERS)
def test_broken_couplings_matter(widths, set_layer):
    model, batch = make_model(widths, set_layer=set_layer), make_batch(widths)
    logits = model(batch)
    for layer in range(len(widths) - 2):
        assert relative(model(permute_hidden(batch, skip=layer)), logits) > 1e-3


@pytest.mark.parametrize("axis", [0, 1])
def test_inputs_and_outputs_are_not_interchangeable(axis):
    model, batch = make_model((3, 4, 2)), make_batch((3, 4, 2))
    weights, biases = batch.weights, batch.biases
    if axis == 0:
        weights[0] = weights[0].flip(2)
    else:
        weights[1], biases[1] = weights[1].flip(1), biases[1].flip(1)
    changed = WeightBatch.from_layers(batch.architecture, weights, biases)
    assert relative(model(changed), model(batch)) > 1e-3


def test_the_rule_lists_every_pair_of_tensors():
    tensors = parameter_tensors(INRArchitecture((2, 5, 6, 7, 1)))
    maps = linear_maps(tensors, "deepsets")
    assert {(m.target, m.source) for m in maps} == set(itertools.product(range(8), repeat=2))
    assert [t.axes for t in tensors] == [(1,), (2, 1), (3, 2), (3,), (1,), (2,), (3,), ()]
    assert [t.fold for t in tensors] == [2, 1, 1, 1, 1, 1, 1, 1]


@pytest.mark.parametrize("set_layer", SET_LAYERS)
def test_an_inr_does_not_depend_on_its_batch(set_layer):
    model, batch = make_model((2, 6, 6, 1), set_layer=set_layer), make_batch((2, 6, 6, 1), 7)
    alone = torch.cat([model(batch[index : index + 1]) for index in range(7)])
    torch.testing.assert_close(alone, model(batch), rtol=1e-12, atol=1e-12)


def test_embed_is_what_the_head_takes():
    model, batch = make_model((3, 8, 6, 4, 2)), make_batch((3, 8, 6, 4, 2))
    features = model.embed(batch)
    assert features.shape == (4, model.head.in_features)
    torch.testing.assert_close(model.head(features), model(batch))


@pytest.mark.parametrize("set_layer", SET_LAYERS)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("widths", [(2, 3, 2, 1), (1, 2, 2)], ids=str)
def test_gradients(widths, set_layer, reduction):
    options = {"set_layer": set_layer, "reduction": reduction, "hidden_dim": 2, "num_heads": 2}
    model = make_model(widths, num_hidden=1, **options).train()
    batch = make_batch(widths, size=3)
    names = [name for name, _ in model.named_parameters()]

    def logits(rows, *values):
        parameters = dict(zip(names, values, strict=True))
        return torch.func.functional_call(model, parameters, (batch.replace(parameters=rows),))

    rows = batch.parameters.requires_grad_()
    values = [parameter.detach().requires_grad_() for parameter in model.parameters()]
    assert torch.autograd.gradcheck(logits, (rows, *values), fast_mode=True)


def test_gradients_of_hand_written_functions():
    def random(*shape):
        return torch.randn(*shape, dtype=torch.float64, requires_grad=True)

    torch.manual_seed(0)
    check = torch.autograd.gradcheck
    assert check(map_entries, (random(2, 3, 2, 4), random(5, 3), random(2, 5, 2), random(2, 5, 4)))
    for reduction in REDUCTIONS:
        assert check(lambda x, r=reduction: pool(x, r), (random(2, 3, 4),))
        assert check(lambda x, r=reduction: pool_matrix(x, r), (random(2, 3, 2, 4),))
    targets = ((0, 1), (1,))

    def attended(*args):
        return attend(list(args[:2]), list(args[2:4]), *args[4:], targets, 2)

    weights = random(3, 8, 3), random(3, 4, 4)
    assert check(
        attended, (random(2, 2, 3), random(2, 3, 3), *weights, random(3, 4, 4), random(3, 4))
    )


def test_equal_maxima_share_the_gradient():
    x = torch.tensor([[[[1.0, 1.0], [0.0, 1.0]]]], requires_grad=True)
    _, rows, columns = pool_matrix(x, "max")
    (rows.sum() + columns.sum()).backward()
    assert x.grad.flatten().tolist() == [1.5, 1.0, 0.0, 1.5]


@pytest.mark.parametrize("shape", [(5, 8), (5, 8, 6), (5, 4, 3, 2)])
@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_is_torchs(shape, training):
    torch.manual_seed(0)
    ours, reference = PositionBatchNorm(4).double(), torch.nn.BatchNorm1d(4).double()
    for norm in (ours, reference):
        norm.weight.data, norm.bias.data = torch.rand(2, 4, dtype=torch.float64).unbind()
        norm.train(training)
    reference.load_state_dict(ours.state_dict())
    for _ in range(2):
        x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
        grad = torch.randn_like(x)
        out = ours(x)
        (grad_x,) = torch.autograd.grad(out, x, grad, retain_graph=True)
        by_channel = x.view(len(x), -1, 4, x[0, 0].numel()).transpose(1, 2)
        expected = reference(by_channel.flatten(2)).view_as(by_channel).transpose(1, 2)
        expected = expected.reshape(shape)
        torch.testing.assert_close(out, expected)
        torch.testing.assert_close(grad_x, torch.autograd.grad(expected, x, grad)[0])
    assert ours.state_dict().keys() == reference.state_dict().keys()
    torch.testing.assert_close(ours.running_mean, reference.running_mean)
    torch.testing.assert_close(ours.running_var, reference.running_var)


@pytest.mark.parametrize("change", [{"momentum": None}, {"track_running_stats": False}], ids=str)
def test_batch_norm_tracks_what_torchs_does(change):
    """As whatever averages or freezes a network sets it."""
    ours, reference = PositionBatchNorm(4).double(), torch.nn.BatchNorm1d(4).double()
    assert isinstance(ours, torch.nn.modules.batchnorm._BatchNorm)
    vars(ours).update(change)
    vars(reference).update(change)
    for size in (5, 3, 9):
        x = torch.randn(size, 4, 6, dtype=torch.float64)
        torch.testing.assert_close(ours(x), reference(x))
    for name, value in reference.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value)
    assert ours.num_batches_tracked == (3 if "momentum" in change else 0)
    torch.testing.assert_close(ours.eval()(x), reference.eval()(x))


@pytest.mark.parametrize("size", [3, LANES])
def test_statistics_are_taken_anew(size):
    model = make_model((2, 6, 6, 1), torch.float32)
    model.standardize.keep_identity()
    batches = [make_batch((2, 6, 6, 1), size, torch.float32, seed) for seed in (1, 2)]
    exact = copy.deepcopy(model).double()
    for norm in model.norms.modules():
        if isinstance(norm, PositionBatchNorm):
            norm.running_mean += 100
    update_bn(batches, model)
    update_bn([batch.to(torch.float64) for batch in batches], exact)
    for name, value in exact.named_buffers():
        torch.testing.assert_close(model.get_buffer(name).to(value), value, rtol=1e-4, atol=1e-4)
    assert model.norms[0][0].num_batches_tracked == 2
    assert model.norms[0][0].momentum == 0.1


@pytest.mark.parametrize("set_layer", SET_LAYERS)
def test_trains_in_float32_and_bfloat16_with_one_inr(set_layer):
    model = make_model((2, 6, 6, 1), torch.float32, set_layer=set_layer, dropout=0.1).train()
    batch = make_batch((2, 6, 6, 1), size=1, dtype=torch.float32)
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            logits = model(batch)
        torch.nn.functional.cross_entropy(logits.float(), batch.label).backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("set_layer", SET_LAYERS)
def test_bfloat16_is_close_to_float32(set_layer):
    model = make_model((2, 6, 6, 1), torch.float32, set_layer=set_layer, batch_norm=False)
    batch = make_batch((2, 6, 6, 1), dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(batch)
    assert logits.dtype == torch.bfloat16
    assert relative(logits.float(), model(batch)) < 0.1


def test_batch_is_not_changed():
    model, batch = make_model((2, 6, 6, 1)), make_batch((2, 6, 6, 1))
    before = batch.parameters.clone()
    model.train()(batch).sum().backward()
    assert torch.equal(batch.parameters, before)


def test_checkpoint_is_plain_and_complete(tmp_path):
    model, batch = make_model((2, 6, 6, 1)), make_batch((2, 6, 6, 1))
    model.standardize.fit(make_batch((2, 6, 6, 1), 20, seed=9).parameters)
    torch.save(model.state_dict(), tmp_path / "model.pt")
    other = make_model((2, 6, 6, 1))
    other.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
    assert torch.equal(other(batch), model(batch))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_hidden": 0}, "num_hidden must be at least 1, got 0"),
        ({"hidden_dim": 0}, "hidden_dim must be at least 1, got 0"),
        ({"num_heads": 0}, "num_heads must be at least 1, got 0"),
        ({"set_layer": "sab"}, "set_layer must be one of .*, got 'sab'"),
        ({"reduction": "min"}, "reduction must be one of .*, got 'min'"),
        ({"hidden_dim": 12}, "num_heads must divide hidden_dim, got 8 heads for 12 channels"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        DWSNet(INRArchitecture((2, 4, 4, 1)), 10, **options)


def test_a_batch_of_another_architecture_is_refused():
    with pytest.raises(ValueError, match=r"widths \(2, 6, 6, 1\), got \(2, 5, 1\)"):
        make_model((2, 6, 6, 1))(make_batch((2, 5, 1)))
