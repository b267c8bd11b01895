"""Statistics of noise and dropout."""

import pytest
import torch
from augmentation_examples import IMAGE, generator, random_batch

from lightning_dws import INRArchitecture, WeightBatch
from lightning_dws.augmentations import GaussianNoise, QuantileDropout, WeightDropout
from lightning_dws.augmentations.generic import tensor_std


def _tensors(batch: WeightBatch) -> list[torch.Tensor]:
    return [*batch.weights, *batch.biases]


def test_noise_has_mean_zero_and_the_relative_std_of_each_tensor() -> None:
    batch = random_batch(IMAGE, 4000)
    batch.parameters[:, batch.architecture.weight_slices[1]] *= 20
    batch.parameters[:, batch.architecture.bias_slices[0]] += 3
    noisy = GaussianNoise(0.32)(batch, generator())
    for before, after in zip(_tensors(batch), _tensors(noisy), strict=True):
        noise, std = after - before, before.std()
        assert abs(noise.mean() / std) < 0.03
        assert abs(noise.std() / std - 0.32) < 0.02
        assert abs(noise.std(dim=0) / std - 0.32).max() < 0.03  # noise, not one constant per INR
        per_entry = noise[:, 0].flatten(1)[:, 0] if noise.ndim == 3 else noise[:, 0]
        assert abs(torch.corrcoef(torch.stack([per_entry[:-1], per_entry[1:]]))[0, 1]) < 0.06


def test_tensor_std_is_torchs_own() -> None:
    batch = random_batch(IMAGE, 7)
    std = tensor_std(batch)
    for where in (*IMAGE.weight_slices, *IMAGE.bias_slices):
        torch.testing.assert_close(
            std[where], batch.parameters[:, where].std().expand(where.stop - where.start)
        )


def test_noise_is_zero_where_a_std_is_undefined() -> None:
    batch = random_batch(INRArchitecture((1, 1, 3, 1)), 1)
    noisy = GaussianNoise()(batch, generator())
    for before, after in zip(_tensors(batch), _tensors(noisy), strict=True):
        assert torch.equal(before, after) == (before.numel() == 1)


@pytest.mark.parametrize("drop_probability", [0.0, 0.1, 0.9])
def test_dropout_drops_the_share_and_rescales_nothing(drop_probability: float) -> None:
    batch = random_batch(IMAGE, 2000)
    dropped = WeightDropout(drop_probability)(batch, generator()).parameters
    kept = dropped != 0
    assert torch.equal(dropped[kept], batch.parameters[kept])
    assert abs(1 - kept.double().mean() - drop_probability) < 0.005
    for tensor in (kept.double().mean(dim=0), kept.double().mean(dim=1)):
        assert abs(1 - tensor - drop_probability).max() < 0.15


def test_quantile_dropout_drops_the_smallest_of_each_inr() -> None:
    batch = random_batch(IMAGE, 500)
    augmentation = QuantileDropout(0.4)
    params = augmentation.draw(batch, generator())
    dropped = augmentation(batch, params=params).parameters
    counts = (dropped == 0).sum(dim=1)
    wanted = (params["quantile"] * IMAGE.num_parameters).floor()
    assert torch.equal(counts, wanted.long())
    assert 0.18 < counts.double().mean() / IMAGE.num_parameters < 0.22
    for row, kept in zip(batch.parameters, dropped != 0, strict=True):
        assert torch.equal(row.abs()[kept].sort().values, row.abs().sort().values[-kept.sum() :])
        assert row.abs()[~kept].max() < row.abs()[kept].min() if (~kept).any() else True
    kept = dropped != 0
    assert torch.equal(dropped[kept], batch.parameters[kept])


def test_quantile_dropout_of_everything_and_nothing() -> None:
    batch, augmentation = random_batch(IMAGE, 2), QuantileDropout(1.0)
    quantile = torch.tensor([0.0, 1.0])
    dropped = augmentation(batch, params={"quantile": quantile}).parameters
    assert torch.equal(dropped[0], batch.parameters[0])
    assert (dropped[1] == 0).all()
