"""What an INR's inputs and outputs mean: which axis comes first, and which value is black."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_dws.errors import DataError
from lightning_dws.inrs.signals.base import pixel_coordinates
from lightning_dws.weight_space import INRArchitecture, WeightBatch, require_inrs

AXIS_ORDERS = ("xy", "ij")
_SQUARES = 8  # along the shorter side of a checkerboard
_LIGHT_SQUARE, _DARK_SQUARE = 0.85, 0.65


@dataclass(frozen=True)
class ImageConvention:
    """How the images of a dataset were given to its INRs.

    Attributes:
        axis_order: ``"xy"``: the first input is the column, x; ``"ij"``: it is the row.
        value_range: What black and white are as outputs.
        has_alpha: Whether the last output is how opaque a pixel is, and no colour.
        is_volume: Whether INRs with three inputs give the values of a volume, as of an image, and
            no signed distances.

    Raises:
        ValueError: An unknown axis order, or a range that is empty or not finite.
    """

    axis_order: str = "xy"
    value_range: tuple[float, float] = (0.0, 1.0)
    has_alpha: bool = False
    is_volume: bool = False

    def __post_init__(self) -> None:
        low, high = (float(value) for value in self.value_range)
        object.__setattr__(self, "value_range", (low, high))
        if self.axis_order not in AXIS_ORDERS:
            raise ValueError(f"axis_order must be one of {AXIS_ORDERS}, got {self.axis_order!r}")
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ValueError(f"value_range must be finite and ascending, got {self.value_range}")

    def check(self, architecture: INRArchitecture) -> None:
        """Make sure that INRs can be of this convention.

        Raises:
            DataError: They have other inputs or outputs than it speaks of.
        """
        inputs, outputs = architecture.in_features, architecture.out_features
        if self.has_alpha and (inputs != 2 or outputs not in (2, 4)):
            raise DataError(
                f"INRs with {inputs} inputs and {outputs} outputs have no alpha: expected 2 "
                "inputs, and 2 or 4 outputs"
            )
        if self.is_volume and inputs != 3:
            raise DataError(f"INRs with {inputs} inputs are of no volumes, expected 3")
        if self.axis_order != "xy" and inputs != 2:
            raise DataError(
                f"INRs with {inputs} inputs have no axis order, expected 2: row and column"
            )

    def coordinates(self, height: int, width: int) -> Tensor:
        """Give the inputs for an image's pixels, row by row: (height * width, 2)."""
        points = pixel_coordinates(height, width)
        return points if self.axis_order == "xy" else points.flip(1)

    def to_unit_range(self, values: Tensor) -> Tensor:
        """Map outputs to [0, 1], from black to white, and clip what lies beyond."""
        low, high = self.value_range
        return ((values - low) / (high - low)).clamp(0, 1)

    def to_visible(self, images: Tensor) -> Tensor:
        """Put transparent images (..., height, width, channels) in [0, 1] on a checkerboard.

        Returns:
            The colours, one channel less; other images as they are.
        """
        if not self.has_alpha:
            return images
        height, width = images.shape[-3:-1]
        size = max(1, min(height, width) // _SQUARES)
        rows, columns = (torch.arange(length) // size for length in (height, width))
        dark = ((rows[:, None] + columns) % 2)[..., None].to(images)
        board = _LIGHT_SQUARE + (_DARK_SQUARE - _LIGHT_SQUARE) * dark
        return torch.lerp(board.expand_as(images[..., :-1]), images[..., :-1], images[..., -1:])


DEFAULT = ImageConvention()


def convert_exactly(
    batch: WeightBatch, found: ImageConvention, wanted: ImageConvention, output_offset: float
) -> WeightBatch | None:
    """Rewrite INRs for another convention, if that changes no bit that cannot be changed back.

    The inputs are exchanged by exchanging columns of the first weight; the outputs are scaled
    in the last layer, which is exact where the scale is a power of two.

    Args:
        batch: Of 2-D INRs.
        found: The convention that they follow.
        wanted: The one that they shall follow.
        output_offset: The output offset that they shall have.

    Returns:
        The INRs, or None where a scale or an offset could not be undone exactly.

    Raises:
        DataError: Weights so small or large that scaling them loses bits.
    """
    architecture = require_inrs(batch.architecture, "a convention of images")
    low, high = found.value_range
    wanted_low, wanted_high = wanted.value_range
    scale = (wanted_high - wanted_low) / (high - low)
    shift = scale * (architecture.output_offset - low) + wanted_low - output_offset
    if math.frexp(scale)[0] != 0.5 or shift != 0:
        return None
    parameters = batch.parameters.clone()
    last = slice(architecture.weight_slices[-1].start, None)
    parameters[:, last] *= scale
    if not torch.equal(parameters[:, last] / scale, batch.parameters[:, last]):
        raise DataError(
            f"weights of the last layer cannot be multiplied by {scale:g} without loss: "
            "they are too small or too large for float32"
        )
    if found.axis_order != wanted.axis_order:
        first = architecture.weight_slices[0]
        # all inputs of a feature behind an encoding, or the inputs themselves, stand side by side
        columns = parameters[:, first].unflatten(1, (-1, architecture.in_features))
        parameters[:, first] = columns.flip(2).flatten(1)
    return batch.replace(parameters=parameters)
