"""Maps of the INR's input space: the first layer takes them exactly.

Coordinates are in [-1, 1]. An INR f becomes ``x -> f(M x + t)``: the signal itself moves by the
inverse map. Behind a Fourier encoding translations and flips are linear maps of its features, so as
exact; rotations and scalings are not, and are refused.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from lightning_dws.augmentations.base import (
    Augmentation,
    Params,
    check_probability,
    check_range,
    copy_parameters,
    draw_bernoulli,
    draw_dtype,
    draw_uniform,
)
from lightning_dws.augmentations.output_space import transform_output
from lightning_dws.weight_space import Architecture, INRArchitecture, WeightBatch, require_inrs

Axis = Literal["x", "y", "z"]
AXES: tuple[Axis, ...] = ("x", "y", "z")


def transform_input(
    batch: WeightBatch,
    matrix: Float[Tensor, "batch inputs inputs"] | None = None,
    shift: Float[Tensor, "batch inputs"] | None = None,
) -> WeightBatch:
    """Turn every INR f into ``x -> f(matrix x + shift)``, exactly and in new memory.

    No matrix is the identity, no shift is zero. Behind an encoding there can be no matrix.
    """
    moved = copy_parameters(batch)
    weight, bias = moved.weights[0], moved.biases[0]
    encoding = _inrs(batch).encoding
    if encoding is not None:
        assert matrix is None, "augmentations with a matrix refuse encodings"
        if shift is not None:
            turned, to_bias = encoding.translate(weight, shift.to(weight.dtype))
            weight.copy_(turned)
            bias.add_(to_bias)
        return moved
    if shift is not None:
        bias.add_((weight @ shift.to(weight.dtype)[:, :, None])[:, :, 0])
    if matrix is not None:
        weight.copy_(weight @ matrix.to(weight.dtype))
    return moved


def draw_rotations(
    batch: WeightBatch, max_angle_degrees: float, axis: Axis | None, generator: torch.Generator
) -> Float[Tensor, "batch inputs inputs"]:
    """Draw one rotation matrix per INR, uniform among those by at most an angle.

    Args:
        batch: INRs with 2 or 3 inputs.
        max_angle_degrees: In [0, 180].
        axis: In 3-D, the axis to turn about; None is any (180 degrees: uniform on SO(3)).
        generator: Where to draw from.
    """
    max_angle = math.radians(max_angle_degrees)
    if _inrs(batch).in_features == 2:
        angle = draw_uniform(batch, -max_angle, max_angle, generator)
        cos, sin = angle.cos(), angle.sin()
        return torch.stack([cos, -sin, sin, cos], dim=1).view(-1, 2, 2)
    dtype, device = draw_dtype(batch), batch.device
    if axis is None:
        size = (len(batch), 3)
        direction = torch.randn(size, generator=generator, device=device, dtype=dtype)
        direction = torch.nn.functional.normalize(direction, dim=1)
        angle = _draw_haar_angles(batch, max_angle, generator)
    else:
        direction = torch.eye(3, device=device, dtype=dtype)[AXES.index(axis)]
        direction = direction.expand(len(batch), 3)
        angle = draw_uniform(batch, -max_angle, max_angle, generator)
    return _rotation_about(direction, angle)


def _inrs(batch: WeightBatch) -> INRArchitecture:
    return require_inrs(batch.architecture, "maps of the input space")


def _draw_haar_angles(batch: WeightBatch, max_angle: float, generator: torch.Generator) -> Tensor:
    """Draw angles (B,) in [0, max_angle] with the density ``1 - cos`` that uniform on SO(3) has."""
    mass = draw_uniform(batch, 0, max_angle - math.sin(max_angle), generator)
    angle = (6 * mass).pow(1 / 3)  # solves angle - sin(angle) = mass to third order
    for _ in range(6):  # Newton: float64 accuracy over [0, pi]
        slope = 2 * (angle / 2).sin().square()
        angle = angle - (angle - angle.sin() - mass) / slope.clamp_min(1e-30)
    return torch.clamp(angle, 0, max_angle)


def _rotation_about(direction: Tensor, angle: Tensor) -> Tensor:
    """Give the matrices (B, 3, 3) that turn by angle (B,) about unit directions (B, 3)."""
    eye = torch.eye(3, device=direction.device, dtype=direction.dtype).expand(len(direction), 3, 3)
    cross = torch.linalg.cross(direction[:, None, :].expand_as(eye), eye).mT
    sin, cos = angle.sin()[:, None, None], angle.cos()[:, None, None]
    rotation: Tensor = eye + sin * cross + (1 - cos) * (cross @ cross)
    return rotation


def _check_rotation(max_angle_degrees: float, axis: Axis | None) -> None:
    check_range("max_angle_degrees", max_angle_degrees, 0, 180)
    if axis is not None and axis not in AXES:
        raise ValueError(f"axis must be one of {AXES} or None, got {axis!r}")


def _require_linear(name: str, networks: Architecture) -> INRArchitecture:
    """Give the architecture of INRs whose first layer takes any linear map of the inputs."""
    architecture = require_inrs(networks, name)
    if architecture.encoding is not None:
        raise ValueError(
            f"{name} is not exact behind a Fourier encoding, whose frequencies it would change; "
            "Translation and Flip are"
        )
    return architecture


def _check_rotatable(name: str, axis: Axis | None, networks: Architecture) -> None:
    architecture = _require_linear(name, networks)
    if architecture.in_features not in (2, 3):
        raise ValueError(
            f"{name} is for INRs with 2 or 3 inputs, got {architecture.in_features} "
            f"(widths {architecture.widths})"
        )
    if axis is not None and architecture.in_features != 3:
        raise ValueError(
            f"{name} has an axis ({axis!r}) in 3-D alone, got INRs with "
            f"{architecture.in_features} inputs (widths {architecture.widths})"
        )


class Rotation(Augmentation):
    """Rotate the input space of 2-D or 3-D INRs: f(x) becomes f(R x) exactly.

    Args:
        max_angle_degrees: R is uniform among the rotations by at most this angle, in [0, 180];
            180 is any rotation, uniform on SO(3) in 3-D.
        axis: In 3-D, turn about this axis alone, e.g. ``"z"`` for upright shapes; None is any.
        p: Probability that an INR is changed.

    Raises:
        ValueError: ``max_angle_degrees`` is not in [0, 180]; at the first batch, the INRs do not
            have 2 or 3 inputs, an axis is given for 2, or they have an encoding.
    """

    def __init__(
        self, max_angle_degrees: float = 30.0, axis: Axis | None = None, p: float = 1.0
    ) -> None:
        super().__init__(p)
        _check_rotation(max_angle_degrees, axis)
        self.max_angle_degrees = max_angle_degrees
        self.axis = axis

    def check_architecture(self, architecture: Architecture) -> None:
        _check_rotatable("Rotation", self.axis, architecture)

    def draw(self, batch: WeightBatch, generator: torch.Generator) -> Params:
        return {"matrix": draw_rotations(batch, self.max_angle_degrees, self.axis, generator)}

    def transform(self, batch: WeightBatch, params: Params) -> WeightBatch:
        return transform_input(batch, matrix=params["matrix"])


class Translation(Augmentation):
    """Translate the input space: f(x) becomes f(x + t) exactly.

    Args:
        max_shift: t is uniform in ± this along every input, in units of the coordinates; >= 0.
        p: Probability that an INR is changed.

    Raises:
        ValueError: ``max_shift`` is negative or not finite.
    """

    def __init__(self, max_shift: float = 0.25, p: float = 1.0) -> None:
        super().__init__(p)
        check_range("max_shift", max_shift, 0)
        self.max_shift = max_shift

    def check_architecture(self, architecture: Architecture) -> None:
        require_inrs(architecture, "Translation")

    def draw(self, batch: WeightBatch, generator: torch.Generator) -> Params:
        inputs = _inrs(batch).in_features
        return {"shift": draw_uniform(batch, -self.max_shift, self.max_shift, generator, inputs)}

    def transform(self, batch: WeightBatch, params: Params) -> WeightBatch:
        return transform_input(batch, shift=params["shift"])


class Scaling(Augmentation):
    """Scale the input space: f(x) becomes f(s x) exactly, or f(s x) / s for an SDF.

    Args:
        max_change: s is uniform in 1 ± this, per INR; in [0, 1).
        rescale_output: Divide the output by s. A signed distance function scaled by 1 / s is
            one of the scaled shape only if its values, which are lengths, scale too.
        p: Probability that an INR is changed.

    Raises:
        ValueError: ``max_change`` is not in [0, 1); at the first batch, the INRs have an encoding.
    """

    def __init__(
        self, max_change: float = 0.2, rescale_output: bool = False, p: float = 1.0
    ) -> None:
        super().__init__(p)
        _check_scale_change("max_change", max_change)
        self.max_change = max_change
        self.rescale_output = rescale_output

    def check_architecture(self, architecture: Architecture) -> None:
        _require_linear("Scaling", architecture)

    def draw(self, batch: WeightBatch, generator: torch.Generator) -> Params:
        return {"scale": draw_uniform(batch, 1 - self.max_change, 1 + self.max_change, generator)}

    def transform(self, batch: WeightBatch, params: Params) -> WeightBatch:
        scale = params["scale"]
        if self.rescale_output:
            scaled = transform_output(batch, 1 / scale, torch.zeros_like(scale))
        else:
            scaled = copy_parameters(batch)
        weight = scaled.weights[0]
        weight.mul_(scale.to(weight.dtype)[:, None, None])
        return scaled


def _check_scale_change(name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise ValueError(f"{name} must be in [0, 1), got {value}")


class Flip(Augmentation):
    """Mirror the input space: f(x) becomes f(-x) along the chosen inputs exactly.

    Args:
        axes: Which inputs may be flipped, each on its own; 0 is x, the horizontal one.
        flip_probability: Probability that an input is flipped.
        p: Probability that an INR is changed.

    Raises:
        ValueError: ``flip_probability`` is not in [0, 1], or an axis is negative or given twice;
            at the first batch, the INRs lack one of the inputs.
    """

    def __init__(
        self, axes: Sequence[int] = (0,), flip_probability: float = 0.5, p: float = 1.0
    ) -> None:
        super().__init__(p)
        check_probability("flip_probability", flip_probability)
        if len(set(axes)) != len(axes) or any(axis < 0 for axis in axes):
            raise ValueError(f"axes must be different and not negative, got {tuple(axes)}")
        self.axes = tuple(axes)
        self.flip_probability = flip_probability

    def check_architecture(self, architecture: Architecture) -> None:
        inrs = require_inrs(architecture, "Flip")
        if max(self.axes, default=-1) >= inrs.in_features:
            raise ValueError(
                f"Flip along axes {self.axes} is wrong for INRs with {inrs.in_features} "
                f"inputs (widths {inrs.widths})"
            )

    def draw(self, batch: WeightBatch, generator: torch.Generator) -> Params:
        return {"flip": draw_bernoulli(batch, self.flip_probability, generator, len(self.axes))}

    def transform(self, batch: WeightBatch, params: Params) -> WeightBatch:
        flipped = copy_parameters(batch)
        weight, inrs = flipped.weights[0], _inrs(batch)
        signs = weight.new_ones(len(batch), inrs.in_features)
        for number, axis in enumerate(self.axes):
            signs[:, axis] -= 2 * params["flip"][:, number].to(weight.dtype)
        if inrs.encoding is None:
            weight.mul_(signs[:, None, :])
        else:
            weight.copy_(inrs.encoding.flip(weight, signs))
        return flipped


class Affine(Augmentation):
    """Map the input space of 2-D or 3-D INRs affinely: f(x) becomes f(M x + t) exactly.

    ``M = R K S``: a scale per input S, a shear K (unit upper triangular) and a rotation R.

    Args:
        max_angle_degrees: As in ``Rotation``.
        max_shift: As in ``Translation``.
        max_scale_change: Each input's scale is uniform in 1 ± this; in [0, 1).
        max_shear: Each entry of K above its diagonal is uniform in ± this; >= 0.
        axis: As in ``Rotation``.
        p: Probability that an INR is changed.

    Raises:
        ValueError: As in ``Rotation``, ``Translation`` and ``Scaling``, or ``max_shear`` is
            negative or not finite.
    """

    def __init__(
        self,
        max_angle_degrees: float = 30.0,
        max_shift: float = 0.25,
        max_scale_change: float = 0.2,
        max_shear: float = 0.1,
        axis: Axis | None = None,
        p: float = 1.0,
    ) -> None:
        super().__init__(p)
        _check_rotation(max_angle_degrees, axis)
        check_range("max_shift", max_shift, 0)
        _check_scale_change("max_scale_change", max_scale_change)
        check_range("max_shear", max_shear, 0)
        self.max_angle_degrees = max_angle_degrees
        self.max_shift = max_shift
        self.max_scale_change = max_scale_change
        self.max_shear = max_shear
        self.axis = axis

    def check_architecture(self, architecture: Architecture) -> None:
        _check_rotatable("Affine", self.axis, architecture)

    def draw(self, batch: WeightBatch, generator: torch.Generator) -> Params:
        inputs, change = _inrs(batch).in_features, self.max_scale_change
        rotation = draw_rotations(batch, self.max_angle_degrees, self.axis, generator)
        shear = draw_uniform(batch, -self.max_shear, self.max_shear, generator, inputs, inputs)
        shear = shear.triu(1) + torch.eye(inputs, device=shear.device, dtype=shear.dtype)
        scale = draw_uniform(batch, 1 - change, 1 + change, generator, inputs)
        shift = draw_uniform(batch, -self.max_shift, self.max_shift, generator, inputs)
        return {"matrix": rotation @ shear * scale[:, None, :], "shift": shift}

    def transform(self, batch: WeightBatch, params: Params) -> WeightBatch:
        return transform_input(batch, matrix=params["matrix"], shift=params["shift"])
