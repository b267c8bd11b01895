"""Self-attention along one axis, for every pair of tensors that share the axis."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def attend(
    sources: list[Tensor],
    in_weights: list[Tensor],
    in_bias: Tensor,
    out_weight: Tensor,
    out_bias: Tensor,
    targets: tuple[tuple[int, ...], ...],
    num_heads: int,
) -> tuple[Tensor, ...]:
    """Sum over sources of self-attention (Lee et al., 2019), each block with its own parameters.

    For source x_s and target t: q, k, v = linear maps of x_s; o = q + softmax(q k^T / sqrt(d)) v,
    per head; block = o + relu(linear(o)); target = sum of its blocks. Blocks are counted source
    by source, K in all.

    Args:
        sources: x_s, (B, c_s, n).
        in_weights: Per source (3, T_s d, c_s), for q, k, v of its T_s blocks.
        in_bias: (3, K, d).
        out_weight: (K, d, d).
        out_bias: (K, d).
        targets: Per source the targets of its blocks, numbered from 0.
        num_heads: Divides d.

    Returns:
        Per target (B, d, n).
    """
    return _Attend.apply(  # type: ignore[no-any-return, no-untyped-call]
        targets, num_heads, in_bias, out_weight, out_bias, *sources, *in_weights
    )


class _Attend(torch.autograd.Function):
    """All heads of all blocks have one size, so they are one batch of small matrix products.

    Channels come before positions, (B, c, n): a linear map is W x, its result splits into heads
    without a copy, and so do all products of the backward pass.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        targets: tuple[tuple[int, ...], ...],
        num_heads: int,
        in_bias: Tensor,
        out_weight: Tensor,
        out_bias: Tensor,
        *sources_and_weights: Tensor,
    ) -> tuple[Tensor, ...]:
        count = len(targets)
        sources, in_weights = sources_and_weights[:count], sources_and_weights[count:]
        batch, _, n = sources[0].shape
        num_blocks, d = out_bias.shape
        q, k, v = sources[0].new_empty(3, num_blocks * batch * d * n)
        start = 0
        for x, weights, own in zip(sources, in_weights, targets, strict=True):
            stop = start + len(own)
            for row, weight, bias in zip((q, k, v), weights, in_bias[:, start:stop], strict=True):
                torch.baddbmm(
                    bias.reshape(1, -1, 1),
                    weight.expand(batch, -1, -1),
                    x,
                    out=_blocks(row, start, stop, batch, d, n).view(batch, -1, n),
                )
            start = stop
        heads = (-1, d // num_heads, n)
        scores = torch.bmm(q.view(heads).mT, k.view(heads)).mul_(1 / math.sqrt(d))
        attention = torch.softmax(scores, -1)
        o = torch.baddbmm(q.view(heads), v.view(heads), attention.mT).view(-1)

        outputs = sources[0].new_zeros(1 + max(map(max, targets)), batch, d, n)
        hidden = torch.empty_like(o)
        start = 0
        for own in targets:
            stop = start + len(own)
            o_blocks = _blocks(o, start, stop, batch, d, n)
            hidden_blocks = _blocks(hidden, start, stop, batch, d, n)
            for position, target in enumerate(own):
                block = start + position
                torch.baddbmm(
                    out_bias[block].view(1, -1, 1),
                    out_weight[block].expand(batch, -1, -1),
                    o_blocks[:, position],
                    out=hidden_blocks[:, position],
                )
                hidden_blocks[:, position].relu_()
                outputs[target] += o_blocks[:, position]
                outputs[target] += hidden_blocks[:, position]
            start = stop
        ctx.targets, ctx.num_heads = targets, num_heads
        ctx.save_for_backward(
            in_bias, out_weight, q, k, v, attention, o, hidden, *sources, *in_weights
        )
        return outputs.unbind(0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        targets, num_heads = ctx.targets, ctx.num_heads
        in_bias, out_weight, q, k, v, attention, o, hidden, *rest = ctx.saved_tensors
        sources, in_weights = rest[: len(targets)], rest[len(targets) :]
        batch, _, n = sources[0].shape
        num_blocks, d, _ = out_weight.shape

        grad_o = torch.empty_like(o)
        grad_out_weight = torch.empty_like(out_weight)
        grad_out_bias = out_weight.new_empty(num_blocks, d)
        start = 0
        for own in targets:
            stop = start + len(own)
            o_blocks = _blocks(o, start, stop, batch, d, n)
            hidden_blocks = _blocks(hidden, start, stop, batch, d, n)
            grad_o_blocks = _blocks(grad_o, start, stop, batch, d, n)
            for position, target in enumerate(own):
                block = start + position
                grad = grad_outputs[target]
                grad_hidden = grad * (hidden_blocks[:, position] > 0)
                torch.baddbmm(
                    grad,
                    out_weight[block].T.expand(batch, -1, -1),
                    grad_hidden,
                    out=grad_o_blocks[:, position],
                )
                torch.sum(
                    torch.bmm(grad_hidden, o_blocks[:, position].mT), 0, out=grad_out_weight[block]
                )
                torch.sum(grad_hidden, (0, 2), out=grad_out_bias[block])
            start = stop

        heads = (-1, d // num_heads, n)
        scale = 1 / math.sqrt(d)
        grad_v = torch.bmm(grad_o.view(heads), attention)
        grad_attention = torch.bmm(grad_o.view(heads).mT, v.view(heads))
        inner = (grad_attention * attention).sum(-1, keepdim=True)
        grad_scores = (grad_attention - inner).mul_(attention)
        grad_q = torch.baddbmm(grad_o.view(heads), k.view(heads), grad_scores.mT, alpha=scale)
        grad_k = torch.bmm(q.view(heads), grad_scores).mul_(scale)

        grad_in_bias = torch.empty_like(in_bias)
        grad_sources: list[Tensor | None] = []
        grad_weights = []
        start = 0
        for number, (x, weights, own) in enumerate(zip(sources, in_weights, targets, strict=True)):
            stop = start + len(own)
            grad_x = torch.zeros_like(x) if ctx.needs_input_grad[5 + number] else None
            grad_weight = torch.empty_like(weights)
            for which, grad_row in enumerate((grad_q, grad_k, grad_v)):
                grad = _blocks(grad_row.view(-1), start, stop, batch, d, n)
                torch.sum(grad, (0, 3), out=grad_in_bias[which, start:stop])
                grad = grad.view(batch, -1, n)
                torch.sum(torch.bmm(grad, x.mT), 0, out=grad_weight[which])
                if grad_x is not None:
                    grad_x.baddbmm_(weights[which].T.expand(batch, -1, -1), grad)
            grad_sources.append(grad_x)
            grad_weights.append(grad_weight)
            start = stop
        return (
            None,
            None,
            grad_in_bias,
            grad_out_weight,
            grad_out_bias,
            *grad_sources,
            *grad_weights,
        )


def _blocks(row: Tensor, start: int, stop: int, batch: int, d: int, n: int) -> Tensor:
    """View one source's blocks in a buffer of all: (B, T, d, n), contiguous."""
    size = batch * d * n
    return row[start * size : stop * size].view(batch, stop - start, d, n)
