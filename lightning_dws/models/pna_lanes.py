"""The rounds of messages of the PNA network on CPUs: an INR in each lane of a vector.

What nobody reads is not computed: where only the outputs' nodes are wanted, the last round is of
the edges that end there. And the first round's linear maps of an edge are of its weight alone, so
they are applied to the table of the encoding of weights.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from lightning_dws.models.dense_pna import EdgeRound, NodeRound, Rounds, flatten, unflatten
from lightning_dws.models.edge_kernels import NUM_POINTS
from lightning_dws.models.first_round_kernels import Table, first_round, first_round_backward
from lightning_dws.models.in_chunks import in_chunks
from lightning_dws.models.lanes import LANES, from_lanes, to_lanes
from lightning_dws.models.later_round_kernels import Maps, later_round, later_round_backward
from lightning_dws.models.message_kernels import Incoming, Range
from lightning_dws.models.neural_graph import NeuralGraph
from lightning_dws.models.pna import graph_norm

_KEPT_BYTES = 2**29  # of the features of edges between all rounds; of more they are computed again


class Cells(NamedTuple):
    """Where weights stand in a table.

    Attributes:
        first: The first row that a weight is interpolated between.
        offset: Its distance from there, in rows.
    """

    first: Float[Tensor, "batch weights"]
    offset: Float[Tensor, "batch weights"]


def sort_edges(graph: NeuralGraph) -> Incoming:
    """Sort the edges of a graph by the nodes that they end in."""
    source, target = graph.edge_index.numpy()
    order = np.argsort(target, kind="stable")
    direction, weight = np.divmod(order, graph.num_weights)
    bounds = np.searchsorted(target[order], np.arange(graph.num_nodes + 1))
    return Incoming(bounds, source[order], weight, direction)


def fill_lanes(
    table: Float[Tensor, "rows directions channels"], positions: Float64[Tensor, "batch weights"]
) -> bool:
    """Whether INRs are worth their lanes: they are more than a few, and the table is short."""
    size, weights = positions.shape
    return 2 * size >= LANES and len(table) <= LANES * weights


def pass_in_lanes(
    x: Float[Tensor, "batch nodes channels"],
    table: Float[Tensor, "rows directions channels"],
    positions: Float64[Tensor, "batch weights"],
    kept: Float[Tensor, "batch _gaps #nodes #channels"],
    rounds: Rounds,
    graph: NeuralGraph,
    num_wanted: int,
) -> Float[Tensor, "batch wanted channels"]:
    """Give the last nodes as ``dense_pna.pass_messages`` does, with as many INRs as lanes at once.

    Args:
        x: The first nodes.
        table: The encoding of equidistant weights.
        positions: Of the weights, counted in rows of the table.
        kept: What multiplies nodes between rounds.
        rounds: Linear maps and norms.
        graph: Of the INRs.
        num_wanted: How many of the last nodes to give.
    """
    incoming = sort_edges(graph)
    first = positions.floor() + (1 - NUM_POINTS // 2)
    offset = (positions - first).float()

    def pass_group(
        x: Tensor, first: Tensor, offset: Tensor, kept: Tensor, *shared: Tensor
    ) -> Tensor:
        table, *others = shared
        cells = Cells(first, offset)
        return _pass_group(x, cells, table, kept, unflatten(others), incoming, num_wanted)

    batched, shared = [x, first.float(), offset, kept], [table, *flatten(rounds)]
    feature_bytes = len(rounds) // 2 * graph.num_edges * x[:, 0].numel() * x.element_size()
    return in_chunks(pass_group, batched, shared, LANES, keeps=feature_bytes <= _KEPT_BYTES)


def _pass_group(
    x: Tensor,
    cells: Cells,
    table: Tensor,
    kept: Tensor,
    rounds: Sequence[tuple[Tensor, ...]],
    incoming: Incoming,
    num_wanted: int,
) -> Tensor:
    nodes, dim = x.shape[1:]
    last = len(rounds) // 2
    starts = [0] * last + [nodes - num_wanted, nodes]
    features = update_ends = x
    for number in range(last + 1):
        node = NodeRound(*rounds[2 * number])
        after = EdgeRound(*rounds[2 * number + 1]) if number < last else None
        which = Range(dim, *starts[number : number + 2])
        ends = functional.linear(x, node.ends_weight, node.ends_bias)
        if number == 0:
            maps = _map_first_edges(table, node, after)
            aggregates, features = _FirstRound.apply(incoming, which, cells, maps, ends)  # type: ignore[no-untyped-call]
        else:
            aggregates, features = _LaterRound.apply(  # type: ignore[no-untyped-call]
                incoming,
                which,
                features,
                update_ends,
                ends,
                node.modulation_weight,
                node.modulation_bias,
                x.new_empty(0) if after is None else after.update,
            )
        mixed = functional.linear(x[:, which.start :], node.own, node.bias)
        mixed = mixed + functional.linear(aggregates, node.plain)
        x = mixed + functional.linear(aggregates, node.scaled) * node.scaler[which.start :]
        if after is not None:
            x = graph_norm(x, after.norm_weight, after.norm_bias)
            x = functional.silu(x) * kept[:, number]
            update_ends = functional.linear(x, after.ends_weight, after.ends_bias)
    return x


def _map_first_edges(
    edges: Float[Tensor, "*shape channels"], node: NodeRound, after: EdgeRound | None
) -> Float[Tensor, "*shape maps"]:
    """Give scales and shifts that edges make, and their features for the next round."""
    weight, bias = node.modulation_weight, node.modulation_bias
    if after is not None:
        weight = torch.cat([weight, after.update])
        bias = functional.pad(bias, (0, len(after.update)))
    return functional.linear(edges, weight, bias)


class _FirstRound(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, incoming: Incoming, which: Range, cells: Cells, table: Tensor, ends: Tensor
    ) -> tuple[Tensor, Tensor]:
        ctx.fixed, ctx.cells = (
            (incoming, which),
            (to_lanes(cells.first).int(), to_lanes(cells.offset)),
        )
        ctx.size, ctx.num_maps = len(ends), table.shape[-1]
        table = functional.pad(table, (0, -ctx.num_maps % LANES)).contiguous()
        ends = _odd_lanes(ends)
        updated, aggregates = _new_results(ends, incoming, which)
        first_round(*ctx.fixed, _table(table, ctx.cells), *map(_flat, (ends, updated, aggregates)))
        ctx.save_for_backward(table, ends, aggregates)
        return from_lanes(aggregates, ctx.size), updated

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_aggregates: Tensor, grad_updated: Tensor) -> Any:
        table, ends, aggregates = ctx.saved_tensors
        grad_table, grad_ends = torch.zeros_like(table), torch.zeros_like(ends)
        first_round_backward(
            *ctx.fixed,
            _table(table, ctx.cells),
            *map(_flat, (ends, aggregates, _grad_lanes(grad_aggregates), grad_updated)),
            _table(grad_table, ctx.cells),
            _flat(grad_ends),
        )
        grad_table = grad_table[..., : ctx.num_maps]
        return None, None, None, grad_table, from_lanes(grad_ends[:, :, :-1], ctx.size)


class _LaterRound(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        incoming: Incoming,
        which: Range,
        features: Tensor,
        update_ends: Tensor,
        message_ends: Tensor,
        *maps: Tensor,
    ) -> tuple[Tensor, Tensor]:
        ctx.fixed, ctx.size = (incoming, which), len(update_ends)
        inputs = (features, _odd_lanes(update_ends), _odd_lanes(message_ends))
        updated, aggregates = _new_results(inputs[1], incoming, which)
        later_round(
            *ctx.fixed,
            *map(_flat, inputs),
            Maps(*map(_flat, maps)),
            *map(_flat, (updated, aggregates)),
        )
        ctx.save_for_backward(*inputs, aggregates, *maps)
        return from_lanes(aggregates, ctx.size), updated

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_aggregates: Tensor, grad_updated: Tensor) -> Any:
        *inputs, aggregates = ctx.saved_tensors[:4]
        maps = ctx.saved_tensors[4:]
        grad_features, *grad_ends = torch.empty_like(inputs[0]), *map(torch.zeros_like, inputs[1:])
        grad_maps = [x.new_zeros(*x.shape, LANES) for x in maps]
        later_round_backward(
            *ctx.fixed,
            *map(_flat, inputs),
            Maps(*map(_flat, maps)),
            *map(_flat, (aggregates, _grad_lanes(grad_aggregates), grad_updated)),
            *map(_flat, (grad_features, *grad_ends)),
            Maps(*map(_flat, grad_maps)),
        )
        grad_ends = [from_lanes(grad[:, :, :-1], ctx.size) for grad in grad_ends]
        return None, None, grad_features, *grad_ends, *(grad.sum(-1) for grad in grad_maps)


def _flat(x: Tensor) -> Any:
    return x.detach().reshape(-1).numpy()


def _table(table: Tensor, cells: tuple[Tensor, Tensor]) -> Table:
    directions, channels = table.shape[1:]
    blocks = channels // LANES
    return Table(_flat(table), directions * blocks, blocks, *map(_flat, cells))


def _odd_lanes(x: Float[Tensor, "batch nodes channels"]) -> Float[Tensor, "1 nodes odd lanes"]:
    """Put INRs into lanes, and a channel more behind an even number of them."""
    return to_lanes(functional.pad(x, (0, 1)))


def _grad_lanes(grad: Float[Tensor, "batch nodes channels"]) -> Tensor:
    """Put gradients into lanes; there are none in the lanes that only repeat the last INR."""
    return to_lanes(functional.pad(grad, (0, 0, 0, 0, 0, -len(grad) % LANES)))


def _new_results(ends: Tensor, incoming: Incoming, which: Range) -> tuple[Tensor, Tensor]:
    """Make room for the next round's features and for aggregates."""
    edges = int(incoming.bounds[-1] - incoming.bounds[which.next_start])
    nodes = len(incoming.bounds) - 1 - which.start
    updated = ends.new_empty(edges, which.channels | 1, LANES)
    return updated, ends.new_empty(1, nodes, 4 * which.channels, LANES)
