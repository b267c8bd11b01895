"""Take a batch through a function in chunks that stay in the cache, on all threads at once."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.autograd.function import once_differentiable

from lightning_dws.parallel import map_in_threads

Function = Callable[..., Tensor]


def in_chunks(
    function: Function,
    batched: Sequence[Shaped[Tensor, "batch ..."]],
    shared: Sequence[Tensor],
    size: int,
    keeps: bool = False,
) -> Float[Tensor, "batch ..."]:
    """Compute ``function(*batched, *shared)``, a few rows at a time, each chunk on one thread.

    Kept for the backward pass are the arguments alone: every chunk is computed again there, right
    before its gradients are. That costs a third of the arithmetic and saves more than that where
    intermediate results would not fit in the cache, and nearly all memory.

    Args:
        function: Maps tensors row by row, each row by itself. It draws no random numbers, needs no
            autocast, and gradients are wanted of its arguments alone.
        batched: Its first arguments.
        shared: Its other arguments, the same for all rows.
        size: Rows of a chunk.
        keeps: Whether to keep intermediate results for the backward pass nevertheless.
    """
    if not torch.is_grad_enabled():
        return _compute(function, batched, shared, size)
    return _InChunks.apply(function, size, keeps, len(batched), *batched, *shared)  # type: ignore[no-any-return, no-untyped-call]


def _compute(
    function: Function, batched: Sequence[Tensor], shared: Sequence[Tensor], size: int
) -> Tensor:
    chunks = map_in_threads(lambda rows: function(*rows, *shared), _split(batched, size))
    return torch.cat(chunks)


def _split(batched: Sequence[Tensor], size: int) -> list[tuple[Tensor, ...]]:
    return list(zip(*(tensor.split(size) for tensor in batched), strict=True))


def _record(
    function: Function, tensors: Sequence[Tensor], needed: Sequence[bool]
) -> tuple[list[Tensor], Tensor]:
    """Compute the function; give the tensors that gradients are wanted of, and the result."""
    # Tensors of the chunk's own: hooks of the user's are none of a chunk's business.
    arguments = [
        tensor.detach().requires_grad_(need) for tensor, need in zip(tensors, needed, strict=True)
    ]
    # As the forward pass was computed, even if a backward pass is called within autocast.
    with torch.enable_grad(), torch.autocast(arguments[0].device.type, enabled=False):
        out = function(*arguments)
    return [tensor for tensor in arguments if tensor.requires_grad], out


class _InChunks(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, function: Function, size: int, keeps: bool, num_batched: int, *tensors: Tensor
    ) -> Tensor:
        ctx.function, ctx.size, ctx.num_batched = function, size, num_batched
        ctx.save_for_backward(*tensors)
        batched, shared = tensors[:num_batched], tensors[num_batched:]
        needed, ctx.kept = ctx.needs_input_grad[4:], None
        if not keeps:
            return _compute(function, batched, shared, size)
        ctx.kept = map_in_threads(
            lambda rows: _record(function, [*rows, *shared], needed), _split(batched, size)
        )
        return torch.cat([out.detach() for _, out in ctx.kept])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> Any:
        batched, shared = (
            ctx.saved_tensors[: ctx.num_batched],
            ctx.saved_tensors[ctx.num_batched :],
        )
        needed = ctx.needs_input_grad[4:]
        chunks = _split([*batched, grad_out], ctx.size)
        kept, ctx.kept = ctx.kept, None  # another backward pass computes again

        def differentiate(number: int) -> Sequence[Tensor | None]:
            *rows, grad = chunks[number]
            if kept is None:
                inputs, out = _record(ctx.function, [*rows, *shared], needed)
            else:
                inputs, out = kept[number]
                kept[number] = None
            with torch.autocast(grad.device.type, enabled=False):
                return torch.autograd.grad(out, inputs, grad, allow_unused=True)

        columns = iter(zip(*map_in_threads(differentiate, range(len(chunks))), strict=True))
        grads: list[Tensor | None] = []
        for index, need in enumerate(needed):
            parts = next(columns) if need else (None,)
            if parts[0] is None:
                grads.append(None)
            elif index < ctx.num_batched:
                grads.append(torch.cat(parts))
            else:
                grads.append(torch.stack(parts).sum(0))
        return None, None, None, None, *grads
