"""Maps of the INR's output: the last layer takes them exactly."""

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
    draw_uniform,
)
from lightning_dws.weight_space import Architecture, WeightBatch, require_inrs


def transform_output(
    batch: WeightBatch, scale: Float[Tensor, "batch"], shift: Float[Tensor, "batch"]
) -> WeightBatch:
    """Turn every INR f into ``scale f + shift``, exactly and in new memory.

    The architecture's output offset is part of f, and the shift is added to every output.
    """
    offset = require_inrs(batch.architecture, "maps of the output").output_offset
    moved = copy_parameters(batch)
    weight, bias = moved.weights[-1], moved.biases[-1]
    scale, shift = scale.to(weight.dtype), shift.to(weight.dtype)
    weight.mul_(scale[:, None, None])
    bias.add_(offset).mul_(scale[:, None]).add_(shift[:, None]).sub_(offset)
    return moved


class Intensity(Augmentation):
    """Change contrast and brightness of the signal, and invert it: f becomes exactly a f + c.

    ``y' = pivot + contrast (y - pivot) + brightness``, with a negative contrast where inverted.

    Args:
        max_contrast_change: Contrast is uniform in 1 ± this, per INR; in [0, 1].
        max_brightness_change: Brightness is uniform in ± this, per INR; >= 0.
        invert_probability: Probability that a signal is inverted.
        pivot: The value that contrast and inversion keep: 0.5 for images in [0, 1], 0 for images
            in [-1, 1].
        p: Probability that an INR is changed.

    Raises:
        ValueError: An argument is out of its range.
    """

    def __init__(
        self,
        max_contrast_change: float = 0.2,
        max_brightness_change: float = 0.1,
        invert_probability: float = 0.0,
        pivot: float = 0.5,
        p: float = 1.0,
    ) -> None:
        super().__init__(p)
        check_probability("max_contrast_change", max_contrast_change)
        check_range("max_brightness_change", max_brightness_change, 0)
        check_probability("invert_probability", invert_probability)
        check_range("pivot", pivot, -float("inf"))
        self.max_contrast_change = max_contrast_change
        self.max_brightness_change = max_brightness_change
        self.invert_probability = invert_probability
        self.pivot = pivot

    def check_architecture(self, architecture: Architecture) -> None:
        require_inrs(architecture, "Intensity")

    def draw(self, batch: WeightBatch, generator: torch.Generator) -> Params:
        change, brightness_change = self.max_contrast_change, self.max_brightness_change
        contrast = draw_uniform(batch, 1 - change, 1 + change, generator)
        brightness = draw_uniform(batch, -brightness_change, brightness_change, generator)
        invert = draw_bernoulli(batch, self.invert_probability, generator)
        scale = torch.where(invert, -contrast, contrast)
        return {"scale": scale, "shift": self.pivot * (1 - scale) + brightness}

    def transform(self, batch: WeightBatch, params: Params) -> WeightBatch:
        return transform_output(batch, params["scale"], params["shift"])
