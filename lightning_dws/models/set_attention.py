"""Self-attention along one axis, for every pair of tensors that share the axis."""

import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from lightning_dws.models.merged_linear import initialise, initialise_bias
from lightning_dws.models.parameter_axes import Axes, ParameterTensor

_CACHED_SCORES = 2**19  # attention scores at a time, such that they stay in the L2 cache


class AxisAttention(nn.Module):
    """Attention between all pairs of tensors that share exactly one axis, along that axis.

    The pairs come in groups of one target width, since these are computed together.
    """

    def __init__(
        self,
        axis: int,
        tensors: list[ParameterTensor],
        in_channels: list[int],
        out_channels: list[int],
        num_heads: int,
    ) -> None:
        super().__init__()
        members = [index for index, tensor in enumerate(tensors) if axis in tensor.axes]
        pairs = [
            (source, target)
            for source in members
            for target in members
            if len(tensors[target].shared(tensors[source])) == 1
        ]
        self.groups = nn.ModuleList(
            AttentionGroup(
                [pair for pair in pairs if out_channels[pair[1]] == width],
                in_channels,
                width,
                num_heads,
            )
            for width in sorted({out_channels[target] for _, target in pairs})
        )

    def forward(
        self, pooled: list[dict[Axes, Float[Tensor, "batch _channels ..."]]], along: Axes
    ) -> dict[int, Float[Tensor, "batch _channels neurons"]]:
        """Map the sources' features along the axis to the targets'."""
        attended: dict[int, Tensor] = {}
        for group in self.groups:
            attended |= group(pooled, along)
        return attended


class AttentionGroup(nn.Module):
    """The parameters of attention blocks of one output width, source by source."""

    def __init__(
        self, pairs: list[tuple[int, int]], in_channels: list[int], width: int, num_heads: int
    ) -> None:
        super().__init__()
        self.pairs, self.num_heads = pairs, num_heads
        self.sources = sorted({source for source, _ in pairs})
        self.targets = sorted({target for _, target in pairs})
        self.blocks = tuple(
            tuple(self.targets.index(target) for own, target in pairs if own == source)
            for source in self.sources
        )
        self.in_weights = nn.ParameterList(
            torch.empty(3, len(own) * width, in_channels[source] + 1)
            for source, own in zip(self.sources, self.blocks, strict=True)
        )
        for weight in self.in_weights:
            initialise_bias(weight.data[..., -1])
            for block in weight.data[..., :-1].split(width, dim=1):
                initialise(block)
        self.out_weight = nn.Parameter(initialise(torch.empty(len(pairs), width, width)))
        self.out_bias = nn.Parameter(initialise_bias(torch.empty(len(pairs), width)))

    def forward(
        self, pooled: list[dict[Axes, Float[Tensor, "batch _channels ..."]]], along: Axes
    ) -> dict[int, Float[Tensor, "batch width neurons"]]:
        sources = [pooled[source][along] for source in self.sources]
        dtype = sources[0].dtype
        attended = attend(
            sources,
            [weight.to(dtype) for weight in self.in_weights],
            self.out_weight.to(dtype),
            self.out_bias.to(dtype),
            self.blocks,
            self.num_heads,
        )
        return dict(zip(self.targets, attended, strict=True))


def attend(
    sources: list[Float[Tensor, "batch _channels neurons"]],
    in_weights: list[Float[Tensor, "3 _blocks_by_width _channels_and_bias"]],
    out_weight: Float[Tensor, "blocks width width"],
    out_bias: Float[Tensor, "blocks width"],
    targets: tuple[tuple[int, ...], ...],
    num_heads: int,
) -> tuple[Float[Tensor, "batch width neurons"], ...]:
    """Sum over sources of self-attention (Lee et al., 2019), each block with its own parameters.

    For source x_s and target t: q, k, v = linear maps of x_s; o = q + softmax(q k^T / sqrt(d)) v,
    per head; block = o + relu(linear(o)); target = sum of its blocks. Blocks are counted source
    by source.

    Args:
        sources: x_s.
        in_weights: Per source, for q, k, v of its blocks; the last column is the bias.
        out_weight: Of the linear map of o.
        out_bias: Likewise.
        targets: Per source the targets of its blocks, numbered from 0.
        num_heads: Divides the width d.
    """
    attend = _Attend.apply if sources[0].device.type == "cpu" else attend_at_once
    return attend(targets, num_heads, out_weight, out_bias, *sources, *in_weights)


def attend_at_once(
    targets: tuple[tuple[int, ...], ...],
    num_heads: int,
    out_weight: Float[Tensor, "blocks width width"],
    out_bias: Float[Tensor, "blocks width"],
    *sources_and_weights: Tensor,
) -> tuple[Float[Tensor, "batch width neurons"], ...]:
    """Compute ``attend`` by its definition, in as few and as large operations as it takes.

    Batch and positions are one axis of B n columns, so that every linear map is one product.
    """
    num_blocks, d = out_bias.shape
    batch, _, n = sources_and_weights[0].shape
    by_source = []
    for number, own in enumerate(targets):
        x = sources_and_weights[number].transpose(0, 1).flatten(1)
        weight = sources_and_weights[len(targets) + number].flatten(0, 1)
        linear = torch.addmm(weight[:, -1:], weight[:, :-1], x)
        by_source.append(linear.view(3, len(own) * num_heads, d // num_heads, batch, n))
    qkv = torch.cat(by_source, 1).transpose(2, 3).reshape(3, -1, d // num_heads, n)
    q, k, v = qkv.unbind()
    attention = torch.bmm(q.mT, k).mul(1 / math.sqrt(d)).softmax(-1)
    heads = torch.baddbmm(q, v, attention.mT)
    heads = heads.view(num_blocks * num_heads, batch, d // num_heads, n)
    o = heads.transpose(1, 2).reshape(num_blocks, d, batch * n)
    blocks = o + torch.baddbmm(out_bias[..., None], out_weight, o).relu()
    outputs: dict[int, Tensor] = {}
    order = [target for own in targets for target in own]
    for target, block in zip(order, blocks.unbind(), strict=True):
        outputs[target] = outputs[target] + block if target in outputs else block
    return tuple(outputs[t].view(d, batch, n).transpose(0, 1) for t in sorted(outputs))


class _Attend(torch.autograd.Function):
    """For CPUs, in pieces that stay in the cache, with the least of memory.

    All heads of all blocks have one size, so they are one batch of small matrix products.

    Channels come before positions, (B, c, n): a linear map is W x, its result splits into heads
    without a copy, and so do all products of the backward pass. q, k, v and o are flat buffers of
    blocks, source by source: (B, T_s d, n) for the T_s blocks of each.
    """

    @staticmethod
    def forward(
        ctx: Any,
        targets: tuple[tuple[int, ...], ...],
        num_heads: int,
        out_weight: Tensor,
        out_bias: Tensor,
        *sources_and_weights: Tensor,
    ) -> tuple[Tensor, ...]:
        sources = [F.pad(x, (0, 0, 0, 1), value=1.0) for x in sources_and_weights[: len(targets)]]
        in_weights = sources_and_weights[len(targets) :]
        batch, _, n = sources[0].shape
        num_blocks, d = out_bias.shape
        scales = (1.0, 1 / math.sqrt(d), 1.0)  # of the scores, on k
        sizes = [len(own) * batch * d * n for own in targets]
        qkv = sources[0].new_empty(3, sum(sizes))
        for row, scale, weights in zip(qkv, scales, zip(*in_weights, strict=True), strict=True):
            for chunk, weight, x in zip(row.split(sizes), weights, sources, strict=True):
                weight = weight if scale == 1 else weight * scale
                torch.bmm(weight.expand(batch, -1, -1), x, out=chunk.view(batch, len(weight), n))

        q, k, v = qkv.view(3, -1, d // num_heads, n)
        attention = q.new_empty(len(q), n, n)
        o = q.clone()
        heads_at_once = max(1, _CACHED_SCORES // n**2)
        for q_, k_, v_, attention_, o_ in zip(
            *(tensor.split(heads_at_once) for tensor in (q, k, v, attention, o)), strict=True
        ):
            torch.softmax(torch.bmm(q_.mT, k_), -1, out=attention_)
            o_.baddbmm_(v_, attention_.mT)

        outputs: dict[int, Tensor] = {}
        hidden = q.new_empty(num_blocks, batch, d, n)
        for block, (target, o_block) in enumerate(_by_block(o, targets, batch, d, n)):
            torch.bmm(out_weight[block].expand(batch, -1, -1), o_block, out=hidden[block])
            hidden[block].add_(out_bias[block, :, None]).relu_()
            if target in outputs:
                outputs[target].add_(o_block).add_(hidden[block])
            else:
                outputs[target] = o_block + hidden[block]
        ctx.targets, ctx.scales = targets, scales
        ctx.save_for_backward(out_weight, qkv, attention, o, hidden, *sources, *in_weights)
        return tuple(outputs[target] for target in sorted(outputs))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        targets, scales = ctx.targets, ctx.scales
        out_weight, qkv, attention, o, hidden, *rest = ctx.saved_tensors
        sources, in_weights = rest[: len(targets)], rest[len(targets) :]
        batch, _, n = sources[0].shape
        d = out_weight.shape[1]
        q, k, v = qkv.view(3, -1, o.shape[1], n)

        grad_o = torch.empty_like(o)
        grad_out_weight = torch.empty_like(out_weight)
        grad_out_bias = out_weight.new_empty(len(out_weight), d)
        blocks = zip(
            _by_block(o, targets, batch, d, n), _by_block(grad_o, targets, batch, d, n), strict=True
        )
        for block, ((target, o_block), (_, grad_o_block)) in enumerate(blocks):
            grad = grad_outputs[target]
            grad_hidden = torch.ops.aten.threshold_backward(grad, hidden[block], 0)
            weight = out_weight[block].T.expand(batch, -1, -1)
            grad_o_block.copy_(torch.bmm(weight, grad_hidden).add_(grad))
            torch.sum(torch.bmm(grad_hidden, o_block.mT), 0, out=grad_out_weight[block])
            torch.sum(grad_hidden, (0, 2), out=grad_out_bias[block])

        grad_qkv = torch.empty_like(qkv)
        heads_at_once = max(1, _CACHED_SCORES // n**2)
        for q_, k_, v_, attention_, grad_o_, grad_q_, grad_k_, grad_v_ in zip(
            *(
                tensor.split(heads_at_once)
                for tensor in (q, k, v, attention, grad_o, *grad_qkv.view(3, *q.shape))
            ),
            strict=True,
        ):
            torch.bmm(grad_o_, attention_, out=grad_v_)
            grad_attention = torch.bmm(grad_o_.mT, v_)
            grad_scores = torch._softmax_backward_data(
                grad_attention, attention_, -1, attention_.dtype, grad_input=grad_attention
            )
            torch.baddbmm(grad_o_, k_, grad_scores.mT, out=grad_q_)
            torch.bmm(q_, grad_scores, out=grad_k_)

        sizes = [len(own) * batch * d * n for own in targets]
        grad_sources: list[Tensor | None] = [
            x.new_zeros(batch, x.shape[1] - 1, n) if needed else None
            for x, needed in zip(sources, ctx.needs_input_grad[4:], strict=False)
        ]
        grad_weights = [torch.empty_like(weights) for weights in in_weights]
        for which, (scale, row) in enumerate(zip(scales, grad_qkv, strict=True)):
            for x, chunk, weights, grad_x, grad_weight in zip(
                sources, row.split(sizes), in_weights, grad_sources, grad_weights, strict=True
            ):
                grad = chunk.view(batch, weights.shape[1], n)
                # The bias apart: the product is much slower with the odd column.
                grad_linear = torch.bmm(grad, x[:, :-1].mT).sum(0)
                grad_bias = grad.sum((0, 2))[:, None]
                torch.cat([grad_linear, grad_bias], 1, out=grad_weight[which]).mul_(scale)
                if grad_x is not None:
                    weight = weights[which, :, :-1].T.expand(batch, -1, -1)
                    grad_x.baddbmm_(weight, grad, alpha=scale)
        return None, None, grad_out_weight, grad_out_bias, *grad_sources, *grad_weights


def _by_block(
    buffer: Tensor, targets: tuple[tuple[int, ...], ...], batch: int, d: int, n: int
) -> Iterator[tuple[int, Tensor]]:
    """Give every block's target and its view (B, d, n) of a buffer of all."""
    size = batch * d * n
    chunks = buffer.view(-1).split([len(own) * size for own in targets])
    for own, chunk in zip(targets, chunks, strict=True):
        yield from zip(own, chunk.view(batch, len(own), d, n).unbind(1), strict=True)
