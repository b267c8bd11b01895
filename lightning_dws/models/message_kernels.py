"""Messages of a group of INRs and their statistics, compiled by Numba: an INR in each lane.

Edges are in the order of the nodes that they end in, and worked on a few at a time, all of one
node: so neither messages nor what they are made of are ever in memory. Arrays of entries: maps
(edges, 2 D | 1) give a message's scale and shift, to which bias (2 D,) is added; ends (N, 2 D | 1)
are what a node gives as target and as source; aggregates (nodes, 4 D) are mean, min, max and std,
``place`` is where those of a node begin. Odd strides spread channels over the cache's sets.
"""

# Numba makes other functions of these, and says what their arguments are: annotations would not.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, call-arg, var-annotated, misc"
# mypy: disable-error-code="untyped-decorator"
# ruff: noqa: N803, N806

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numba.extending import intrinsic

from lightning_dws.models.edge_kernels import VARIANCE_FLOOR
from lightning_dws.models.lanes import LANES, load, splat, square_root, store

EDGES = 24  # at most at a time, in tiles of four


class Incoming(NamedTuple):
    """The edges that end in each node.

    Attributes:
        bounds: (N + 1,) a node's edges are those from its number to the next.
        source: (E,) the node that an edge comes from.
        weight: (E,) the weight that it is made of.
        direction: (E,) 0, or 1 if it is reversed.
    """

    bounds: Any
    source: Any
    weight: Any
    direction: Any


class Range(NamedTuple):
    """What a round computes, and of how many channels.

    Attributes:
        channels: D.
        start: The first node whose aggregates are wanted.
        next_start: The same of the next round, whose features are those of the edges that end
            there; N if there is none.
    """

    channels: int
    start: int
    next_start: int


@intrinsic
def where_above(typing, a, b, x, y):
    """Give x where a > b, and y elsewhere."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", *values[:2]), *values[2:])

    return a(a, b, x, y), generate


@intrinsic
def _where_equal(typing, a, b, x, y):
    """Give x where a = b, and y elsewhere."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.select(builder.fcmp_ordered("==", *values[:2]), *values[2:])

    return a(a, b, x, y), generate


@njit
def new_entries(size):
    """Give room for entries."""
    return np.empty(size * LANES, np.float32)


@njit
def blocks_of(incoming, node):
    """Give a node's first edge, its end, and how many edges to take at a time."""
    first, end = incoming.bounds[node], incoming.bounds[node + 1]
    blocks = max(1, -(-(end - first) // EDGES))
    return first, end, max(1, -(-(end - first) // (4 * blocks))) * 4


@njit
def begin(D, aggregates, place):
    """Prepare aggregates for ``add_messages``."""
    for c in range(D):
        store(aggregates, place + c, splat(np.float32(0)))
        store(aggregates, place + D + c, splat(np.float32(np.inf)))
        store(aggregates, place + 2 * D + c, splat(np.float32(-np.inf)))
        store(aggregates, place + 3 * D + c, splat(np.float32(0)))


@njit(error_model="numpy")
def add_messages(first, count, node, D, incoming, maps, bias, ends, aggregates, place):
    """Add messages to sum, min, max and sum of squares."""
    S = 2 * D | 1
    for c in range(D):
        to = load(ends, node * S + c)
        scale_bias, shift_bias = splat(bias[c]), splat(bias[D + c])
        total, low = load(aggregates, place + c), load(aggregates, place + D + c)
        high, square = load(aggregates, place + 2 * D + c), load(aggregates, place + 3 * D + c)
        for k in range(count):
            both = to + load(ends, incoming.source[first + k] * S + D + c)
            scale = load(maps, k * S + c) + scale_bias
            message = scale * both + (load(maps, k * S + D + c) + shift_bias)
            total = total + message
            low = where_above(low, message, message, low)
            high = where_above(message, high, message, high)
            square = square + message * message
        store(aggregates, place + c, total)
        store(aggregates, place + D + c, low)
        store(aggregates, place + 2 * D + c, high)
        store(aggregates, place + 3 * D + c, square)


@njit(error_model="numpy")
def finish(D, degree, aggregates, place):
    """Turn sums into mean and std; all are 0 where no edge ends."""
    zero = splat(np.float32(0))
    if degree == 0:
        for c in range(4 * D):
            store(aggregates, place + c, zero)
        return
    share = splat(np.float32(1 / degree))
    for c in range(D):
        mean = load(aggregates, place + c) * share
        variance = load(aggregates, place + 3 * D + c) * share - mean * mean
        std = square_root(variance)
        store(aggregates, place + c, mean)
        floor = splat(np.float32(VARIANCE_FLOOR))
        store(aggregates, place + 3 * D + c, where_above(variance, floor, std, zero))


@njit(error_model="numpy")
def begin_backward(D, degree, aggregates, grad_aggregates, place, terms):
    """Give what a message's gradient is made of: constant, slope, those of min and max."""
    zero = splat(np.float32(0))
    share = splat(np.float32(1 / max(degree, 1)))
    for c in range(D):
        std = load(aggregates, place + 3 * D + c)
        slope = load(grad_aggregates, place + 3 * D + c) * share / std
        slope = where_above(std, zero, slope, zero)
        mean = load(aggregates, place + c)
        store(terms, c, load(grad_aggregates, place + c) * share - slope * mean)
        store(terms, D + c, slope)
        store(terms, 2 * D + c, load(grad_aggregates, place + D + c))
        store(terms, 3 * D + c, load(grad_aggregates, place + 2 * D + c))


@njit(error_model="numpy")
def add_messages_backward(
    first, count, node, D, incoming, maps, bias, ends, aggregates, place, terms, grad_ends,
    grad_bias,
):  # fmt: skip
    """Turn scales and shifts into their gradients; of equal extremes the first one has it."""
    S = 2 * D | 1
    zero = splat(np.float32(0))
    for c in range(D):
        to = load(ends, node * S + c)
        scale_bias, shift_bias = splat(bias[c]), splat(bias[D + c])
        low, high = load(aggregates, place + D + c), load(aggregates, place + 2 * D + c)
        constant, slope = load(terms, c), load(terms, D + c)
        grad_low, grad_high = load(terms, 2 * D + c), load(terms, 3 * D + c)
        grad_to = load(grad_ends, node * S + c)
        grad_scale, grad_shift = load(grad_bias, c), load(grad_bias, D + c)
        for k in range(count):
            source = incoming.source[first + k] * S + D + c
            both = to + load(ends, source)
            scale = load(maps, k * S + c) + scale_bias
            message = scale * both + (load(maps, k * S + D + c) + shift_bias)
            grad = constant + slope * message
            grad = grad + _where_equal(message, low, grad_low, zero)
            grad = grad + _where_equal(message, high, grad_high, zero)
            grad_low = _where_equal(message, low, zero, grad_low)
            grad_high = _where_equal(message, high, zero, grad_high)
            own_scale, own_ends = grad * both, grad * scale
            store(maps, k * S + c, own_scale)
            store(maps, k * S + D + c, grad)
            grad_scale, grad_shift = grad_scale + own_scale, grad_shift + grad
            grad_to = grad_to + own_ends
            store(grad_ends, source, load(grad_ends, source) + own_ends)
        store(terms, 2 * D + c, grad_low)
        store(terms, 3 * D + c, grad_high)
        store(grad_ends, node * S + c, grad_to)
        store(grad_bias, c, grad_scale)
        store(grad_bias, D + c, grad_shift)
