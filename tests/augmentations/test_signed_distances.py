"""The maps of the input space on INRs of real signed distance functions."""

import pytest
import torch

from lightning_dws import INRArchitecture
from lightning_dws.augmentations import Affine, Flip, Rotation, Scaling, Translation
from lightning_dws.inrs import Recipe, Sampling, Solids, evaluate_inrs, fit_inrs


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """Six solids' INRs in float64, and the signed distances that they were fitted to."""
    sampling = Sampling(num_points=4096, grid_size=16)
    cache = str(tmp_path_factory.mktemp("cache"))
    data = Solids(28, 14, 14, sampling=sampling, cache=cache, num_processes=0)
    chosen = data.first("train", 6)
    points, values = data.sample(chosen.object_id)
    inrs, psnr = fit_inrs(
        values,
        points,
        INRArchitecture((3, 24, 24, 1), output_offset=0.0),
        recipe=Recipe(
            200, 3e-3, "cosine", betas=(0.7, 0.9), first_layer_bound=0.3, points_per_step=1024
        ),
        seed=0,
        object_id=chosen.object_id,
        view=torch.zeros_like(chosen.object_id),
    )
    assert psnr.min() > 25
    return inrs.replace(parameters=inrs.parameters.double()), points.double(), values.double()


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def moved_points(augmentation, params: dict, points: torch.Tensor) -> torch.Tensor:
    """Where points (B, N, 3) of the augmented function lie in the function before."""
    if isinstance(augmentation, Rotation):
        return points @ params["matrix"].mT.double()
    if isinstance(augmentation, Translation):
        return points + params["shift"][:, None].double()
    if isinstance(augmentation, Affine):
        return points @ params["matrix"].mT.double() + params["shift"][:, None].double()
    if isinstance(augmentation, Flip):
        signs = 1 - 2 * params["flip"].double()
        return points * signs[:, None]
    return points * params["scale"][:, None, None].double()


@pytest.mark.parametrize(
    "augmentation",
    [
        Rotation(180),
        Rotation(180, axis="z"),
        Rotation(30, axis="x"),
        Translation(0.2),
        Scaling(0.3),
        Scaling(0.3, rescale_output=True),
        Flip((0, 1, 2)),
        Affine(180, axis="z"),
    ],
    ids=["any", "upright", "tilted", "translated", "scaled", "rescaled", "flipped", "affine"],
)
def test_the_function_is_moved_exactly(fitted, augmentation):
    inrs, points, _ = fitted
    params = augmentation.draw(inrs, generator())
    moved = augmentation(inrs, params=params)
    expected = evaluate_inrs(inrs, moved_points(augmentation, params, points))
    if getattr(augmentation, "rescale_output", False):
        expected = expected / params["scale"][:, None, None].double()
    found = evaluate_inrs(moved, points)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    assert (found - evaluate_inrs(inrs, points)).abs().mean() > 1e-2


def test_any_rotation_keeps_distances_and_turns_the_shape(fitted):
    """The augmented INR is as good a signed distance function, of the turned shape."""
    inrs, points, values = fitted
    params = Rotation(180).draw(inrs, generator())
    turned = Rotation(180)(inrs, params=params)
    where = points @ params["matrix"].double()  # the point x of the shape is at R^T x
    error = (evaluate_inrs(turned, where) - values).abs().mean()
    before = (evaluate_inrs(inrs, points) - values).abs().mean()
    assert error == pytest.approx(float(before), rel=1e-6)


def test_an_upright_rotation_keeps_heights(fitted):
    inrs, _, _ = fitted
    matrix = Rotation(180, axis="z").draw(inrs, generator())["matrix"]
    up = torch.tensor([0.0, 0.0, 1.0], dtype=matrix.dtype).expand(len(inrs), 3)
    torch.testing.assert_close((matrix @ up[:, :, None])[:, :, 0], up)


def test_a_scaled_signed_distance_is_that_of_the_scaled_shape(fitted):
    """Without dividing by the scale it is none: its slope is no longer 1."""
    inrs, points, values = fitted
    params = Scaling(0.3).draw(inrs, generator())
    scale = params["scale"][:, None, None].double()
    where, expected = points / scale, values / scale
    before = ((evaluate_inrs(inrs, points) - values).abs() / scale).mean()
    right = Scaling(0.3, rescale_output=True)(inrs, params=params)
    wrong = Scaling(0.3)(inrs, params=params)
    error = (evaluate_inrs(right, where) - expected).abs().mean()
    assert error == pytest.approx(float(before), rel=1e-6)
    assert (evaluate_inrs(wrong, where) - expected).abs().mean() > 1.2 * error
