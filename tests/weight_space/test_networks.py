"""Networks that are no INRs as rows of weights: their tensors' axes, their records, their rows."""

import json

import pytest
import torch
from cnns import CNNS, RESIDUAL, architecture_of, cnn_batch, logits
from torch import nn

from lightning_dws import INRArchitecture, NetworkArchitecture, TensorSpec, WeightBatch
from lightning_dws.errors import DataError
from lightning_dws.inrs import INRStore
from lightning_dws.mixup import align
from lightning_dws.weight_space import cat, read_architecture

ARCHITECTURES = {
    **{name: architecture_of(name) for name in CNNS},
    "INR": INRArchitecture((2, 6, 5, 1), w0=8.0),
}


def test_axes_are_read_off_a_sequential():
    architecture = architecture_of("pool_and_flatten")
    assert [(spec.name, spec.shape, spec.axes) for spec in architecture.tensors] == [
        ("0.weight", (4, 2, 3, 3), ("h1", None, None, None)),
        ("0.bias", (4,), ("h1",)),
        ("4.weight", (5, 4, 9), ("h2", "h1", None)),
        ("4.bias", (5,), ("h2",)),
        ("7.weight", (3, 5), (None, "h2")),
        ("7.bias", (3,), (None,)),
    ]
    assert architecture.functions == (("h1", ("relu", "max_pool")), ("h2", ("relu",)))
    small = architecture_of("small_kernels")
    assert small.functions_of("h2") == ("tanh", "avg_pool")
    assert [spec.name for spec in small.tensors][:2] == ["0.0.weight", "0.0.bias"]
    assert architecture_of("no_bias").functions_of("h2") == ("identity",)
    assert len(architecture_of("no_bias").tensors) == 3


def test_a_flattened_image_is_inputs():
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 7), nn.GELU(), nn.Linear(7, 3))
    architecture = NetworkArchitecture.from_module(module, (1, 8, 8))
    assert architecture.tensors[0] == TensorSpec("1.weight", (7, 64), ("h1", None))


def test_an_inr_has_tensors_too():
    architecture = ARCHITECTURES["INR"]
    assert [spec.name for spec in architecture.tensors[:3]] == ["weight0", "bias0", "weight1"]
    assert [spec.axes for spec in architecture.tensors[:3]] == [
        ("h1", None),
        ("h1",),
        ("h2", "h1"),
    ]
    assert architecture.groups == {"h1": 6, "h2": 5}
    slices = (*architecture.weight_slices, *architecture.bias_slices)
    assert set(map(str, architecture.tensor_slices)) == set(map(str, slices))
    read = NetworkArchitecture.from_module(
        WeightBatch.from_parameters(architecture, torch.zeros(1, 59)).to_sequential(0), (2,)
    )
    assert [(s.shape, s.axes) for s in read.tensors] == [
        (s.shape, s.axes) for s in architecture.tensors
    ]
    assert read.functions_of("h1") == architecture.functions_of("h1") == ("sine",)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_architectures_survive_plain_data(name):
    architecture = ARCHITECTURES[name]
    again = read_architecture(json.loads(json.dumps(architecture.to_dict())))
    assert again == architecture
    assert hash(again) == hash(architecture)
    assert "kind" not in ARCHITECTURES["INR"].to_dict()


@pytest.mark.parametrize("name", [*CNNS])
def test_rows_compute_what_the_networks_do(name):
    torch.manual_seed(0)
    networks = [CNNS[name]().double() for _ in range(3)]
    batch = WeightBatch.from_sequentials(architecture_of(name), networks)
    rows = [nn.utils.parameters_to_vector(network.parameters()) for network in networks]
    assert torch.equal(batch.parameters, torch.stack(rows))
    states = [network.state_dict() for network in networks]
    again = WeightBatch.from_state_dicts(batch.architecture, states)
    assert torch.equal(again.parameters, batch.parameters)
    images = torch.randn(6, 1 if name == "residual" else 2, 8, 8, dtype=torch.float64)
    module = CNNS[name]()
    found = torch.vmap(lambda own: torch.func.functional_call(module, own, (images,)))(
        batch.named_parameters(module)
    )
    expected = torch.stack([network(images) for network in networks])
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", [*CNNS])
def test_tensors_are_views_and_make_the_rows_again(name):
    batch = cnn_batch(name)
    again = WeightBatch.from_tensors(batch.architecture, batch.tensors)
    assert torch.equal(again.parameters, batch.parameters)
    assert len(batch.weights) + len(batch.biases) == len(batch.tensors)
    batch.tensors[2][1].zero_()
    assert (batch.parameters[1] == 0).sum() == batch.architecture.tensors[2].num_entries
    assert not torch.equal(logits(name, batch)[1], logits(name, again)[1])
    assert torch.equal(logits(name, batch)[2], logits(name, again)[2])


def test_a_store_holds_networks(tmp_path):
    batch = cnn_batch("residual", size=40, dtype=torch.float32)
    batch = batch.replace(label=torch.arange(40) % 2)
    INRStore.write(tmp_path / "mine", batch, ("a", "b"))
    store = INRStore(tmp_path / "mine")
    assert store.architecture == RESIDUAL
    assert store.header.grid_shape == ()
    train = store.split("train")
    assert torch.equal(train.parameters, batch.parameters[train.object_id])
    with pytest.raises(DataError, match=r"grid_shape \(8, 8\) of networks that encode no signals"):
        INRStore.write(tmp_path / "other", batch, ("a", "b"), grid_shape=(8, 8))


BAD_MODULES = {
    "BatchNorm2d": (
        [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 2)],
        r"module 1 \(BatchNorm2d\) is not known; expected Linear",
    ),
    "groups": (
        [nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3, groups=4), nn.Flatten(), nn.Linear(64, 2)],
        r"module 1 \(Conv2d\): groups must be 1, got 4",
    ),
    "unflattened": (
        [nn.Conv2d(1, 4, 3), nn.Linear(6, 2)],
        r"module 1 \(Linear\) needs inputs of \(features,\), got \(4, 6, 6\)",
    ),
    "neurons pooled": (
        [nn.Flatten(), nn.Linear(64, 6), nn.MaxPool1d(2), nn.Linear(3, 2)],
        r"module 2 \(MaxPool1d\) needs inputs of channels and 1 axes more, got \(6,\)",
    ),
    "size": (
        [nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(100, 2)],
        r"module 2 \(Linear\) cannot take inputs of shape \(144,\)",
    ),
    "part of the axes": (
        [nn.Conv2d(1, 4, 3), nn.Flatten(2), nn.Flatten(), nn.Linear(144, 2)],
        r"module 1 \(Flatten\): must flatten all axes but the batch's",
    ),
    "one layer": ([nn.Flatten(), nn.Linear(64, 2)], "a network needs a group of hidden neurons"),
    "indices": (
        [nn.Conv2d(1, 4, 3), nn.MaxPool2d(2, return_indices=True), nn.Linear(6, 2)],
        r"module 1 \(MaxPool2d\) must give one tensor, got a tuple",
    ),
}


@pytest.mark.parametrize("name", BAD_MODULES)
def test_what_is_not_read_is_named(name):
    layers, message = BAD_MODULES[name]
    with pytest.raises(DataError, match=message):
        NetworkArchitecture.from_module(nn.Sequential(*layers), (1, 8, 8))


def test_a_layer_that_is_used_twice_and_an_own_module_are_refused():
    layer = nn.Linear(8, 8)
    twice = nn.Sequential(layer, nn.ReLU(), layer, nn.ReLU(), nn.Linear(8, 2))
    with pytest.raises(DataError, match="uses a layer twice"):
        NetworkArchitecture.from_module(twice, (8,))
    with pytest.raises(DataError, match=r"module itself \(Residual\) is not known"):
        NetworkArchitecture.from_module(CNNS["residual"](), (1, 8, 8))


def spec(shape=(4, 3), axes=("h", None), name="w"):
    return TensorSpec(name, shape, axes)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: spec(axes=("h",)), "a name or None for each axis"),
        (lambda: spec(shape=(4, 0)), r"got shape \(4, 0\)"),
        (lambda: spec(axes=("h", 3)), "axes are names or None, got"),
        (lambda: spec((4, 3, 2), ("h", None, "g")), "hidden neurons stand on its first axis"),
        (lambda: NetworkArchitecture([spec(), spec()]), "names that are all different"),
        (lambda: NetworkArchitecture([spec(axes=(None, None))]), "a group of hidden neurons"),
        (
            lambda: NetworkArchitecture([spec(), spec((5,), ("h",), "b")]),
            "group 'h' has 5 neurons in tensor 'b' and 4 in another",
        ),
        (lambda: NetworkArchitecture([spec()]), "maps from group 'h'"),
        (
            lambda: NetworkArchitecture([spec(), spec((2, 4), (None, "h"), "v")], {"g": ("relu",)}),
            r"functions of \['g'\]",
        ),
        (
            lambda: read_architecture({"kind": "tree", "tensors": [], "functions": {}}),
            "architecture of kind 'tree', expected 'network'",
        ),
        (lambda: read_architecture({"w0": 5.0}), r"must have widths, got \{'w0': 5.0\}"),
    ],
)
def test_architectures_name_what_is_wrong(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_other_tensors_are_refused():
    batch = cnn_batch("no_bias")
    with pytest.raises(DataError, match=r"parameters must have shape \(B, 594\) for networks of 3"):
        batch.replace(parameters=batch.parameters[:, 1:])
    with pytest.raises(DataError, match="state dict 0 must hold tensors of shapes"):
        WeightBatch.from_state_dicts(batch.architecture, [CNNS["residual"]().state_dict()])
    with pytest.raises(DataError, match="the module must have the parameters of networks of 3"):
        batch.named_parameters(CNNS["residual"]())
    with pytest.raises(DataError, match="expected tensors of shapes"):
        WeightBatch.from_tensors(batch.architecture, batch.tensors[:2])
    with pytest.raises(DataError, match="to_sequential: for INRs alone, got networks of 3 tensors"):
        batch.to_sequential(0)


def test_errors_tell_of_networks_in_a_line():
    first, second = cnn_batch("residual"), cnn_batch("no_bias")
    for refuse in (lambda: cat([first, second]), lambda: align(first, second)):
        with pytest.raises(ValueError, match=r"networks of 9 tensors \(4, 1, 3, 3\)") as error:
            refuse()
        assert len(str(error.value)) < 300
