"""The parameter tensors of an INR, and which of their axes can be permuted.

The INR's inputs and outputs cannot be permuted; these axes are folded into the channels. A tensor's
features are (B, fold * channels, *axes).
"""

import math
from typing import NamedTuple

from lightning_dws.weight_space import INRArchitecture

Axes = tuple[int, ...]


class ParameterTensor(NamedTuple):
    """A weight matrix or bias vector of the INRs.

    Attributes:
        name: ``"weight0"``, ``"bias0"``, ...
        axes: The layers of neurons along its permutable axes, in memory order.
        fold: How many positions of other axes are folded into the channels.
    """

    name: str
    axes: Axes
    fold: int


def parameter_tensors(architecture: INRArchitecture) -> list[ParameterTensor]:
    """Name the axes of all weights, then of all biases."""
    last = architecture.num_layers
    widths = architecture.widths

    def name_axes(name: str, axes: Axes) -> ParameterTensor:
        fold = math.prod(widths[axis] for axis in axes if axis in (0, last))
        return ParameterTensor(name, tuple(axis for axis in axes if 0 < axis < last), fold)

    weights = [name_axes(f"weight{layer}", (layer + 1, layer)) for layer in range(last)]
    biases = [name_axes(f"bias{layer}", (layer + 1,)) for layer in range(last)]
    return weights + biases
