"""Encode every weight of an INR for the edges that it makes, once and cheaply.

An edge's first features are one function of one number, its weight: Fourier features, then a
linear map. A batch holds some 10^5 weights, and two sines for each of a hundred frequencies would
cost more than the rest of the network. But the function is smooth: on a CPU it is tabulated where
the batch has weights, some thousand rows, and interpolated between.
"""

import math
from typing import Any

import torch
from jaxtyping import Float, Float64
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from lightning_dws.models.edge_kernels import NUM_POINTS, edge_kernels

_RADIANS_PER_ROW = 0.5  # of the highest frequency, whose interpolation is then within 4e-6
_MAX_ROWS = 2**16


def encode_weights(
    values: Float[Tensor, "*shape"],
    frequencies: Float[Tensor, "directions frequencies"],
    weight: Float[Tensor, "channels 2*frequencies"],
    bias: Float[Tensor, "channels"],
) -> Float[Tensor, "*shape directions channels"]:
    """Give ``weight @ [cos(2 pi f v), sin(2 pi f v)] + bias`` of every value and direction.

    The frequencies f are not learned.
    """
    turns = values[..., None, None] * frequencies
    angles = (2 * math.pi * (turns - turns.detach().round())).to(weight.dtype)
    return functional.linear(torch.cat([angles.cos(), angles.sin()], -1), weight, bias)


def encode_features(
    values: Float[Tensor, "*shape features"],
    frequencies: Float[Tensor, "directions frequencies features"],
    weight: Float[Tensor, "channels 2*frequencies"],
    bias: Float[Tensor, "channels"],
) -> Float[Tensor, "*shape directions channels"]:
    """Encode several numbers of an edge, such as a kernel's; of one it is ``encode_weights``."""
    if frequencies.shape[-1] == 1:
        return encode_weights(values[..., 0], frequencies[..., 0], weight, bias)
    turns = (values @ frequencies.flatten(0, 1).T).unflatten(-1, frequencies.shape[:2])
    angles = (2 * math.pi * turns).to(weight.dtype)
    return functional.linear(torch.cat([angles.cos(), angles.sin()], -1), weight, bias)


def tabulate(
    values: Float[Tensor, "*shape"],
    frequencies: Float[Tensor, "directions frequencies"],
    weight: Float[Tensor, "channels 2*frequencies"],
    bias: Float[Tensor, "channels"],
) -> tuple[Float[Tensor, "rows directions channels"], Float64[Tensor, "*shape"]] | None:
    """Encode equidistant points where the values are, for ``interpolate``.

    Returns:
        The table, and where in it, counted in rows, the values are; or None where there is nothing
        to gain: the values are few, or far apart, or not finite.
    """
    highest = frequencies.abs().max().item()
    if values.numel() == 0 or highest == 0:
        return None
    low, high = values.min().item(), values.max().item()
    spacing = _RADIANS_PER_ROW / (2 * math.pi * highest)
    rows = (high - low) / spacing + NUM_POINTS
    if not rows <= min(_MAX_ROWS, values.numel()):
        return None
    first = low - NUM_POINTS // 2 * spacing
    points = first + spacing * torch.arange(int(rows) + 2, dtype=torch.float64)
    table = encode_weights(points, frequencies.double(), weight, bias)
    return table, (values.double() - first) / spacing


def interpolate(
    positions: Float[Tensor, "*shape"], table: Float[Tensor, "rows directions channels"]
) -> Float[Tensor, "*shape directions channels"]:
    """Give rows of a table at positions.

    By polynomials of degree 7, within 4e-6 of the Fourier features of the highest frequency, and
    closer for lower ones.
    """
    return _Interpolate.apply(positions, table)  # type: ignore[no-any-return, no-untyped-call]


class _Interpolate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, positions: Tensor, table: Tensor) -> Tensor:
        out = table.new_empty(*positions.shape, *table.shape[1:])
        rows, directions, dim = table.shape
        width = directions * dim
        edge_kernels(dim, directions).interpolate(
            positions.reshape(-1).numpy(),
            table.reshape(rows, width).numpy(),
            out.view(-1, width).numpy(),
            width,
        )
        ctx.save_for_backward(positions)
        ctx.table_shape = table.shape
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> Any:
        (positions,) = ctx.saved_tensors
        rows, directions, dim = ctx.table_shape
        width = directions * dim
        grad_table = grad_out.new_zeros(ctx.table_shape)
        edge_kernels(dim, directions).interpolate_backward(
            positions.reshape(-1).numpy(),
            grad_out.reshape(-1, width).numpy(),
            grad_table.view(rows, width).numpy(),
            width,
        )
        return None, grad_table
