"""Attention over all ordered pairs of nodes, lean in memory.

Diao & Loynd (2023), "Relational Attention: Generalizing Transformers for Graph-Structured Tasks".

Features of pairs are (B, D, R, N): channels first, then the R nodes that attend (queries), then the
N nodes attended to (keys). So a linear map of pairs is one matrix product W e, and sums over
channels, heads or pairs run over contiguous memory. Graphs of a batch are independent: a chunk of
them is taken through all steps while it is in the cache, and the backward pass computes a chunk's
wide features again. Kept are the edges alone, and the attention, one number per pair and head.
"""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from lightning_dws.models.pairs import Pairs, chunks, in_one_dtype, map_pairs, outer


class AttentionTerms(NamedTuple):
    """What the attention of H heads with C value channels needs to know beside the edges.

    The score of a pair is ``(q_i + Q e) . (k_j + K e)`` for an edge e. Multiplied out, that is
    ``q_i . k_j + e . (K' q_i + Q' k_j) + e . (Q' K) e``, where queries and keys of edges do not
    occur.

    Attributes:
        node_scores: ``q_i . k_j``.
        query_terms: ``K' q_i``.
        key_terms: ``Q' k_j``.
        forms: ``Q' K``.
        values: Of the nodes.
        gates: The map from an edge to what multiplies the value.
    """

    node_scores: Float[Tensor, "batch heads queries nodes"]
    query_terms: Float[Tensor, "batch queries heads channels"]
    key_terms: Float[Tensor, "batch nodes heads channels"]
    forms: Float[Tensor, "heads channels channels"]
    values: Float[Tensor, "batch heads value_channels nodes"]
    gates: Float[Tensor, "heads value_channels channels"]


Attended = tuple[
    Float[Tensor, "batch heads value_channels queries"],
    Float[Tensor, "batch queries heads channels"],
]


def attend(edges: Pairs, terms: AttentionTerms) -> Attended:
    """Average gated values, and the edges themselves, over the keys by the softmax of the scores.

    That is ``sum_j p_ij v_j * (gates e_ij)``, and ``sum_j p_ij e_ij``.
    """
    apply = attend_at_once if torch.compiler.is_compiling() else _Attend.apply
    return in_one_dtype(apply, edges, *terms)  # type: ignore[no-any-return]


def attend_at_once(
    edges: Pairs,
    node_scores: Float[Tensor, "batch heads queries nodes"],
    query_terms: Float[Tensor, "batch queries heads channels"],
    key_terms: Float[Tensor, "batch nodes heads channels"],
    forms: Float[Tensor, "heads channels channels"],
    values: Float[Tensor, "batch heads value_channels nodes"],
    gates: Float[Tensor, "heads value_channels channels"],
) -> Attended:
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
            gated = map_pairs(gates.flatten(0, 1), e).unflatten(1, (heads, channels))
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

            gated = map_pairs(gate_matrix, e).view(*value.shape[:3], *e.shape[2:])
            gated *= grad_mean
            grad_p = (gated * value).sum(2)
            grad_p += _per_query(grad_edge_mean[chunk], e)
            gated *= p[:, :, None]
            torch.sum(gated, -2, out=grad_values[chunk])
            torch.mul(grad_mean, value, out=gated)
            gated *= p[:, :, None]
            grad_e = map_pairs(gate_matrix.T, gated.flatten(1, 2))
            grad_gates += outer(gated.flatten(1, 2), e).view_as(gates)
            grad_e += _spread(grad_edge_mean[chunk], p)

            grad_s = torch._softmax_backward_data(
                grad_p, p, -1, p.dtype, grad_input=grad_scores[chunk]
            )
            weighted = (grad_s[:, :, None] * e[:, None]).flatten(1, 2)
            grad_e += map_pairs(form_matrix, weighted)
            grad_forms += outer(weighted, e).view_as(forms)
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


def _quadratic(forms: Tensor, e: Tensor) -> Tensor:
    """Give ``e . form e`` of every pair and head, (B, H, R, N)."""
    mapped = map_pairs(forms.flatten(0, 1), e).unflatten(1, forms.shape[:2])
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
