"""The kernel for CUDA, run by Triton's interpreter on the CPU."""

import pytest
import torch

from lightning_dws import INRArchitecture, WeightBatch
from lightning_dws.augmentations.symmetry import permute_neurons
from lightning_dws.mixup import squared_distance
from lightning_dws.mixup.matching_kernel import match_on_cpu
from lightning_dws.mixup.matching_triton import match_on_gpu

ARCHITECTURES = [(2, 5, 1), (2, 4, 3, 1), (3, 3, 5, 2, 4), (9, 2, 1)]
BOTH = pytest.mark.parametrize("signed", [False, True])


def _random_batch(widths: tuple[int, ...], size: int, seed: int) -> WeightBatch:
    architecture = INRArchitecture(widths)
    generator = torch.Generator().manual_seed(seed)
    size_of_rows = (size, architecture.num_parameters)
    rows = torch.randn(size_of_rows, generator=generator, dtype=torch.float64)
    return WeightBatch.from_parameters(architecture, rows)


def _distance(a: WeightBatch, b: WeightBatch, found: tuple[torch.Tensor, ...]) -> torch.Tensor:
    layers = (list(part.split(b.architecture.hidden_widths, dim=1)) for part in found)
    return squared_distance(a, permute_neurons(b, *layers))


@BOTH
@pytest.mark.parametrize("widths", ARCHITECTURES, ids=str)
def test_finds_what_the_cpus_kernel_finds(widths: tuple[int, ...], signed: bool) -> None:
    a, b = _random_batch(widths, 2, 0), _random_batch(widths, 2, 1)
    found, expected = (match(a, b, signed, 1e-12) for match in (match_on_gpu, match_on_cpu))
    for own, other in zip(found, expected, strict=True):
        assert own.dtype == other.dtype
        assert torch.equal(own, other)


@BOTH
def test_a_pair_led_astray_is_redone_from_the_identity(signed: bool) -> None:
    a = _random_batch((2, 4, 4, 1), 3, 0)
    b = a.replace(parameters=a.parameters + 0.8 * _random_batch((2, 4, 4, 1), 3, 1).parameters)
    for batch in (a, b):  # close in every layer but the first, which is all that a start sees
        batch.weights[0].copy_(1e-3 * torch.randn(batch.weights[0].shape, dtype=torch.float64))
        batch.biases[0].zero_()
    distance = _distance(a, b, match_on_gpu(a, b, signed, 1e-12))
    assert (distance <= squared_distance(a, b)).all()
    torch.testing.assert_close(distance, _distance(a, b, match_on_cpu(a, b, signed, 1e-12)))


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")  # NumPy's
@pytest.mark.parametrize("value", [torch.nan, torch.inf, 1e200])
def test_a_pair_that_cannot_be_compared_stays_as_it_is(value: float) -> None:
    a, b = _random_batch((2, 4, 3, 1), 2, 0), _random_batch((2, 4, 3, 1), 2, 1)
    b.parameters[1, 3] = value
    permutation, sign = match_on_gpu(a, b, True, 1e-12)
    assert torch.equal(permutation[1], torch.tensor([0, 1, 2, 3, 0, 1, 2]))
    assert (sign[1] == 1).all()
    alone = match_on_gpu(a[:1], b[:1], True, 1e-12)
    assert torch.equal(permutation[:1], alone[0])


def test_takes_no_pairs_at_all() -> None:
    none = _random_batch((2, 4, 3, 1), 0, 0)
    assert [part.shape for part in match_on_gpu(none, none, False, 1e-12)] == [(0, 7), (0, 7)]
