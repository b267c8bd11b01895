"""INRs in the lanes of vectors: gradients, steps, and that no lane meets another."""

import pytest
import torch
from torch import Tensor

from lightning_dws.inrs.fitting import Recipe
from lightning_dws.inrs.fitting.chunk import Chunk, share_points
from lightning_dws.inrs.fitting.fitting import fit_chunk
from lightning_dws.inrs.fitting.lane_fits import Group, fit_in_lanes, takes_lanes
from lightning_dws.inrs.siren import evaluate_inrs, initialise_inrs
from lightning_dws.models.lanes import LANES
from lightning_dws.weight_space import INRArchitecture, WeightBatch

CPU = torch.device("cpu")


def start_inrs(architecture: INRArchitecture, count: int) -> WeightBatch:
    ids = torch.arange(count)
    return initialise_inrs(architecture, seed=0, object_id=ids, view=torch.zeros_like(ids))


def draw(*shape: int) -> Tensor:
    return 2 * torch.rand(shape, generator=torch.Generator().manual_seed(sum(shape))) - 1


@pytest.mark.parametrize("own_points", [False, True], ids=["shared", "own"])
@pytest.mark.parametrize("activation", ["sine", "relu"])
@pytest.mark.parametrize(
    ("widths", "points", "per_step"),
    [
        ((2, 7, 1), 37, None),
        ((3, 5, 6, 4, 2), 100, 40),
        ((1, 8, 8, 3), 70, None),
        ((2, 33, 1), 9, 2),
    ],
)
def test_gradients_agree_with_autograd(
    widths: tuple[int, ...], points: int, per_step: int | None, activation: str, own_points: bool
) -> None:
    architecture = INRArchitecture(widths, activation, w0=7.0)
    count = LANES - 3
    coordinates = draw(*([count] if own_points else []), points, widths[0])
    signals = draw(count, points, widths[-1])
    start = start_inrs(architecture, count)
    recipe = Recipe(4, 1e-3, points_per_step=per_step)
    group = Group(architecture, start.parameters, signals, coordinates, recipe)
    for block, part in enumerate(share_points(points, per_step)):
        parameters = start.parameters.double().requires_grad_()
        at = coordinates[..., part, :].double()
        values = evaluate_inrs(start.replace(parameters=parameters), at)
        errors = (values - signals[:, part]).square().mean(dim=(1, 2))
        (expected,) = torch.autograd.grad(errors.sum(), parameters)
        group.find_gradient(block)
        torch.testing.assert_close(
            group.rows(group.gradient).double(), expected, rtol=2e-5, atol=2e-5
        )
    everywhere = (evaluate_inrs(start, coordinates) - signals).square().mean(dim=(1, 2))
    torch.testing.assert_close(group.mean_squared_error()[:count], everywhere)


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.8, 0.95)])
def test_steps_are_those_of_batched_operations(betas: tuple[float, float]) -> None:
    architecture = INRArchitecture((2, 16, 16, 1), w0=10.0)
    recipe = Recipe(9, 1e-3, "cosine", warmup_steps=2, betas=betas, points_per_step=30)
    coordinates, signals = draw(80, 2), draw(6, 80, 1)
    start = start_inrs(architecture, 6).parameters
    fitted, psnr = fit_in_lanes(architecture, start, signals, coordinates, recipe)
    chunk = Chunk(architecture, start, signals, coordinates, recipe.points_per_step)
    expected, expected_psnr = fit_chunk(chunk, recipe)
    assert (fitted - start).abs().max() > 3e-3
    torch.testing.assert_close(fitted, expected, rtol=0, atol=2e-5)
    torch.testing.assert_close(psnr, expected_psnr, rtol=0, atol=1e-3)


def test_a_lane_that_is_lost_does_nothing_to_others() -> None:
    architecture = INRArchitecture((2, 8, 1))
    recipe = Recipe(20, 1e-3, check_every=5)
    coordinates, signals = draw(30, 2), draw(LANES, 30, 1)
    start = start_inrs(architecture, LANES).parameters
    expected, expected_psnr = fit_in_lanes(architecture, start, signals, coordinates, recipe)
    start[2] = 1e30
    fitted, psnr = fit_in_lanes(architecture, start, signals, coordinates, recipe)
    others = torch.arange(LANES) != 2
    assert torch.equal(fitted[others], expected[others])
    assert torch.equal(psnr[others], expected_psnr[others])
    assert psnr[2] == -torch.inf
    assert torch.equal(fitted[2], start[2])


def test_an_inr_stops_where_it_reaches_its_target() -> None:
    architecture = INRArchitecture((2, 16, 16, 1), w0=10.0)
    coordinates = draw(64, 2)
    contrast = torch.linspace(0.01, 0.5, 2 * LANES)[:, None, None]
    signals = 0.5 + contrast * torch.sin(3 * coordinates.sum(1))[None, :, None]
    start = start_inrs(architecture, 2 * LANES).parameters
    aimed = Recipe(60, 5e-3, check_every=7, target_psnr=38.0)
    fitted, psnr = fit_in_lanes(architecture, start, signals, coordinates, aimed)
    expected, running = start.clone(), torch.ones(2 * LANES, dtype=torch.bool)
    stopped = []
    for steps in (*range(7, 60, 7), 60):
        so_far = Recipe(steps, 5e-3, check_every=7)
        weights, reached = fit_in_lanes(architecture, start, signals, coordinates, so_far)
        expected[running] = weights[running]
        running &= reached < 38
        stopped.append(int((~running).sum()))
    assert len(set(stopped)) > 2
    assert stopped[-1] < 2 * LANES
    assert torch.equal(fitted, expected)
    assert torch.equal(psnr >= 38, ~running)


def test_large_inrs_and_other_optimizers_are_not_in_lanes() -> None:
    small, adam = INRArchitecture((2, 32, 32, 1)), Recipe(5, 1e-3)
    assert takes_lanes(small, adam, CPU)
    assert not takes_lanes(INRArchitecture((2, 256, 1)), adam, CPU)
    assert not takes_lanes(small, Recipe(5, 1.0, optimizer="kfac"), CPU)
    assert not takes_lanes(small, adam, torch.device("cuda"))
