"""Message passing between complete layers, without gathering a node for every edge.

All networks of an architecture have one graph, and between two linked layers every edge exists. So
edges are kept as (B, W, directions, D), one row for every weight in the order of the network's
parameters and every direction, and what depends on a node alone is computed once per node: ``ends``
(B, N, 2 D) is what a node gives to an edge where it is the target i, and where it is the source j.

On a CPU, compiled kernels work on a few INRs at a time, whose edges stay in the cache, and threads
share out these chunks. What a chunk computes from its edges is not kept for the backward pass but
computed again: fetching it from memory would be slower. (More than a few INRs in float32 take
``pna_lanes`` instead.) Elsewhere (on GPUs, in ``torch.compile``, in mixed precision) the same is an
expression of torch operations.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from lightning_dws.models.edge_kernels import VARIANCE_FLOOR, edge_kernels
from lightning_dws.models.neural_graph import NeuralGraph

DenseEdges = Float[Tensor, "batch weights directions channels"]
Ends = Float[Tensor, "batch nodes 2*channels"]


def aggregate_messages(
    edges: DenseEdges,
    modulation: tuple[Float[Tensor, "2*channels channels"], Float[Tensor, "2*channels"]],
    ends: Ends,
    update: Float[Tensor, "channels channels"] | None,
    graph: NeuralGraph,
    activate: bool,
) -> tuple[Float[Tensor, "batch nodes 4*channels"], DenseEdges]:
    """Aggregate the messages ``s * (ends_i + ends_j) + t`` that end in each node.

    Args:
        edges: What s and t are made of.
        modulation: Weight and bias of the linear map of an edge to s and t.
        ends: What a node gives as target, and as source.
        update: Of a linear map of the edges, to be computed on the same occasion.
        graph: Of the INRs.
        activate: Whether to take ``silu`` of the edges first.

    Returns:
        Mean, min, max and std of the messages, 0 where no edge ends; and the edges, mapped by
        ``update`` if there is one.
    """
    weight, bias = modulation
    if takes_kernels(edges):
        aggregates, mapped = _AggregateMessages.apply(  # type: ignore[no-untyped-call]
            edges, weight, bias, ends, update, graph, activate
        )
        return aggregates, edges if mapped is None else mapped
    edges = _activate(edges, activate)
    scale, shift = functional.linear(edges, weight, bias).chunk(2, -1)
    aggregates = _aggregate(scale * _both_ends(ends, graph) + shift, graph)
    return aggregates, edges if update is None else functional.linear(edges, update)


def add_ends(edges: DenseEdges, ends: Ends, graph: NeuralGraph) -> DenseEdges:
    """Add ``ends_i + ends_j`` to edges, which may be changed."""
    if takes_kernels(edges):
        return _AddEnds.apply(edges, ends, graph)  # type: ignore[no-any-return, no-untyped-call]
    return edges + _both_ends(ends, graph)


def takes_kernels(x: Tensor) -> bool:
    """Whether the compiled kernels can compute with a tensor, here and now."""
    return (
        x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.float64)
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )


def _activate(edges: Tensor, activate: bool) -> Tensor:
    return functional.silu(edges) if activate else edges


def _both_ends(ends: Tensor, graph: NeuralGraph) -> Tensor:
    """Sum what the two ends give to each edge: (B, W, directions, D)."""
    as_target, as_source = (part.split(graph.widths, 1) for part in ends.chunk(2, -1))
    links = []
    for below, above, *_ in graph.links:
        sums = [as_target[above][:, :, None] + as_source[below][:, None]]
        if graph.reverse_edges:
            sums.append(as_source[above][:, :, None] + as_target[below][:, None])
        links.append(torch.stack(sums, 3).flatten(1, 2))
    return torch.cat(links, 1)


def _aggregate(messages: Tensor, graph: NeuralGraph) -> Tensor:
    """Give mean, min, max and std (B, N, 4 D) of messages (B, W, directions, D)."""
    if messages.dtype in (torch.bfloat16, torch.float16):
        messages = messages.float()  # variances are differences of large numbers
    incoming: list[list[tuple[Tensor, int]]] = [[] for _ in graph.widths]
    for link, part in zip(graph.links, messages.split(graph.link_sizes, 1), strict=True):
        directions = part.unflatten(1, link.shape).unbind(3)
        incoming[link.target].append((directions[0], 2))
        if graph.reverse_edges:
            incoming[link.source].append((directions[1], 1))
    layers = []
    for groups, width in zip(incoming, graph.widths, strict=True):
        if not groups:
            layers.append(messages.new_zeros(len(messages), width, 4 * messages.shape[-1]))
            continue
        count = sum(group.shape[dim] for group, dim in groups)
        mean = torch.stack([group.sum(dim) for group, dim in groups]).sum(0) / count
        square = torch.stack([group.square().sum(dim) for group, dim in groups]).sum(0) / count
        low = torch.stack([group.amin(dim) for group, dim in groups]).amin(0)
        high = torch.stack([group.amax(dim) for group, dim in groups]).amax(0)
        variance = square - mean * mean
        has_std = variance > VARIANCE_FLOOR
        std = torch.where(has_std, torch.where(has_std, variance, 1.0).sqrt(), 0.0)
        layers.append(torch.cat([mean, low, high, std], -1))
    return torch.cat(layers, 1)


class _AggregateMessages(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        edges: Tensor,
        weight: Tensor,
        bias: Tensor,
        ends: Tensor,
        update: Tensor | None,
        graph: NeuralGraph,
        activate: bool,
    ) -> tuple[Tensor, Tensor | None]:
        ends = ends.contiguous()
        dim = edges.shape[-1]
        activated = _activate(edges, activate)
        modulation = functional.linear(activated, weight)
        aggregates = ends.new_empty(*ends.shape[:2], 4 * dim)
        edge_kernels(dim, graph.directions).aggregate(
            modulation.numpy(),
            bias.numpy(),
            ends.numpy(),
            *_topology(graph, ends.dtype),
            aggregates.numpy(),
            dim,
        )
        ctx.graph, ctx.activate = graph, activate
        ctx.save_for_backward(edges, activated, modulation, weight, bias, ends, update, aggregates)
        return aggregates, None if update is None else functional.linear(activated, update)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_aggregates: Tensor, grad_mapped: Tensor | None) -> Any:
        edges, activated, modulation, weight, bias, ends, update, aggregates = ctx.saved_tensors
        dim = edges.shape[-1]
        grad, grad_ends = torch.empty_like(modulation), torch.empty_like(ends)
        edge_kernels(dim, ctx.graph.directions).aggregate_backward(
            modulation.numpy(),
            bias.numpy(),
            ends.numpy(),
            *_topology(ctx.graph, ends.dtype),
            aggregates.numpy(),
            grad_aggregates.contiguous().numpy(),
            grad.numpy(),
            grad_ends.numpy(),
            ends.new_empty(ends.shape[1], 6 * dim).numpy(),
            dim,
        )
        flat, grad = activated.view(-1, dim), grad.view(-1, 2 * dim)
        grad_edges = grad @ weight
        grad_update = None
        if update is not None and grad_mapped is not None:
            grad_flat = grad_mapped.reshape(-1, dim)
            grad_edges.addmm_(grad_flat, update)
            grad_update = grad_flat.T @ flat
        grad_edges = grad_edges.view_as(edges)
        if ctx.activate:
            torch.ops.aten.silu_backward(grad_edges, edges, grad_input=grad_edges)
        return grad_edges, grad.T @ flat, grad.sum(0), grad_ends, grad_update, None, None


class _AddEnds(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, edges: Tensor, ends: Tensor, graph: NeuralGraph) -> Tensor:
        dim = edges.shape[-1]
        source, target, _ = _topology(graph, ends.dtype)
        edge_kernels(dim, graph.directions).add_ends(
            edges.numpy(), ends.contiguous().numpy(), source, target, dim
        )
        ctx.graph = graph
        ctx.mark_dirty(edges)
        return edges

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_edges: Tensor) -> Any:
        dim = grad_edges.shape[-1]
        source, target, _ = _topology(ctx.graph, grad_edges.dtype)
        grad_edges = grad_edges.contiguous()
        grad_ends = grad_edges.new_empty(len(grad_edges), ctx.graph.num_nodes, 2 * dim)
        edge_kernels(dim, ctx.graph.directions).sum_to_ends(
            grad_edges.numpy(), grad_ends.numpy(), source, target, dim
        )
        return grad_edges, grad_ends, None


def _topology(graph: NeuralGraph, dtype: torch.dtype) -> tuple[Any, Any, Any]:
    """Give sources and targets of the weights, and the degrees of the nodes, as arrays."""
    source, target = graph.edge_index[:, : graph.num_weights]
    return source.numpy(), target.numpy(), graph.in_degree.to(dtype).numpy()
