"""Linear maps between parameter tensors, those along the same axes as one matrix product."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lightning_dws.models.index_tensors import IndexTensors
from lightning_dws.models.parameter_axes import Axes


class LinearMap(NamedTuple):
    """One linear map of a layer, from a source to a target.

    The source is pooled to the axes ``along``, mapped there, and broadcast to the target's axes.
    """

    target: int
    source: int
    along: Axes
    coefficient: float
    bias: bool


class MergedLinear(IndexTensors):
    """All linear maps along the same axes as one matrix product, blocks by target and source.

    Attributes:
        weight: The entries of the blocks that exist, in row-major order of the merged matrix.
        coefficients: Of the entries of the merged matrix, 0 where no block is.
    """

    coefficients: Float[Tensor, "target_channels source_channels"]
    _entries: Tensor

    def __init__(
        self, maps: list[LinearMap], in_channels: list[int], out_channels: list[int]
    ) -> None:
        super().__init__()
        self.scale = 1 / len(in_channels)
        self.sources = sorted({block.source for block in maps})
        self.targets = sorted({block.target for block in maps})
        self.in_channels = [in_channels[source] for source in self.sources]
        self.out_channels = [out_channels[target] for target in self.targets]
        coefficients = torch.zeros(sum(self.out_channels), sum(self.in_channels))
        weight = torch.zeros_like(coefficients)
        for block in maps:
            where = self.block(block.target, block.source)
            coefficients[where] = block.coefficient
            initialise(weight[where])
        exists = coefficients != 0
        self.is_dense = bool(exists.all())
        self.register_buffer("coefficients", coefficients, persistent=False)
        self.set_index("_entries", exists.flatten().nonzero()[:, 0])
        self.weight = nn.Parameter(weight[exists])

    def block(self, target: int, source: int) -> tuple[slice, slice]:
        """Where a pair's block stands in the merged matrix."""
        row, column = self.targets.index(target), self.sources.index(source)
        start, first = sum(self.out_channels[:row]), sum(self.in_channels[:column])
        return (
            slice(start, start + self.out_channels[row]),
            slice(first, first + self.in_channels[column]),
        )

    def matrix(self, dtype: torch.dtype) -> Float[Tensor, "target_channels source_channels"]:
        """Give the merged matrix, coefficients applied."""
        if self.is_dense:
            dense = self.weight.view_as(self.coefficients)
        else:
            zeros = torch.zeros_like(self.coefficients)
            dense = zeros.flatten().index_copy(0, self._entries, self.weight).view_as(zeros)
        return (dense * self.coefficients).mul_(self.scale).to(dtype)


def initialise(weight: Float[Tensor, "*blocks out in"]) -> Float[Tensor, "*blocks out in"]:
    """Fill weights as the authors do: Glorot's normal times sqrt(2 in / out)."""
    out_channels, in_channels = weight.shape[-2:]
    gain = math.sqrt(2 * in_channels / out_channels)
    std = gain * math.sqrt(2 / (in_channels + out_channels))
    return nn.init.normal_(weight, std=std)


def initialise_bias(bias: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Fill a bias as the authors do, with next to nothing."""
    return nn.init.uniform_(bias, -1e-4, 1e-4)
