"""Updates of the edges between all ordered pairs of nodes, lean in memory.

As in ``relational_attention``: a chunk of graphs is taken through all steps while it is in the
cache, and the backward pass computes its wide features again.
"""

import math
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from lightning_dws.models.pairs import Pairs, add_map, chunks, in_one_dtype, map_pairs, outer

_NORM_EPS = 1e-5


class EdgeUpdateTerms(NamedTuple):
    """What an update of edges needs to know beside them.

    The first block is ``norm(e_ij + out gelu(own e_ij + opposite e_ji + query_i + key_j))``, the
    second ``norm(e + mlp_out gelu(mlp_in e))``. The nodes' terms include the biases, and a
    norm is the weight and the bias of a layer norm.
    """

    query_terms: Float[Tensor, "batch hidden queries"]
    key_terms: Float[Tensor, "batch hidden nodes"]
    own: Float[Tensor, "hidden channels"]
    opposite: Float[Tensor, "hidden channels"]
    out: Float[Tensor, "channels hidden"]
    out_bias: Float[Tensor, "channels"]
    norm: Float[Tensor, "2 channels"]
    mlp_in: Float[Tensor, "hidden channels"]
    mlp_out: Float[Tensor, "channels hidden"]
    mlp_out_bias: Float[Tensor, "channels"]
    mlp_norm: Float[Tensor, "2 channels"]


def update_edges(
    edges: Pairs, opposite_edges: Pairs, terms: EdgeUpdateTerms, dropout: float = 0.0
) -> Pairs:
    """Update edges e_ij from their own and their opposite's features e_ji and from their nodes.

    An entry of what a block adds to the edges is dropped with the probability ``dropout``.
    """
    keep = None
    if dropout > 0:
        keep, kept_share = keep_mask((2, *edges.shape), dropout, edges.device)
        scaled = ("out", "out_bias", "mlp_out", "mlp_out_bias")
        terms = terms._replace(**{name: getattr(terms, name) / kept_share for name in scaled})
    apply = update_edges_at_once if torch.compiler.is_compiling() else _UpdateEdges.apply
    return in_one_dtype(apply, keep, edges, opposite_edges, *terms)  # type: ignore[no-any-return]


def keep_mask(
    shape: tuple[int, ...], dropout: float, device: torch.device
) -> tuple[Bool[Tensor, "*shape"], float]:
    """Draw which entries dropout keeps, and give the exact probability of that.

    Four entries share 64 random bits: Bernoulli draws would cost as much as the matrix products.
    The probability is a multiple of 2^-16.
    """
    dropped = min(round(dropout * 2**16), 2**16 - 1)
    words = torch.empty(-(-math.prod(shape) // 4), dtype=torch.int64, device=device)
    halves = words.random_(-(2**63), None).view(torch.int16)[: math.prod(shape)]
    return (halves >= dropped - 2**15).view(shape), 1 - dropped / 2**16


def update_edges_at_once(
    keep: Bool[Tensor, "2 batch channels queries nodes"] | None,
    edges: Pairs,
    opposite_edges: Pairs,
    *terms: Tensor,
) -> Pairs:
    """Compute ``update_edges`` by its definition, for compilers and as the reference."""
    t = EdgeUpdateTerms(*terms)

    def block(
        e: Tensor, hidden: Tensor, out: Tensor, bias: Tensor, norm: Tensor, keep: Tensor | None
    ) -> Tensor:
        update = map_pairs(out, functional.gelu(hidden)) + bias[:, None, None]
        e = e + (update if keep is None else update * keep)
        scale, shift = norm
        normalised = functional.layer_norm(e.movedim(1, -1), e.shape[1:2], scale, shift, _NORM_EPS)
        return normalised.movedim(-1, 1)

    hidden = map_pairs(t.own, edges) + map_pairs(t.opposite, opposite_edges)
    hidden = hidden + t.query_terms[..., None] + t.key_terms[..., None, :]
    keep_first, keep_second = (None, None) if keep is None else keep
    e = block(edges, hidden, t.out, t.out_bias, t.norm, keep_first)
    return block(e, map_pairs(t.mlp_in, e), t.mlp_out, t.mlp_out_bias, t.mlp_norm, keep_second)


class _UpdateEdges(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, keep: Tensor | None, edges: Tensor, opposite_edges: Tensor, *terms: Tensor
    ) -> Tensor:
        ctx.save_for_backward(keep, edges, opposite_edges, *terms)
        updated = torch.empty_like(edges, memory_format=torch.contiguous_format)
        for chunk in chunks(edges, len(EdgeUpdateTerms(*terms).own)):
            e, opposite = edges[chunk].contiguous(), opposite_edges[chunk].contiguous()
            _, second = _two_blocks(chunk, keep, e, opposite, EdgeUpdateTerms(*terms))
            updated[chunk] = second.result
        return updated

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_updated: Tensor) -> Any:
        keep, edges, opposite_edges, *saved = ctx.saved_tensors
        terms = EdgeUpdateTerms(*saved)
        grads = EdgeUpdateTerms(*(torch.zeros_like(term) for term in terms))
        grad_edges = torch.empty_like(edges, memory_format=torch.contiguous_format)
        grad_opposite_edges = torch.empty_like(grad_edges)
        for chunk in chunks(edges, len(terms.own)):
            e, opposite = edges[chunk].contiguous(), opposite_edges[chunk].contiguous()
            first, second = _two_blocks(chunk, keep, e, opposite, terms)

            grad_e, grad_hidden = second.backward(
                grad_updated[chunk], grads.mlp_out, grads.mlp_out_bias, grads.mlp_norm
            )
            grads.mlp_in.add_(outer(grad_hidden, first.result))
            add_map(grad_e, terms.mlp_in.T, grad_hidden)

            grad_e, grad_hidden = first.backward(grad_e, grads.out, grads.out_bias, grads.norm)
            grads.own.add_(outer(grad_hidden, e))
            grads.opposite.add_(outer(grad_hidden, opposite))
            grads.query_terms[chunk] = grad_hidden.sum(3)
            grads.key_terms[chunk] = grad_hidden.sum(2)
            grad_opposite_edges[chunk] = map_pairs(terms.opposite.T, grad_hidden)
            grad_edges[chunk] = add_map(grad_e, terms.own.T, grad_hidden)
        return None, grad_edges, grad_opposite_edges, *grads


class _ResidualBlock:
    """``norm(e + keep * (out gelu(hidden) + bias))`` of a chunk, and all that its gradient needs.

    Attributes:
        result: (B, D, R, N).
    """

    def __init__(
        self,
        e: Tensor,
        hidden: Tensor,
        out: Tensor,
        bias: Tensor,
        norm: Tensor,
        keep: Tensor | None,
    ) -> None:
        self.hidden, self.out, self.keep = hidden, out, keep
        self.activation = functional.gelu(hidden)
        x = map_pairs(out, self.activation).add_(bias[:, None, None])
        if keep is not None:
            x *= keep
        x += e
        x -= x.mean(1, keepdim=True)
        self.inverse_std = x.square().mean(1, keepdim=True).add_(_NORM_EPS).rsqrt_()
        x *= self.inverse_std
        self.normalised = x
        self.scale, shift = norm[..., None, None]
        self.result = torch.addcmul(shift, x, self.scale)

    def backward(
        self, grad: Tensor, grad_out: Tensor, grad_bias: Tensor, grad_norm: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Give the gradients of e and hidden, and add those of the parameters to the given ones."""
        projection = grad * self.normalised
        grad_norm += torch.stack([projection.sum((0, 2, 3)), grad.sum((0, 2, 3))])
        projection *= self.scale
        grad_x = grad * self.scale
        grad_x -= grad_x.mean(1, keepdim=True)
        grad_x -= self.normalised * projection.mean(1, keepdim=True)
        grad_x *= self.inverse_std
        grad_update = grad_x if self.keep is None else grad_x * self.keep
        grad_bias += grad_update.sum((0, 2, 3))
        grad_out += outer(grad_update, self.activation)
        grad_activation = map_pairs(self.out.T, grad_update)
        return grad_x, torch.ops.aten.gelu_backward(grad_activation, self.hidden)


def _two_blocks(
    chunk: slice, keep: Tensor | None, e: Tensor, opposite: Tensor, t: EdgeUpdateTerms
) -> tuple[_ResidualBlock, _ResidualBlock]:
    keep_first, keep_second = (None, None) if keep is None else keep[:, chunk]
    query_terms, key_terms = t.query_terms[chunk].contiguous(), t.key_terms[chunk].contiguous()
    hidden = query_terms[..., None] + key_terms[..., None, :]
    add_map(add_map(hidden, t.own, e), t.opposite, opposite)
    first = _ResidualBlock(e, hidden, t.out, t.out_bias, t.norm, keep_first)
    hidden = map_pairs(t.mlp_in, first.result)
    return first, _ResidualBlock(
        first.result, hidden, t.mlp_out, t.mlp_out_bias, t.mlp_norm, keep_second
    )
