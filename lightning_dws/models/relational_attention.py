"""Attention and edge updates over all ordered pairs of nodes, lean in memory.

Diao & Loynd (2023), "Relational Attention: Generalizing Transformers for Graph-Structured Tasks".

Features of pairs are (B, D, R, N): channels first, then the R nodes that attend (queries), then the
N nodes attended to (keys). So a linear map of pairs is one matrix product W e, and sums over
channels, heads or pairs run over contiguous memory. Graphs of a batch are independent: a chunk of
them is taken through all steps while it is in the cache, and the backward pass computes a chunk's
wide features again. Kept are the edges alone, and the attention, one number per pair and head.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

_BYTES_AT_ONCE = {"cpu": 4 * 2**20, "cuda": 2**30}  # of the widest tensor of pairs: cache, memory
_NORM_EPS = 1e-5


class AttentionTerms(NamedTuple):
    """What the attention of H heads with C value channels needs to know beside the edges.

    The score of a pair is ``(q_i + Q e) . (k_j + K e)`` for an edge e. Multiplied out, that is
    ``q_i . k_j + e . (K' q_i + Q' k_j) + e . (Q' K) e``, where queries and keys of edges do not
    occur.

    Attributes:
        node_scores: (B, H, R, N), ``q_i . k_j``.
        query_terms: (B, R, H, D), ``K' q_i``.
        key_terms: (B, N, H, D), ``Q' k_j``.
        forms: (H, D, D), ``Q' K``.
        values: (B, H, C, N), of the nodes.
        gates: (H, C, D), the map from an edge to what multiplies the value.
    """

    node_scores: Tensor
    query_terms: Tensor
    key_terms: Tensor
    forms: Tensor
    values: Tensor
    gates: Tensor


def attend(edges: Tensor, terms: AttentionTerms) -> tuple[Tensor, Tensor]:
    """Average gated values, and the edges themselves, over the keys by the softmax of the scores.

    Args:
        edges: (B, D, R, N).
        terms: See ``AttentionTerms``.

    Returns:
        ``sum_j p_ij v_j * (gates e_ij)``, (B, H, C, R), and ``sum_j p_ij e_ij``, (B, R, H, D).
    """
    apply = attend_at_once if torch.compiler.is_compiling() else _Attend.apply
    return _in_one_dtype(apply, edges, *terms)  # type: ignore[no-any-return]


def attend_at_once(
    edges: Tensor,
    node_scores: Tensor,
    query_terms: Tensor,
    key_terms: Tensor,
    forms: Tensor,
    values: Tensor,
    gates: Tensor,
) -> tuple[Tensor, Tensor]:
    """Compute ``attend`` by its definition, for compilers and as the reference."""
    mapped = torch.einsum("hde,beij->bhdij", forms, edges)
    mapped = mapped + query_terms.permute(0, 2, 3, 1)[..., None]
    mapped = mapped + key_terms.permute(0, 2, 3, 1)[..., None, :]
    attention = (node_scores + (edges[:, None] * mapped).sum(2)).softmax(-1)
    gated = torch.einsum("hcd,bdij->bhcij", gates, edges) * values[..., None, :]
    return (attention[:, :, None] * gated).sum(-1), torch.einsum(
        "bhij,bdij->bihd", attention, edges
    )


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        edges: Tensor,
        node_scores: Tensor,
        query_terms: Tensor,
        key_terms: Tensor,
        forms: Tensor,
        values: Tensor,
        gates: Tensor,
    ) -> tuple[Tensor, Tensor]:
        attention = torch.empty_like(node_scores)
        batch, heads, channels, _ = values.shape
        gated_mean = edges.new_empty(batch, heads, channels, edges.shape[2])
        edge_mean = torch.empty_like(query_terms)
        for chunk in chunks(edges, max(forms[:, 0].numel(), gates[..., 0].numel())):
            e = edges[chunk].contiguous()
            by_key = _by_key(e)
            scores = node_scores[chunk] + _quadratic(forms, e)
            scores += _per_query(query_terms[chunk], e)
            scores += _per_query(key_terms[chunk], by_key).mT
            p = torch.softmax(scores, -1, out=attention[chunk])
            gated = _map(gates.flatten(0, 1), e).unflatten(1, (heads, channels))
            gated *= values[chunk][..., None, :]
            gated *= p[:, :, None]
            torch.sum(gated, -1, out=gated_mean[chunk])
            edge_mean[chunk] = _mean(p, e)
        ctx.save_for_backward(edges, attention, query_terms, key_terms, forms, values, gates)
        return gated_mean, edge_mean

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_gated_mean: Tensor, grad_edge_mean: Tensor) -> Any:
        edges, attention, query_terms, key_terms, forms, values, gates = ctx.saved_tensors
        grad_edges = torch.empty_like(edges)
        grad_scores = torch.empty_like(attention)
        grad_query_terms, grad_key_terms, grad_values = map(
            torch.empty_like, (query_terms, key_terms, values)
        )
        grad_forms, grad_gates = torch.zeros_like(forms), torch.zeros_like(gates)
        gate_matrix = gates.flatten(0, 1)
        form_matrix = (forms + forms.mT).transpose(0, 1).flatten(1)  # (D, H D)
        for chunk in chunks(edges, max(forms[:, 0].numel(), gates[..., 0].numel())):
            e, p = edges[chunk].contiguous(), attention[chunk]
            by_key = _by_key(e)
            value, grad_mean = values[chunk][..., None, :], grad_gated_mean[chunk][..., None]

            gated = _map(gate_matrix, e).view(*value.shape[:3], *e.shape[2:])
            gated *= grad_mean
            grad_p = (gated * value).sum(2)
            grad_p += _per_query(grad_edge_mean[chunk], e)
            gated *= p[:, :, None]
            torch.sum(gated, -2, out=grad_values[chunk])
            torch.mul(grad_mean, value, out=gated)
            gated *= p[:, :, None]
            grad_e = _map(gate_matrix.T, gated.flatten(1, 2))
            grad_gates += _outer(gated.flatten(1, 2), e).view_as(gates)
            grad_e += _spread(grad_edge_mean[chunk], p)

            grad_s = torch._softmax_backward_data(
                grad_p, p, -1, p.dtype, grad_input=grad_scores[chunk]
            )
            weighted = (grad_s[:, :, None] * e[:, None]).flatten(1, 2)
            grad_e += _map(form_matrix, weighted)
            grad_forms += _outer(weighted, e).view_as(forms)
            grad_e += _spread(query_terms[chunk], grad_s)
            grad_s_by_key = _by_key(grad_s)
            grad_e += _spread(key_terms[chunk], grad_s_by_key).mT
            grad_query_terms[chunk] = _mean(grad_s, e)
            grad_key_terms[chunk] = _mean(grad_s_by_key, by_key)
            grad_edges[chunk] = grad_e
        return (
            grad_edges,
            grad_scores,
            grad_query_terms,
            grad_key_terms,
            grad_forms,
            grad_values,
            grad_gates,
        )


class EdgeUpdateTerms(NamedTuple):
    """What an update of edges with F hidden features needs to know beside the edges.

    The first block is ``norm(e_ij + out gelu(own e_ij + opposite e_ji + query_i + key_j))``, the
    second ``norm(e + mlp_out gelu(mlp_in e))``.

    Attributes:
        query_terms: (B, F, R), of the nodes, biases included.
        key_terms: (B, F, N).
        own: (F, D).
        opposite: (F, D).
        out: (D, F).
        out_bias: (D,).
        norm: (2, D), weight and bias of the layer norm.
        mlp_in: (F, D).
        mlp_out: (D, F).
        mlp_out_bias: (D,).
        mlp_norm: (2, D).
    """

    query_terms: Tensor
    key_terms: Tensor
    own: Tensor
    opposite: Tensor
    out: Tensor
    out_bias: Tensor
    norm: Tensor
    mlp_in: Tensor
    mlp_out: Tensor
    mlp_out_bias: Tensor
    mlp_norm: Tensor


def update_edges(
    edges: Tensor, opposite_edges: Tensor, terms: EdgeUpdateTerms, dropout: float = 0.0
) -> Tensor:
    """Update edges from their own and their opposite's features and from their nodes.

    Args:
        edges: (B, D, R, N), e_ij.
        opposite_edges: (B, D, R, N), e_ji.
        terms: See ``EdgeUpdateTerms``.
        dropout: Probability of dropping an entry of what a block adds to the edges.

    Returns:
        (B, D, R, N).
    """
    keep = None
    if dropout > 0:
        keep, kept_share = keep_mask((2, *edges.shape), dropout, edges.device)
        scaled = ("out", "out_bias", "mlp_out", "mlp_out_bias")
        terms = terms._replace(**{name: getattr(terms, name) / kept_share for name in scaled})
    apply = update_edges_at_once if torch.compiler.is_compiling() else _UpdateEdges.apply
    return _in_one_dtype(apply, keep, edges, opposite_edges, *terms)  # type: ignore[no-any-return]


def keep_mask(shape: tuple[int, ...], dropout: float, device: torch.device) -> tuple[Tensor, float]:
    """Draw which entries dropout keeps, and give the exact probability of that.

    Four entries share 64 random bits: Bernoulli draws would cost as much as the matrix products.
    The probability is a multiple of 2^-16.
    """
    dropped = min(round(dropout * 2**16), 2**16 - 1)
    words = torch.empty(-(-math.prod(shape) // 4), dtype=torch.int64, device=device)
    halves = words.random_(-(2**63), None).view(torch.int16)[: math.prod(shape)]
    return (halves >= dropped - 2**15).view(shape), 1 - dropped / 2**16


def update_edges_at_once(
    keep: Tensor | None, edges: Tensor, opposite_edges: Tensor, *terms: Tensor
) -> Tensor:
    """Compute ``update_edges`` by its definition, for compilers and as the reference."""
    t = EdgeUpdateTerms(*terms)

    def block(
        e: Tensor, hidden: Tensor, out: Tensor, bias: Tensor, norm: Tensor, keep: Tensor | None
    ) -> Tensor:
        update = _map(out, functional.gelu(hidden)) + bias[:, None, None]
        e = e + (update if keep is None else update * keep)
        scale, shift = norm
        normalised = functional.layer_norm(e.movedim(1, -1), e.shape[1:2], scale, shift, _NORM_EPS)
        return normalised.movedim(-1, 1)

    hidden = _map(t.own, edges) + _map(t.opposite, opposite_edges)
    hidden = hidden + t.query_terms[..., None] + t.key_terms[..., None, :]
    keep_first, keep_second = (None, None) if keep is None else keep
    e = block(edges, hidden, t.out, t.out_bias, t.norm, keep_first)
    return block(e, _map(t.mlp_in, e), t.mlp_out, t.mlp_out_bias, t.mlp_norm, keep_second)


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
            grads.mlp_in.add_(_outer(grad_hidden, first.result))
            _add_map(grad_e, terms.mlp_in.T, grad_hidden)

            grad_e, grad_hidden = first.backward(grad_e, grads.out, grads.out_bias, grads.norm)
            grads.own.add_(_outer(grad_hidden, e))
            grads.opposite.add_(_outer(grad_hidden, opposite))
            grads.query_terms[chunk] = grad_hidden.sum(3)
            grads.key_terms[chunk] = grad_hidden.sum(2)
            grad_opposite_edges[chunk] = _map(terms.opposite.T, grad_hidden)
            grad_edges[chunk] = _add_map(grad_e, terms.own.T, grad_hidden)
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
        x = _map(out, self.activation).add_(bias[:, None, None])
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
        grad_out += _outer(grad_update, self.activation)
        grad_activation = _map(self.out.T, grad_update)
        return grad_x, torch.ops.aten.gelu_backward(grad_activation, self.hidden)


def _two_blocks(
    chunk: slice, keep: Tensor | None, e: Tensor, opposite: Tensor, t: EdgeUpdateTerms
) -> tuple[_ResidualBlock, _ResidualBlock]:
    keep_first, keep_second = (None, None) if keep is None else keep[:, chunk]
    query_terms, key_terms = t.query_terms[chunk].contiguous(), t.key_terms[chunk].contiguous()
    hidden = query_terms[..., None] + key_terms[..., None, :]
    _add_map(_add_map(hidden, t.own, e), t.opposite, opposite)
    first = _ResidualBlock(e, hidden, t.out, t.out_bias, t.norm, keep_first)
    hidden = _map(t.mlp_in, first.result)
    return first, _ResidualBlock(
        first.result, hidden, t.mlp_out, t.mlp_out_bias, t.mlp_norm, keep_second
    )


def _in_one_dtype(function: Callable[..., Any], *tensors: Tensor | None) -> Any:
    """Call a function outside autocast, with floating tensors in its dtype where it is on."""
    device = next(tensor.device.type for tensor in tensors if tensor is not None)
    if not torch.is_autocast_enabled(device):
        return function(*tensors)
    dtype = torch.get_autocast_dtype(device)
    with torch.autocast(device, enabled=False):
        return function(
            *(
                tensor.to(dtype) if tensor is not None and tensor.is_floating_point() else tensor
                for tensor in tensors
            )
        )


def chunks(edges: Tensor, channels: int) -> list[slice]:
    """Split a batch so that a tensor of pairs with that many channels fits where it should."""
    size = channels * edges.shape[2] * edges.shape[3] * edges.element_size()
    step = max(1, _BYTES_AT_ONCE.get(edges.device.type, 2**30) // size)
    return [slice(start, start + step) for start in range(0, len(edges), step)]


def _map(matrix: Tensor, pairs: Tensor) -> Tensor:
    """Map the channels of pairs (B, c, R, N) by a matrix (d, c)."""
    mapped = torch.bmm(matrix.expand(len(pairs), -1, -1), pairs.flatten(2))
    return mapped.unflatten(2, pairs.shape[2:])  # type: ignore[no-any-return]


def _outer(left: Tensor, right: Tensor) -> Tensor:
    """Sum the outer products of two features of pairs, (B, c, R, N) and (B, d, R, N): (c, d)."""
    return torch.bmm(left.flatten(2), right.flatten(2).mT).sum(0)


def _quadratic(forms: Tensor, e: Tensor) -> Tensor:
    """Give ``e . form e`` of every pair and head, (B, H, R, N)."""
    mapped = _map(forms.flatten(0, 1), e).unflatten(1, forms.shape[:2])
    mapped *= e[:, None]
    return mapped.sum(2)  # type: ignore[no-any-return]


def _per_query(terms: Tensor, e: Tensor) -> Tensor:
    """Give ``terms_i . e_ij`` of terms (B, R, H, D): (B, H, R, N)."""
    return torch.matmul(terms, e.transpose(1, 2)).transpose(1, 2)


def _mean(shares: Tensor, e: Tensor) -> Tensor:
    """Give ``sum_j shares_hij e_ij``, (B, R, H, D)."""
    return torch.matmul(shares.transpose(1, 2), e.permute(0, 2, 3, 1))


def _by_key(e: Tensor) -> Tensor:
    """Exchange queries and keys, (B, D, N, R), in the memory order (B, N, D, R)."""
    return e.permute(0, 3, 1, 2).contiguous().transpose(1, 2)


def _spread(terms: Tensor, shares: Tensor) -> Tensor:
    """Give ``sum_h terms_ih shares_hij`` of terms (B, R, H, D): (B, D, R, N)."""
    return torch.matmul(terms.mT, shares.transpose(1, 2)).transpose(1, 2)


def _add_map(total: Tensor, matrix: Tensor, pairs: Tensor) -> Tensor:
    """Add the mapped channels of pairs to a contiguous total (B, d, R, N), in place."""
    total.flatten(2).baddbmm_(matrix.expand(len(pairs), -1, -1), pairs.flatten(2))
    return total
