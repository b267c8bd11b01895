import numpy as np
import pytest
import torch
from tiny import ARCHITECTURE, random_batch
from torch import nn
from torch.utils.data import DataLoader, StackDataset, random_split

from lightning_dws import INRArchitecture, WeightBatch
from lightning_dws.errors import DataError
from lightning_dws.inrs import evaluate_inrs
from lightning_dws.weight_space import cat


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"widths": (2, 1)}, "widths must be at least three"),
        ({"widths": (2, 0, 1)}, r"got \(2, 0, 1\)"),
        ({"widths": (2, 4, 1), "activation": "tanh"}, "activation must be one of"),
        ({"widths": (2, 4, 1), "w0": 0.0}, "w0 must be positive"),
        ({"widths": (2, 4, 1), "output_offset": float("nan")}, "output_offset must be finite"),
    ],
)
def test_architecture_names_what_is_wrong(fields, message):
    with pytest.raises(ValueError, match=message):
        INRArchitecture(**fields)


def test_architecture_survives_plain_data():
    assert INRArchitecture(**ARCHITECTURE.to_dict()) == ARCHITECTURE


def test_rows_are_in_the_order_of_parameters_to_vector():
    network = nn.Sequential(nn.Linear(2, 6), nn.Linear(6, 5), nn.Linear(5, 1))
    row = nn.utils.parameters_to_vector(network.parameters()).detach()
    batch = WeightBatch.from_parameters(ARCHITECTURE, row[None])
    for linear, weight, bias in zip(network, batch.weights, batch.biases, strict=True):
        assert torch.equal(linear.weight, weight[0])
        assert torch.equal(linear.bias, bias[0])
    assert torch.equal(WeightBatch.from_sequentials(ARCHITECTURE, [network]).parameters[0], row)


def test_weights_and_biases_are_views():
    batch = random_batch()
    batch.weights[1][2, 3, 4] = 7.0
    batch.biases[0][1, 2] = 8.0
    assert (batch.parameters == 7.0).sum() == 1
    assert (batch.parameters == 8.0).sum() == 1


def test_from_layers_inverts_the_views():
    batch = random_batch()
    again = WeightBatch.from_layers(ARCHITECTURE, batch.weights, batch.biases)
    assert torch.equal(again.parameters, batch.parameters)


@pytest.mark.parametrize("activation", ["sine", "relu"])
def test_a_row_becomes_the_network_it_is(activation):
    architecture = INRArchitecture((3, 7, 4, 2), activation=activation, w0=5.0)
    batch = random_batch(architecture).to(torch.float64)
    points = torch.rand(11, 3, dtype=torch.float64)
    expected = torch.stack([batch.to_sequential(i)(points) for i in range(len(batch))])
    torch.testing.assert_close(evaluate_inrs(batch, points), expected, rtol=1e-12, atol=1e-12)
    again = WeightBatch.from_sequentials(architecture, [batch.to_sequential(i) for i in range(4)])
    assert torch.equal(again.parameters, batch.parameters)


def test_state_dicts_of_another_shape_are_refused():
    state = nn.Sequential(nn.Linear(2, 6), nn.Linear(6, 4), nn.Linear(4, 1)).state_dict()
    with pytest.raises(DataError, match=r"state dict 0 must hold .* got .*\(4, 6\)"):
        WeightBatch.from_state_dicts(ARCHITECTURE, [state])


def test_no_state_dicts_are_a_batch_of_no_networks():
    assert WeightBatch.from_state_dicts(ARCHITECTURE, []).parameters.shape == (0, 59)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"parameters": torch.zeros(4, 3)}, r"parameters must have shape \(B, 59\)"),
        ({"parameters": torch.zeros(4, 59, dtype=torch.int64)}, "must be floating point"),
        ({"label": torch.zeros(3, dtype=torch.int64)}, r"label must be int64 of shape \(4,\)"),
        ({"view": torch.zeros(4)}, "view must be int64"),
        ({"target": torch.zeros(3, 10)}, r"target must have shape \(4, K\)"),
    ],
)
def test_batch_names_what_is_wrong(change, message):
    with pytest.raises(DataError, match=message):
        random_batch().replace(**change)


def test_selecting_moving_and_joining_keep_the_fields_together():
    batch = random_batch().replace(target=torch.eye(4))
    picked = batch[torch.tensor([2, 0])]
    assert picked.object_id.tolist() == [2, 0]
    assert torch.equal(picked.target, batch.target[[2, 0]])
    double = batch.to(torch.float64)
    assert double.parameters.dtype == double.target.dtype == torch.float64
    assert double.label.dtype == torch.int64
    joined = cat([random_batch(), random_batch()])
    assert len(joined) == 8
    assert torch.equal(joined.parameters[4:], joined.parameters[:4])


def test_an_integer_selects_a_batch_of_one_and_iterating_gives_all():
    batch = random_batch().replace(target=torch.eye(4))
    for index in (2, -2, torch.tensor(2), np.int64(2)):
        assert torch.equal(batch[index].parameters, batch.parameters[2:3])
        assert batch[index].target.tolist() == [[0, 0, 1, 0]]
    assert [len(inr) for inr in batch] == [1] * 4
    assert torch.equal(cat([inr.replace(target=None) for inr in batch]).label, batch.label)
    with pytest.raises(IndexError):
        batch[4]


def test_a_data_loader_gives_batches_of_inrs():
    batch = random_batch(size=5)
    for dataset in (batch, random_split(batch, [4, 1], torch.Generator())[0]):
        loaded = list(DataLoader(dataset, batch_size=2, shuffle=True))
        assert [type(part) for part in loaded] == [WeightBatch] * len(loaded)
        found = cat(loaded)
        assert len(found) == len(dataset)
        assert torch.equal(found.parameters, batch.parameters[found.object_id])
    [pair] = DataLoader(StackDataset(batch, torch.arange(5)), batch_size=5)
    assert torch.equal(pair[0].parameters, batch.parameters)
    assert pair[1].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"w0": 9.0}, "network 1: w0 9, expected 8"),
        ({"activation": "relu"}, "network 1: activation relu, expected sine"),
        ({"output_offset": 0.0}, "network 1: output offset 0, expected 0.5"),
    ],
)
def test_networks_that_say_they_compute_something_else_are_refused(change, named):
    batch = random_batch()
    other = batch.replace(architecture=INRArchitecture(**ARCHITECTURE.to_dict() | change))
    with pytest.raises(DataError, match=named):
        WeightBatch.from_sequentials(ARCHITECTURE, [batch.to_sequential(0), other.to_sequential(0)])


def test_what_rows_are_given_without_is_memory_of_its_own():
    batch = WeightBatch.from_parameters(ARCHITECTURE, torch.zeros(3, ARCHITECTURE.num_parameters))
    assert torch.equal(batch.label, batch.view)
    assert batch.label.data_ptr() != batch.view.data_ptr()
