"""Pool a matrix of neurons over its axes, once for every map that needs it, and map its entries.

The backward passes are written by hand: autograd's own would each time allocate, fill and add
gradients as large as the input, which for max costs as much as all matrix products together.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

_CACHED_ENTRIES = 2**18  # at a time on a CPU, such that what is made of them stays in the L2 cache

REDUCTIONS = ("max", "mean", "sum")


def pool(x: Float[Tensor, "*shape neurons"], reduction: str) -> Float[Tensor, "*shape"]:
    """Reduce the last axis."""
    if reduction == "max":
        return _MaxPool.apply(x)  # type: ignore[no-any-return, no-untyped-call]
    return x.mean(-1) if reduction == "mean" else x.sum(-1)


def pool_matrix(
    x: Float[Tensor, "batch channels rows columns"], reduction: str
) -> tuple[
    Float[Tensor, "batch channels rows columns"],
    Float[Tensor, "batch channels rows"],
    Float[Tensor, "batch channels columns"],
]:
    """Reduce each of the last two axes: x to x itself, its rows and its columns.

    Use the returned x from there on: then the gradients of all three meet in one place.
    """
    if reduction == "max":
        return _MaxPoolMatrix.apply(x)  # type: ignore[no-any-return, no-untyped-call]
    n, m = x.shape[-2:]
    scales = (1 / m, 1 / n) if reduction == "mean" else (1.0, 1.0)
    return _SumPoolMatrix.apply(x, *scales)  # type: ignore[no-any-return, no-untyped-call]


def map_entries(
    x: Float[Tensor, "batch in rows columns"],
    matrix: Float[Tensor, "out in"],
    rows: Float[Tensor, "batch out rows"],
    columns: Float[Tensor, "batch out columns"],
) -> Float[Tensor, "batch out rows columns"]:
    """Map every entry's channels and add what depends on its row and on its column alone."""
    return _MapEntries.apply(x, matrix, rows, columns)  # type: ignore[no-any-return, no-untyped-call]


class _MaxPool(torch.autograd.Function):
    """Max over the last axis; equal maxima share the gradient equally."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        maxima = x.amax(-1)
        ctx.save_for_backward(x, maxima)
        return maxima

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_maxima: Tensor) -> Any:
        x, maxima = ctx.saved_tensors
        at_maximum = _ones_where_equal(x, maxima[..., None])
        return at_maximum.mul_((grad_maxima / at_maximum.sum(-1))[..., None])


class _SumPoolMatrix(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, row_scale: float, column_scale: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.scales = row_scale, column_scale
        return x.view_as(x), x.sum(-1).mul_(row_scale), x.sum(-2).mul_(column_scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_x: Tensor, grad_rows: Tensor, grad_columns: Tensor) -> Any:
        row_scale, column_scale = ctx.scales
        grad = (grad_rows * row_scale)[..., None] + (grad_columns * column_scale)[..., None, :]
        return grad.add_(grad_x), None, None


class _MaxPoolMatrix(torch.autograd.Function):
    """Max over either axis; equal maxima share the gradient equally."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        rows, columns = x.amax(-1), x.amax(-2)
        ctx.save_for_backward(x, rows, columns)
        return x.view_as(x), rows, columns

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_x: Tensor, grad_rows: Tensor, grad_columns: Tensor) -> Any:
        x, rows, columns = ctx.saved_tensors
        grad = torch.empty_like(x)
        inrs_at_once = max(1, len(x))
        if x.device.type == "cpu":
            inrs_at_once = max(1, _CACHED_ENTRIES // x.shape[1:].numel())
        chunks = (x, rows, columns, grad_x, grad_rows, grad_columns, grad)
        for x_, rows_, columns_, grad_x_, grad_rows_, grad_columns_, grad_ in zip(
            *(tensor.split(inrs_at_once) for tensor in chunks), strict=True
        ):
            at_maximum = _ones_where_equal(x_, rows_[..., None])
            share = (grad_rows_ / at_maximum.sum(-1))[..., None]
            torch.addcmul(grad_x_, at_maximum, share, out=grad_)
            at_maximum = _ones_where_equal(x_, columns_[..., None, :])
            share = (grad_columns_ / at_maximum.sum(-2))[..., None, :]
            grad_.addcmul_(at_maximum, share)
        return grad


def _ones_where_equal(x: Tensor, other: Tensor) -> Tensor:
    """Give 1 where the tensors are equal and 0 elsewhere, in the dtype of the first."""
    if x.device.type == "cpu":  # written at once, not first as booleans
        return torch.eq(x, other, out=torch.empty_like(x))
    return torch.eq(x, other).to(x.dtype)


class _MapEntries(torch.autograd.Function):
    """The sums over rows and columns are written once, then the product accumulates onto them."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, matrix: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        ctx.save_for_backward(x, matrix)
        entries = x.flatten(2)
        out = x.new_empty(len(x), len(matrix), *x.shape[2:])
        torch.add(rows[..., None], columns[..., None, :], out=out)
        out.flatten(2).baddbmm_(matrix.expand(len(x), -1, -1), entries)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        x, matrix = ctx.saved_tensors
        entries = grad.flatten(2)
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = torch.bmm(matrix.T.expand(len(x), -1, -1), entries).view_as(x)
        grad_matrix = torch.bmm(entries, x.flatten(2).mT).sum(0)
        return grad_x, grad_matrix, grad.sum(-1), grad.sum(-2)
