"""The relational transformer's work on pairs of nodes, on CPUs: an INR in each lane of a vector.

Groups of as many INRs as a vector has lanes are shared out over threads. Pairs without a weight
between them are not there before the first update of edges: their features are all the same.
"""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from lightning_dws.models.attention_kernels import (
    FORM_BLOCK,
    Sizes,
    attend_group,
    attend_group_backward,
)
from lightning_dws.models.dense_edges import takes_kernels
from lightning_dws.models.edge_update_kernels import Maps, update_group, update_group_backward
from lightning_dws.models.lane_dropout import draw_keep_bits
from lightning_dws.models.lanes import LANES, from_lanes, to_lanes
from lightning_dws.models.relational_edges import EdgeUpdateTerms
from lightning_dws.parallel import map_in_threads


class Places(NamedTuple):
    """Where the pairs of queries and keys stand; see ``attention_kernels``."""

    rows: Any
    columns: Any


class LanePairs(NamedTuple):
    """Features of pairs, one INR in each lane.

    Attributes:
        features: What is added to ``no_edge`` for the pairs that are there; channels are made odd.
        places: Where these are.
        num_queries: Nodes that query: the last ones.
        no_edge: The features of all other pairs; 0 if None.
    """

    features: Float[Tensor, "groups pairs odd_channels lanes"]
    places: Places
    num_queries: int
    no_edge: Float[Tensor, "channels"] | None = None


def bipartite_places(widths: Sequence[int]) -> Places:
    """Place the weights of an INR, layer by layer, (n_in, n_out) each."""
    rows, columns = (np.zeros((sum(widths), size), np.int64) for size in (3, 4))
    pair = node = 0
    for n_in, n_out in itertools.pairwise(widths):
        target = node + n_in
        for i in range(n_in):
            rows[node + i] = pair + i * n_out, target, target + n_out
        for j in range(n_out):
            columns[target + j] = pair + j, n_out, node, target
        pair, node = pair + n_in * n_out, target
    return Places(rows, columns)


def dense_places(queries: int, nodes: int) -> Places:
    """Place all pairs of the last nodes and all nodes."""
    row, key = np.arange(queries), np.arange(nodes)
    rows = np.stack([row * nodes, 0 * row, 0 * row + nodes], 1)
    columns = np.stack([key, 0 * key + nodes, 0 * key, 0 * key + queries], 1)
    return Places(rows, columns)


def takes_lanes(x: Float[Tensor, "batch ..."]) -> bool:
    """Whether INRs are worth their lanes: in float32 on a CPU, and more than a few."""
    return takes_kernels(x) and x.dtype == torch.float32 and 4 * len(x) >= LANES


def attend_in_lanes(
    pairs: LanePairs,
    query: Float[Tensor, "batch queries heads score_channels"],
    key: Float[Tensor, "batch nodes heads score_channels"],
    value: Float[Tensor, "batch nodes heads value_channels"],
    edge_query: Float[Tensor, "heads score_channels channels"],
    edge_key: Float[Tensor, "heads score_channels channels"],
    gates: Float[Tensor, "heads value_channels channels"],
) -> tuple[
    Float[Tensor, "batch queries heads value_channels"],
    Float[Tensor, "batch queries heads channels"],
    LanePairs,
]:
    """Compute what ``relational_attention.attend`` does.

    Returns:
        That, and the pairs for whatever comes next: gradients of these are added up in one place.
    """
    query_terms = torch.einsum("bihc,hcd->bihd", query, edge_key)
    key_terms = torch.einsum("bjhc,hcd->bjhd", key, edge_query)
    forms = torch.einsum("hcd,hce->hde", edge_query, edge_key)
    gate_bias = gates.new_empty(0)
    if pairs.no_edge is not None:
        # With e = n + f, where n is the same for all: what depends on the query alone is of no
        # account, and q_i . k_j + n . key_term_j is a product with one channel more.
        shared = torch.einsum("hde,e->hd", forms + forms.mT, pairs.no_edge)
        query = torch.cat([query, torch.ones_like(query[..., :1])], -1)
        key = torch.cat([key, (key_terms @ pairs.no_edge)[..., None]], -1)
        query_terms = query_terms + shared
        gate_bias = (gates @ pairs.no_edge).flatten()
    gated_mean, edge_mean, features = _AttendInLanes.apply(  # type: ignore[no-untyped-call]
        pairs.places,
        pairs.features,
        *map(to_lanes, (query, key, value, query_terms, key_terms)),
        pack_forms(forms),
        gates.contiguous(),
        gate_bias,
    )
    gated_mean, edge_mean = (from_lanes(x, len(query)) for x in (gated_mean, edge_mean))
    if pairs.no_edge is not None:
        edge_mean = edge_mean + pairs.no_edge
    return gated_mean, edge_mean, pairs._replace(features=features)


def pack_forms(
    forms: Float[Tensor, "heads channels channels"],
) -> Float[Tensor, "channels heads channels"]:
    """Halve quadratic forms: what stands before the block of the diagonal is added behind it."""
    block = torch.arange(forms.shape[1], device=forms.device) // FORM_BLOCK
    behind, same = (block[:, None] < block), (block[:, None] == block)
    packed = torch.where(behind, forms + forms.mT, forms * same)
    return packed.transpose(0, 1).contiguous()


class _AttendInLanes(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        places: Places,
        edges: Tensor,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        query_terms: Tensor,
        key_terms: Tensor,
        *parameters: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        groups, queries, heads, score_channels, lanes = query.shape
        nodes, value_channels = value.shape[1], value.shape[3]
        channels = query_terms.shape[3]
        ctx.sizes = Sizes(queries, nodes, heads, score_channels, value_channels, channels)
        ctx.places = places
        attention = edges.new_empty(groups, queries, nodes, heads, lanes)
        gated_mean = edges.new_empty(groups, queries, heads, value_channels, lanes)
        edge_mean = torch.empty_like(query_terms)
        inputs = (edges, query, key, value, query_terms, key_terms)
        outputs = (attention, gated_mean, edge_mean)

        def attend(group: int) -> None:
            attend_group(
                ctx.sizes,
                *places,
                *(_flat(x[group]) for x in inputs),
                *map(_flat, parameters),
                *(_flat(x[group]) for x in outputs),
            )

        map_in_threads(attend, range(groups))
        ctx.save_for_backward(*inputs, *parameters, attention)
        return gated_mean, edge_mean, edges

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_gated: Tensor, grad_mean: Tensor, grad_edges: Tensor | None) -> Any:
        *inputs, forms, gates, gate_bias, attention = ctx.saved_tensors
        both_forms = (forms + forms.transpose(0, 2)).contiguous()
        grad_outputs = (grad_gated.contiguous(), grad_mean.contiguous())
        groups, lanes = len(attention), attention.shape[-1]
        grad_inputs = [torch.zeros_like(x) for x in inputs[1:]]
        # Nobody else has the gradient that comes from the update of edges.
        grad_inputs.insert(0, torch.zeros_like(inputs[0]) if grad_edges is None else grad_edges)
        grad_parameters = [x.new_zeros(groups, *x.shape, lanes) for x in (forms, gates, gate_bias)]
        grads = (*grad_inputs, *grad_parameters)

        def differentiate(group: int) -> None:
            attend_group_backward(
                ctx.sizes,
                *ctx.places,
                *(_flat(x[group]) for x in inputs),
                *map(_flat, (forms, both_forms, gates, gate_bias)),
                _flat(attention[group]),
                *(_flat(x[group]) for x in (*grad_outputs, *grads)),
                np.zeros_like(_flat(attention[group])),
            )

        map_in_threads(differentiate, range(groups))
        return None, *grad_inputs, *(grad.sum((0, -1)) for grad in grad_parameters)


def update_in_lanes(
    pairs: LanePairs, terms: EdgeUpdateTerms, num_queries: int, dropout: float
) -> LanePairs:
    """Compute what ``relational_edges.update_edges`` does, of the last nodes, to all."""
    nodes = len(pairs.places.rows)
    no_edge = terms.out_bias.new_zeros(terms.out_bias.shape)
    query_terms = terms.query_terms.mT
    if pairs.no_edge is not None:
        no_edge = pairs.no_edge
        query_terms = query_terms + (terms.own + terms.opposite) @ no_edge
    shape = (len(pairs.features), 2, num_queries, nodes, len(no_edge))
    keep, kept_share = draw_keep_bits(shape, dropout)
    scaled = ("out", "out_bias", "mlp_out", "mlp_out_bias")
    terms = terms._replace(**{name: getattr(terms, name) / kept_share for name in scaled})
    _, _, own, opposite, *others = terms
    features = _UpdateInLanes.apply(  # type: ignore[no-untyped-call]
        pairs.places,
        keep,
        pairs.features,
        to_lanes(query_terms),
        to_lanes(terms.key_terms.mT),
        *(parameter.contiguous() for parameter in (own, opposite, *others, no_edge)),
    )
    return LanePairs(features, dense_places(num_queries, nodes), num_queries)


class _UpdateInLanes(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        places: Places,
        keep: Any,
        edges: Tensor,
        query_terms: Tensor,
        key_terms: Tensor,
        *parameters: Tensor,
    ) -> Tensor:
        groups, queries, hidden, lanes = query_terms.shape
        nodes, channels = key_terms.shape[1], len(parameters[-1])
        updated = edges.new_empty(groups, queries * nodes, channels | 1, lanes)
        ctx.fixed = (queries, nodes, channels, hidden, *places)
        ctx.keep = keep
        inputs = (edges, query_terms, key_terms)
        maps = Maps(*map(_flat, parameters))

        def update(group: int) -> None:
            update_group(
                *ctx.fixed,
                *(_flat(x[group]) for x in inputs),
                maps,
                keep[group],
                _flat(updated[group]),
            )

        map_in_threads(update, range(groups))
        ctx.save_for_backward(*inputs, *parameters)
        return updated

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_updated: Tensor) -> Any:
        inputs, parameters = ctx.saved_tensors[:3], ctx.saved_tensors[3:]
        grad_updated, maps = grad_updated.contiguous(), Maps(*map(_flat, parameters))
        grad_inputs = [torch.zeros_like(x) for x in inputs]
        groups = len(grad_updated)
        grad_parameters = [x.new_zeros(groups, *x.shape, LANES) for x in parameters]

        def differentiate(group: int) -> None:
            update_group_backward(
                *ctx.fixed,
                *(_flat(x[group]) for x in inputs),
                maps,
                ctx.keep[group],
                *(_flat(x[group]) for x in (grad_updated, *grad_inputs)),
                Maps(*(_flat(grad[group]) for grad in grad_parameters)),
            )

        map_in_threads(differentiate, range(groups))
        return None, None, *grad_inputs, *(grad.sum((0, -1)) for grad in grad_parameters)


def _flat(x: Tensor) -> Any:
    return x.detach().reshape(-1).numpy()
