"""The parameter tensors of networks, and which of their axes can be permuted.

Inputs and outputs cannot be permuted: these axes are folded into the channels, in all layers. A
tensor's features are (B, fold * channels, *axes). The positions of a kernel, or of a feature map
that was flattened, are the first channels of an entry, as others have one.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from lightning_dws.weight_space import Architecture, TensorSpec, WeightBatch

Axes = tuple[int, ...]


class ParameterTensor(NamedTuple):
    """A weight or bias of the networks.

    Attributes:
        name: ``"weight0"``, ``"bias0"``, ...
        axes: The groups of hidden neurons along its permutable axes, in memory order, by number; an
            INR's are its layers.
        fold: How many inputs or outputs are folded into the channels.
        features: Numbers that an entry is: 1, or the positions of a kernel.
    """

    name: str
    axes: Axes
    fold: int
    features: int = 1

    @property
    def is_loop(self) -> bool:
        """Whether it maps a group to itself: both its axes are permuted as one."""
        return len(self.axes) == 2 and self.axes[0] == self.axes[1]

    def shared(self, source: "ParameterTensor") -> Axes:
        """Give the axes that it shares with another tensor, in its own order."""
        if self.is_loop and source.axes == self.axes:
            return self.axes
        return tuple(dict.fromkeys(axis for axis in self.axes if axis in source.axes))


def _in_order(architecture: Architecture) -> list[tuple[int, TensorSpec]]:
    """Give all weights, then all biases, with their places in the architecture."""
    return sorted(enumerate(architecture.tensors), key=lambda numbered: not numbered[1].is_weight)


def parameter_tensors(architecture: Architecture) -> list[ParameterTensor]:
    """Name the axes of all weights, then of all biases."""
    numbers = {group: number for number, group in enumerate(architecture.groups, start=1)}
    return [
        ParameterTensor(
            spec.name,
            tuple(numbers[axis] for axis in spec.axes if axis is not None),
            math.prod(
                n for n, axis in zip(spec.shape[:2], spec.axes, strict=False) if axis is None
            ),
            math.prod(spec.shape[2:]),
        )
        for _, spec in _in_order(architecture)
    ]


def fold_tensors(batch: WeightBatch) -> list[Float[Tensor, "batch _folded_features ..."]]:
    """Give tensors as (B, fold * features, *axes), in the order of ``parameter_tensors``."""
    tensors, folded = batch.tensors, []
    for number, spec in _in_order(batch.architecture):
        fixed = [axis for axis, group in enumerate(spec.axes, start=1) if group is None]
        permutable = [axis for axis, group in enumerate(spec.axes, start=1) if group is not None]
        sizes = [spec.shape[axis - 1] for axis in permutable]
        moved = tensors[number].permute(0, *fixed, *permutable)
        if fixed and permutable and fixed[0] > permutable[0]:
            moved = moved.contiguous()
        folded.append(moved.reshape(len(batch), spec.num_entries // math.prod(sizes), *sizes))
    return folded


def unfold_tensors(
    features: list[Float[Tensor, "batch _folded_channels ..."]],
    architecture: Architecture,
    channels: int,
) -> Float[Tensor, "batch parameters channels"]:
    """Give features of tensors, as ``fold_tensors`` has them, as those of entries in row order."""
    rows = {}
    for (number, spec), x in zip(_in_order(architecture), features, strict=True):
        fixed = [axis for axis, group in enumerate(spec.axes) if group is None]
        permutable = [axis for axis, group in enumerate(spec.axes) if group is not None]
        x = x.unflatten(1, (*(spec.shape[axis] for axis in fixed), channels))
        now = [*fixed, None, *permutable]  # axes behind the batch's, None the channels
        order = [1 + now.index(axis) for axis in (*range(len(spec.axes)), None)]
        rows[number] = x.permute(0, *order).flatten(1, -2)
    return torch.cat([rows[number] for number in sorted(rows)], 1)
