"""Encode every weight of an INR for the edges that it makes, once and cheaply.

An edge's first features are one function of one number, its weight: Fourier features, then a
linear map. A batch holds some 10^5 weights, and two sines for each of a hundred frequencies would
cost more than the rest of the network. But the function is smooth: on a CPU it is tabulated where
the batch has weights, some thousand rows, and interpolated between.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from lightning_dws.models.dense_edges import takes_kernels
from lightning_dws.models.edge_kernels import NUM_POINTS, edge_kernels
from lightning_dws.parallel import map_in_threads

_RADIANS_PER_ROW = 0.5  # of the highest frequency, whose interpolation is then within 4e-6
_MAX_ROWS = 2**16
_PARTS = 8  # of a batch; fixed, so that results do not depend on the number of threads


def encode_weights(values: Tensor, frequencies: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Give ``weight @ [cos(2 pi f v), sin(2 pi f v)] + bias`` of every value and direction.

    In float32 on a CPU the result is interpolated, within 4e-6 of the features, unless a gradient
    of the values is wanted; otherwise it is exact.

    Args:
        values: (B, W).
        frequencies: (directions, F) f, which are not learned.
        weight: (D, 2 F).
        bias: (D,).

    Returns:
        (B, W, directions, D).
    """
    if takes_kernels(values) and values.dtype == torch.float32 and not values.requires_grad:
        low, high = values.min().item(), values.max().item()
        spacing = _RADIANS_PER_ROW / (2 * math.pi * frequencies.abs().max().item())
        rows = (high - low) / spacing + NUM_POINTS
        if rows <= min(_MAX_ROWS, values.numel()):  # false if values are not finite
            first = low - NUM_POINTS // 2 * spacing
            points = first + spacing * torch.arange(int(rows) + 2, dtype=torch.float64)
            table = _encode(points, frequencies.double(), weight, bias)
            positions = (values.double() - first) / spacing
            return _Interpolate.apply(positions, table)  # type: ignore[no-any-return, no-untyped-call]
    return _encode(values, frequencies, weight, bias)


def _encode(values: Tensor, frequencies: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    turns = values[..., None, None] * frequencies
    angles = (2 * math.pi * (turns - turns.detach().round())).to(weight.dtype)
    return functional.linear(torch.cat([angles.cos(), angles.sin()], -1), weight, bias)


class _Interpolate(torch.autograd.Function):
    """Rows (B, W, directions, D) of a table (K, directions, D) at positions (B, W)."""

    @staticmethod
    def forward(ctx: Any, positions: Tensor, table: Tensor) -> Tensor:
        out = table.new_empty(*positions.shape, *table.shape[1:])
        kernels = edge_kernels(table.shape[2], table.shape[1])
        width = table[0].numel()
        flat = table.reshape(-1, width).numpy()

        def interpolate(part: tuple[Tensor, Tensor]) -> None:
            kernels.interpolate(
                part[0].view(-1).numpy(), flat, part[1].view(-1, width).numpy(), width
            )

        map_in_threads(interpolate, list(zip(*_parts(positions, out), strict=True)))
        ctx.save_for_backward(positions)
        ctx.table_shape = table.shape
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> Any:
        (positions,) = ctx.saved_tensors
        rows, directions, dim = ctx.table_shape
        kernels, width = edge_kernels(dim, directions), directions * dim

        def differentiate(part: tuple[Tensor, Tensor]) -> Tensor:
            grad_table = grad_out.new_zeros(rows, width)
            kernels.interpolate_backward(
                part[0].view(-1).numpy(),
                part[1].view(-1, width).numpy(),
                grad_table.numpy(),
                width,
            )
            return grad_table

        parts = list(zip(*_parts(positions, grad_out.contiguous()), strict=True))
        grad_table = torch.stack(map_in_threads(differentiate, parts)).sum(0)
        return None, grad_table.view(ctx.table_shape)


def _parts(*tensors: Tensor) -> list[tuple[Tensor, ...]]:
    """Split each tensor's batch into a fixed number of parts."""
    size = max(1, math.ceil(len(tensors[0]) / _PARTS))
    return [tensor.split(size) for tensor in tensors]
