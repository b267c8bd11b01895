"""A change of weights is equivariant, and nothing at first."""

import pytest
import torch
from cnns import RESIDUAL
from symmetry import make_batch, permute_hidden, relative
from test_dwsnet import ARCHITECTURES, make_model

from lightning_dws import INRArchitecture, WeightBatch
from lightning_dws.models import NeuralGraphGNN
from lightning_dws.models.parameter_axes import fold_tensors, unfold_tensors
from lightning_dws.models.weight_change import WeightChange


def make_change(model, widths):
    torch.manual_seed(1)
    change = WeightChange(make_batch(widths).architecture, model.parameter_channels).double()
    for parameter in change.parameters():
        torch.nn.init.normal_(parameter)
    return change


def make_gnn(widths):
    torch.manual_seed(0)
    options = {"hidden_dim": 6, "num_layers": 2, "num_probes": 3, "fourier_scale": 0.3}
    return NeuralGraphGNN(INRArchitecture(widths), 1, **options).double().eval()


@pytest.mark.parametrize("kind", ["attention", "deepsets", "gnn"])
@pytest.mark.parametrize("widths", ARCHITECTURES)
def test_the_change_of_a_permuted_inr_is_permuted_likewise(widths, kind):
    model = make_gnn(widths) if kind == "gnn" else make_model(widths, set_layer=kind)
    batch = make_batch(widths)
    change = make_change(model, widths)
    found = change(model.parameter_features(permute_hidden(batch)))
    own = change(model.parameter_features(batch))
    assert own.shape == batch.parameters.shape
    expected = permute_hidden(batch.replace(parameters=own)).parameters
    assert relative(found, expected) < 1e-10
    if max(widths[1:-1]) > 1:
        assert relative(own, expected) > 1e-3  # it is no change that any order would have


@pytest.mark.parametrize("make", [make_model, make_gnn])
@pytest.mark.parametrize("broken", ["features", "change"])
def test_it_is_not_where_a_weight_is_read_from_another_place(broken, make):
    """A weight's features in another order, or one map for each entry, which may not be told."""
    widths = (2, 6, 6, 1)
    model, batch = make(widths), make_batch(widths)
    change = make_change(model, widths)
    order = torch.arange(batch.parameters.shape[1])
    if broken == "features":
        order[12:18] = order[12:18].flip(0)  # the first biases
    else:
        owner = change._tensor_of_entry.clone()
        owner[:6] = 1
        change.set_index("_tensor_of_entry", owner)
    found, own = (
        change(model.parameter_features(inrs)[:, order]) for inrs in (permute_hidden(batch), batch)
    )
    expected = permute_hidden(batch.replace(parameters=own)).parameters
    assert relative(found, expected) > 1e-3


def test_features_are_unfolded_as_they_were_folded():
    """Of an INR, and of a CNN whose kernels' positions are folded into the channels."""
    for architecture in (INRArchitecture((2, 4, 3, 1)), RESIDUAL):
        rows = torch.arange(2.0 * architecture.num_parameters).view(2, -1)
        folded = fold_tensors(WeightBatch.from_parameters(architecture, rows))
        assert torch.equal(unfold_tensors(folded, architecture, 1)[..., 0], rows)


def test_every_input_and_output_is_told_apart():
    """Their axes are fixed: the columns of the first weight have changes of their own."""
    widths = (3, 4, 2)
    model, batch = make_model(widths), make_batch(widths)
    own = make_change(model, widths)(model.parameter_features(batch))
    first = batch.replace(parameters=own).weights[0]
    assert relative(first[:, :, 0], first[:, :, 1]) > 1e-3


def test_nothing_is_changed_at_first_and_the_scale_is_learned():
    widths = (2, 6, 1)
    model, batch = make_model(widths), make_batch(widths)
    change = WeightChange(batch.architecture, model.parameter_channels).double()
    change.fit([batch.parameters])
    assert change.std[0] == pytest.approx(float(batch.weights[0].std()), rel=0.2)
    found = change(model.parameter_features(batch))
    assert not found.any()
    found.square().sum().backward()
    assert not change.scale.grad.any()
    (change(model.parameter_features(batch)) * batch.parameters).sum().backward()
    assert change.scale.grad.abs().min() > 0
