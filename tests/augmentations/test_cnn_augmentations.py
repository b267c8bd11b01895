"""Augmentations of CNNs: as exact as of INRs, and refused in one line where they cannot be."""

import pytest
import torch
from cnns import CNNS, cnn_batch, logits

from lightning_dws import augmentations as all_augmentations
from lightning_dws.augmentations import (
    Affine,
    Flip,
    GaussianNoise,
    Intensity,
    Permutation,
    QuantileDropout,
    ReLUScaling,
    Rotation,
    Scaling,
    SirenBias,
    SirenNegation,
    Translation,
    WeightDropout,
)
from lightning_dws.augmentations.generic import tensor_std
from lightning_dws.canonical import Aligned, SortedNeurons
from lightning_dws.errors import DataError

OF_INRS = (Affine, Flip, Intensity, Rotation, Scaling, SirenBias, Translation)


def generator():
    return torch.Generator().manual_seed(5)


EXACT = [
    *((Permutation(), name) for name in CNNS),
    (ReLUScaling(), "pool_and_flatten"),
    (ReLUScaling(3.0), "residual"),
    (ReLUScaling(), "no_bias"),
    (SirenNegation(), "small_kernels"),
]


@pytest.mark.parametrize(("augmentation", "name"), EXACT)
def test_the_function_is_kept_exactly(augmentation, name):
    batch = cnn_batch(name)
    before = batch.parameters.clone()
    moved = augmentation(batch, generator())
    assert torch.equal(batch.parameters, before)
    assert (moved.parameters != before).double().mean() > 0.3
    torch.testing.assert_close(logits(name, moved), logits(name, batch), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(("augmentation", "name"), EXACT)
def test_every_coupling_counts(augmentation, name):
    batch = cnn_batch(name)
    moved = augmentation(batch, generator())
    for number, spec in enumerate(batch.architecture.tensors):
        if any(spec.axes):
            tensors = batch.tensors
            tensors[number] = moved.tensors[number]
            broken = type(batch).from_tensors(batch.architecture, tensors)
            change = (logits(name, broken) - logits(name, batch)).abs().max()
            assert change > 1e-6, f"{spec.name} may be moved alone"


@pytest.mark.parametrize(
    ("augmentation", "name", "message"),
    [
        (ReLUScaling(), "small_kernels", "ReLUScaling .* got tanh for group 'h1'"),
        (SirenNegation(), "pool_and_flatten", "SirenNegation .* got relu, max_pool for group 'h1'"),
        *(
            (kind(), "no_bias", f"{kind.__name__}: for INRs alone, got networks")
            for kind in OF_INRS
        ),
    ],
)
def test_what_cannot_be_kept_is_refused(augmentation, name, message):
    batch = cnn_batch(name)
    with pytest.raises(ValueError, match=message):
        augmentation(batch, generator())
    with pytest.raises(ValueError, match=message):
        augmentation.check_architecture(batch.architecture)


def test_every_augmentation_is_for_cnns_or_is_refused():
    known = {kind.__name__ for kind in OF_INRS}
    known |= {type(augmentation).__name__ for augmentation, _ in EXACT}
    known |= {"GaussianNoise", "WeightDropout", "QuantileDropout"}
    known |= {"Augmentation", "Compose", "OneOf", "RandomOrder"}
    assert known == set(all_augmentations.__all__)


def test_noise_and_dropout():
    batch = cnn_batch("residual", size=64)
    batch.tensors[4].mul_(10)
    std = tensor_std(batch)
    assert [len(std[where].unique()) for where in batch.architecture.tensor_slices] == [1] * 9
    torch.testing.assert_close(std[batch.architecture.tensor_slices[4]][0], batch.tensors[4].std())
    noise = GaussianNoise(0.5)(batch, generator()).parameters - batch.parameters
    share = noise.std(0) / std
    assert share.mean().item() == pytest.approx(0.5, rel=0.05)
    for augmentation in (WeightDropout(0.2), QuantileDropout(0.9)):
        dropped = augmentation(batch, generator()).parameters == 0
        assert 0.05 < dropped.double().mean() < 0.9


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("name", CNNS)
def test_canonical_channels_are_the_same_for_every_order(name, aligned):
    batch = cnn_batch(name)
    form = Aligned() if aligned else SortedNeurons()
    form.reference = cnn_batch(name, 5).parameters[4]
    ordered = form(batch)
    assert torch.equal(form(Permutation()(batch, generator())).parameters, ordered.parameters)
    assert torch.equal(form(ordered).parameters, ordered.parameters)
    torch.testing.assert_close(logits(name, ordered), logits(name, batch), rtol=1e-9, atol=1e-11)


def test_refusals_are_data_errors_where_nothing_else_will_do():
    with pytest.raises(DataError, match="Rotation: for INRs alone, got networks of 3 tensors"):
        Rotation().check_architecture(cnn_batch("no_bias").architecture)
