"""What each exact augmentation does to the function that an INR computes, in float64."""

import math

import pytest
import torch
from augmentation_examples import ENCODINGS, architectures, generator, points, random_batch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lightning_dws import INRArchitecture, WeightBatch
from lightning_dws.augmentations import (
    Affine,
    Augmentation,
    Flip,
    Intensity,
    Permutation,
    ReLUScaling,
    Rotation,
    Scaling,
    SirenBias,
    SirenNegation,
    Translation,
)
from lightning_dws.augmentations.symmetry import permute_neurons
from lightning_dws.fourier_encoding import FourierEncoding
from lightning_dws.inrs.siren import evaluate_inrs

SEEDS = st.integers(0, 2**32 - 1)
BATCH = 5


def _augment(
    augmentation: Augmentation, architecture: INRArchitecture, seed: int
) -> tuple[WeightBatch, WeightBatch, dict[str, Tensor]]:
    batch = random_batch(architecture, BATCH, seed)
    params = augmentation.draw(batch, generator(seed + 1))
    return batch, augmentation(batch, params=params), params


def _assert_computes(augmented: WeightBatch, wanted: Tensor) -> None:
    computed = evaluate_inrs(augmented, points(augmented.architecture))
    torch.testing.assert_close(computed, wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("augmentation", "activations"),
    [
        (Permutation(), ("sine", "relu")),
        (SirenNegation(), ("sine",)),
        (SirenBias(), ("sine",)),
        (SirenBias(-4, 3, shift_probability=1.0), ("sine",)),
        (ReLUScaling(), ("relu",)),
    ],
    ids=["Permutation", "SirenNegation", "SirenBias", "SirenBias-published", "ReLUScaling"],
)
@settings(max_examples=25, deadline=None)
@given(data=st.data(), seed=SEEDS)
def test_symmetry_keeps_the_function(
    augmentation: Augmentation, activations: tuple[str, ...], data: st.DataObject, seed: int
) -> None:
    architecture = data.draw(architectures(activations, (1, 2, 3), ENCODINGS))
    batch, augmented, _ = _augment(augmentation, architecture, seed)
    _assert_computes(augmented, evaluate_inrs(batch, points(architecture)))


@pytest.mark.parametrize(
    ("augmentation", "inputs", "encodings"),
    [
        (Rotation(), (2, 3), (None,)),
        (Rotation(180), (2, 3), (None,)),
        (Translation(), (1, 2, 3), ENCODINGS),
        (Scaling(), (1, 2, 3), (None,)),
        (Flip(flip_probability=0.7), (1, 2, 3), ENCODINGS),
        (Flip((0, 1)), (2, 3), ENCODINGS),
        (Affine(), (2, 3), (None,)),
    ],
)
@settings(max_examples=25, deadline=None)
@given(data=st.data(), seed=SEEDS)
def test_input_space_map_moves_the_coordinates(
    augmentation: Augmentation,
    inputs: tuple[int, ...],
    encodings: tuple[FourierEncoding | None, ...],
    data: st.DataObject,
    seed: int,
) -> None:
    architecture = data.draw(architectures(inputs=inputs, encodings=encodings))
    batch, augmented, params = _augment(augmentation, architecture, seed)
    num_inputs, x = architecture.in_features, points(architecture)
    matrix = params.get("matrix", torch.eye(num_inputs, dtype=torch.float64).expand(BATCH, -1, -1))
    if "scale" in params:
        matrix = matrix * params["scale"][:, None, None]
    if "flip" in params:
        signs = torch.ones(BATCH, num_inputs, dtype=torch.float64)
        signs[:, : params["flip"].shape[1]] -= 2 * params["flip"].double()
        matrix = torch.diag_embed(signs)
    shift = params.get("shift", torch.zeros(BATCH, num_inputs, dtype=torch.float64))
    moved = torch.einsum("bij,nj->bni", matrix, x) + shift[:, None]
    _assert_computes(augmented, evaluate_inrs(batch, moved))


@settings(max_examples=25, deadline=None)
@given(architecture=architectures(), seed=SEEDS)
def test_sdf_scaling_divides_the_output(architecture: INRArchitecture, seed: int) -> None:
    batch, augmented, params = _augment(Scaling(rescale_output=True), architecture, seed)
    scale = params["scale"][:, None, None]
    scaled = evaluate_inrs(batch, scale * points(architecture))
    _assert_computes(augmented, scaled / scale)


def test_scaled_sphere_is_the_sdf_of_the_scaled_sphere() -> None:
    """A ReLU network that computes |x| - 0.5, the SDF of [-0.5, 0.5], of one hidden layer."""
    architecture = INRArchitecture((1, 2, 1), activation="relu", output_offset=0.25)
    row = torch.tensor([[1.0, -1.0, 0.0, 0.0, 1.0, 1.0, -0.75]], dtype=torch.float64)
    scaling = Scaling(rescale_output=True)
    params = {"scale": torch.tensor([0.8], dtype=torch.float64)}
    scaled = scaling(WeightBatch.from_parameters(architecture, row), params=params)
    x = points(architecture)
    _assert_computes(scaled, (x.abs() - 0.5 / 0.8)[None])


@settings(max_examples=25, deadline=None)
@given(architecture=architectures(), seed=SEEDS)
def test_intensity_maps_the_output(architecture: INRArchitecture, seed: int) -> None:
    batch, augmented, params = _augment(Intensity(invert_probability=0.5), architecture, seed)
    scale, shift = params["scale"][:, None, None], params["shift"][:, None, None]
    _assert_computes(augmented, scale * evaluate_inrs(batch, points(architecture)) + shift)


def test_inversion_mirrors_at_the_pivot() -> None:
    batch = random_batch(INRArchitecture((2, 5, 1)), BATCH)
    inverted = Intensity(0, 0, invert_probability=1, pivot=0.5)(batch, generator())
    _assert_computes(inverted, 1 - evaluate_inrs(batch, points(batch.architecture)))


@settings(max_examples=25, deadline=None)
@given(architecture=architectures(("sine",)), seed=SEEDS)
def test_signed_permutation_keeps_a_sine_network(architecture: INRArchitecture, seed: int) -> None:
    batch = random_batch(architecture, BATCH, seed)
    permutations = list(Permutation().draw(batch, generator(seed)).values())
    negate = SirenNegation().draw(batch, generator(seed + 1))["negate"]
    signs = (1 - 2 * negate.double()).split(architecture.hidden_widths, dim=1)
    moved = permute_neurons(batch, permutations, signs)
    _assert_computes(moved, evaluate_inrs(batch, points(architecture)))


@pytest.mark.parametrize("axis", [None, "x", "y", "z"])
@pytest.mark.parametrize("max_angle_degrees", [0, 20, 180])
def test_rotations_are_rotations_by_at_most_the_angle(
    axis: str | None, max_angle_degrees: float
) -> None:
    batch = random_batch(INRArchitecture((3, 4, 1)), 500)
    matrix = Rotation(max_angle_degrees, axis).draw(batch, generator())["matrix"]
    eye = torch.eye(3, dtype=torch.float64)
    torch.testing.assert_close(matrix @ matrix.mT, eye.expand_as(matrix), rtol=0, atol=1e-12)
    torch.testing.assert_close(torch.linalg.det(matrix), torch.ones(500, dtype=torch.float64))
    cos = (matrix.diagonal(dim1=1, dim2=2).sum(dim=1) - 1) / 2
    assert (cos >= math.cos(math.radians(max_angle_degrees)) - 1e-12).all()
    if axis is not None:
        number = "xyz".index(axis)
        torch.testing.assert_close(matrix[:, :, number], eye[number].expand(500, 3))


def test_rotation_by_up_to_180_degrees_is_uniform_on_so3() -> None:
    """The columns have mean 0 and covariance I/3, the angle has the density (1 - cos) / pi."""
    batch = random_batch(INRArchitecture((3, 4, 1)), 20_000)
    matrix = Rotation(180).draw(batch, generator())["matrix"]
    torch.testing.assert_close(
        matrix.mean(dim=0), torch.zeros(3, 3, dtype=torch.float64), rtol=0, atol=0.02
    )
    covariance = torch.einsum("bik,bjk->kij", matrix, matrix) / len(batch)
    third = torch.eye(3, dtype=torch.float64) / 3
    torch.testing.assert_close(covariance, third.expand(3, 3, 3), rtol=0, atol=0.02)
    angle = ((matrix.diagonal(dim1=1, dim2=2).sum(dim=1) - 1) / 2).clamp(-1, 1).acos()
    share_below_a_right_angle = (angle < math.pi / 2).double().mean()
    assert abs(share_below_a_right_angle - (math.pi / 2 - 1) / math.pi) < 0.02


def test_rotation_angle_is_uniform_in_2d() -> None:
    batch = random_batch(INRArchitecture((2, 4, 1)), 20_000)
    matrix = Rotation(30).draw(batch, generator())["matrix"]
    angle = torch.rad2deg(torch.atan2(matrix[:, 1, 0], matrix[:, 0, 0]))
    assert angle.abs().max() <= 30
    assert abs(angle.mean()) < 0.5
    assert abs(angle.std() - 60 / math.sqrt(12)) < 0.3


def test_exact_in_float32_to_its_precision() -> None:
    batch = random_batch(INRArchitecture((2, 32, 32, 1)), 8, dtype=torch.float32)
    x = points(batch.architecture).float()
    for augmentation in (SirenNegation(), Permutation()):
        augmented = augmentation(batch, generator())
        difference = evaluate_inrs(augmented, x) - evaluate_inrs(batch, x)
        assert difference.abs().max() < 1e-3
