"""The rounds of messages of the PNA network as plain matrices, for complete layers."""

from collections.abc import Sequence
from typing import NamedTuple

from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from lightning_dws.models.dense_edges import DenseEdges, add_ends, aggregate_messages
from lightning_dws.models.neural_graph import NeuralGraph
from lightning_dws.models.pna import EdgeUpdate, GraphNorm, PNAConv, graph_norm


class EdgeRound(NamedTuple):
    """What comes between two rounds: the norm of nodes, and the update of edges.

    Attributes:
        update: The linear map of an edge.
        ends_weight: Of what a node adds to an edge as its target, and as its source.
    """

    norm_weight: Float[Tensor, "channels"]
    norm_bias: Float[Tensor, "channels"]
    update: Float[Tensor, "channels channels"]
    ends_weight: Float[Tensor, "2*channels channels"]
    ends_bias: Float[Tensor, "2*channels"]


class NodeRound(NamedTuple):
    """What a round of messages does.

    Attributes:
        modulation_weight: The linear map of an edge to a message's scale and shift.
        ends_weight: Of what a node adds to a message as its target, and as its source.
        own: The linear map of a node itself.
        plain: Of its aggregates.
        scaled: Of its aggregates times the scaler of its degree.
    """

    modulation_weight: Float[Tensor, "scale_and_shift channels"]
    modulation_bias: Float[Tensor, "scale_and_shift"]
    ends_weight: Float[Tensor, "2*channels channels"]
    ends_bias: Float[Tensor, "2*channels"]
    own: Float[Tensor, "channels channels"]
    plain: Float[Tensor, "channels 4*channels"]
    scaled: Float[Tensor, "channels 4*channels"]
    bias: Float[Tensor, "channels"]
    scaler: Float[Tensor, "nodes 1"]


Rounds = list[NodeRound | EdgeRound]  # node, edge, node, ..., node


def make_rounds(
    convs: Sequence[PNAConv],
    norms: Sequence[GraphNorm],
    updates: Sequence[EdgeUpdate],
    in_degree: Int64[Tensor, "nodes"],
) -> Rounds:
    """Compose linear maps that follow each other with nothing between.

    These are the last map of an edge update and those that take its result, so edges are carried
    as they are before the update's silu; and the last two maps of a round.
    """
    rounds: Rounds = []
    behind: nn.Linear | None = None  # the linear map behind the silu
    for number, conv in enumerate(convs):
        rounds.append(_node_round(conv, behind, in_degree))
        if number < len(updates):
            norm, update = norms[number], updates[number]
            weight, bias = compose(update.edge, behind)
            ends = update.ends_map(bias)
            rounds.append(EdgeRound(norm.weight, norm.bias, weight, *ends))
            behind = update.out
    return rounds


def _node_round(conv: PNAConv, behind: nn.Linear | None, in_degree: Tensor) -> NodeRound:
    dim = conv.out.in_features
    weight, bias = compose(conv.out, conv.post)
    own, plain, scaled = weight.split([dim, 4 * dim, 4 * dim], 1)
    scaler = conv.scaler(in_degree, weight.dtype)
    return NodeRound(
        *compose(conv.edge, behind), *conv.ends_map(), own, plain, scaled, bias, scaler
    )


def compose(
    second: nn.Linear, first: nn.Linear | None
) -> tuple[Float[Tensor, "out in"], Float[Tensor, "out"]]:
    """Give weight and bias of two linear maps, one after the other."""
    if first is None:
        return second.weight, second.bias
    return second.weight @ first.weight, second.weight @ first.bias + second.bias


def pass_messages(
    x: Float[Tensor, "batch nodes channels"],
    edges: DenseEdges,
    kept: Float[Tensor, "batch _gaps #nodes #channels"],
    rounds: Sequence[tuple[Tensor, ...]],
    graph: NeuralGraph,
) -> Float[Tensor, "batch nodes channels"]:
    """Give the last nodes from the first, where ``kept`` multiplies them between rounds."""
    for number in range(0, len(rounds), 2):
        node = NodeRound(*rounds[number])
        after = EdgeRound(*rounds[number + 1]) if number + 1 < len(rounds) else None
        aggregates, edges = aggregate_messages(
            edges,
            (node.modulation_weight, node.modulation_bias),
            functional.linear(x, node.ends_weight, node.ends_bias),
            None if after is None else after.update,
            graph,
            activate=number > 0,
        )
        mixed = functional.linear(x, node.own, node.bias)
        mixed = mixed + functional.linear(aggregates, node.plain)
        x = mixed + functional.linear(aggregates, node.scaled) * node.scaler
        if after is not None:
            x = graph_norm(x, after.norm_weight, after.norm_bias)
            x = functional.silu(x) * kept[:, number // 2]
            ends = functional.linear(x, after.ends_weight, after.ends_bias)
            edges = add_ends(edges, ends, graph)
    return x


def flatten(rounds: Rounds) -> list[Tensor]:
    """Give all tensors of the rounds."""
    return [tensor for one in rounds for tensor in one]


def unflatten(tensors: Sequence[Tensor]) -> list[tuple[Tensor, ...]]:
    """Undo ``flatten``."""
    sizes = (len(NodeRound._fields), len(EdgeRound._fields))
    rounds: list[tuple[Tensor, ...]] = []
    first = 0
    while first < len(tensors):
        size = sizes[len(rounds) % 2]
        rounds.append(tuple(tensors[first : first + size]))
        first += size
    return rounds
