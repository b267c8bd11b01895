"""A round of messages that is not the first, compiled by Numba: an INR in each lane.

Between rounds an edge is kept as features (edges, D | 1), of the edges that end in nodes from a
first one on; before silu, ``update_ends`` (N, 2 D | 1) of both ends are added.
"""

# Numba makes other functions of these, and says what their arguments are: annotations would not.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, call-arg, var-annotated, misc"
# mypy: disable-error-code="untyped-decorator"
# ruff: noqa: N803, N806

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from lightning_dws.models.lanes import (
    Matrix,
    exp,
    kernel,
    load,
    multiply,
    multiply_lanes,
    splat,
    store,
)
from lightning_dws.models.message_kernels import (
    EDGES,
    add_messages,
    add_messages_backward,
    begin,
    begin_backward,
    blocks_of,
    finish,
    new_entries,
    where_above,
)


class Maps(NamedTuple):
    """Parameters of a round that is not the first, or entries of their gradients, flat.

    Attributes:
        scale_shift: (2 D, D) from an edge to a message's scale and shift.
        bias: (2 D,) of that.
        update: (D, D) from an edge to the next round's features; empty in the last round.
    """

    scale_shift: Any
    bias: Any
    update: Any


@njit(error_model="numpy")
def _activate(first, count, node, D, incoming, features, place, ends, active, slopes):
    """Give ``silu(features + ends_i + ends_j)`` and, if there is room, the slope."""
    F, S = D | 1, 2 * D | 1
    zero, one, limit = splat(np.float32(0)), splat(np.float32(1)), splat(np.float32(-80))
    for k in range(count):
        own, source = node * S, incoming.source[first + k] * S + D
        for c in range(D):
            x = load(features, place + k * F + c) + load(ends, own + c) + load(ends, source + c)
            sigmoid = one / (one + exp(zero - where_above(limit, x, limit, x)))
            result = x * sigmoid
            store(active, k * F + c, result)
            if slopes.size > 0:
                store(slopes, k * F + c, sigmoid + result * (one - sigmoid))


@kernel
def later_round(
    incoming, which, features, update_ends, message_ends, parameters, updated, aggregates
):
    """Add ends to features, take silu, aggregate messages, and map for the next round."""
    D, start, next_start = which
    N, F, S = len(incoming.bounds) - 1, D | 1, 2 * D | 1
    maps, active, nothing = new_entries(EDGES * S), new_entries(EDGES * F), new_entries(0)
    scale_shift = Matrix(parameters.scale_shift, 0, D, 1)
    for node in range(start, N):
        place = (node - start) * 4 * D
        begin(D, aggregates, place)
        first, last, step = blocks_of(incoming, node)
        for edge in range(first, last, step):
            count = min(step, last - edge)
            own = (edge - incoming.bounds[start]) * F
            _activate(edge, count, node, D, incoming, features, own, update_ends, active, nothing)
            a = Matrix(active, 0, 1, F)
            multiply(2 * D, count, D, scale_shift, a, Matrix(maps, 0, 1, S), False)
            add_messages(
                edge, count, node, D, incoming, maps, parameters.bias, message_ends, aggregates,
                place,
            )  # fmt: skip
            if node >= next_start:
                target = Matrix(updated, (edge - incoming.bounds[next_start]) * F, 1, F)
                multiply(D, count, D, Matrix(parameters.update, 0, D, 1), a, target, False)
        finish(D, last - first, aggregates, place)


@kernel
def later_round_backward(
    incoming, which, features, update_ends, message_ends, parameters, aggregates,
    grad_aggregates, grad_updated, grad_features, grad_update_ends, grad_message_ends, grads,
):  # fmt: skip
    """Give the gradient of features, and add to those of ends and parameters."""
    D, start, next_start = which
    N, F, S = len(incoming.bounds) - 1, D | 1, 2 * D | 1
    maps, active, slopes = new_entries(EDGES * S), new_entries(EDGES * F), new_entries(EDGES * F)
    terms, grad_active = new_entries(4 * D), new_entries(EDGES * F)
    scale_shift = parameters.scale_shift
    for node in range(start, N):
        place = (node - start) * 4 * D
        first, last, step = blocks_of(incoming, node)
        begin_backward(D, last - first, aggregates, grad_aggregates, place, terms)
        for edge in range(first, last, step):
            count = min(step, last - edge)
            own = (edge - incoming.bounds[start]) * F
            _activate(edge, count, node, D, incoming, features, own, update_ends, active, slopes)
            a, b = Matrix(active, 0, 1, F), Matrix(maps, 0, 1, S)
            multiply(2 * D, count, D, Matrix(scale_shift, 0, D, 1), a, b, False)
            add_messages_backward(
                edge, count, node, D, incoming, maps, parameters.bias, message_ends, aggregates,
                place, terms, grad_message_ends, grads.bias,
            )  # fmt: skip
            grad_a, a_rows = Matrix(grad_active, 0, 1, F), Matrix(active, 0, F, 1)
            multiply(D, count, 2 * D, Matrix(scale_shift, 0, 1, D), b, grad_a, False)
            multiply_lanes(2 * D, D, count, b, a_rows, Matrix(grads.scale_shift, 0, D, 1), True)
            if node >= next_start:
                grad = Matrix(grad_updated, (edge - incoming.bounds[next_start]) * F, 1, F)
                multiply(D, count, D, Matrix(parameters.update, 0, 1, D), grad, grad_a, True)
                multiply_lanes(D, D, count, grad, a_rows, Matrix(grads.update, 0, D, 1), True)
            for c in range(D):
                to = load(grad_update_ends, node * S + c)
                for k in range(count):
                    value = load(grad_active, k * F + c) * load(slopes, k * F + c)
                    store(grad_features, own + k * F + c, value)
                    to = to + value
                    source = incoming.source[edge + k] * S + D + c
                    store(grad_update_ends, source, load(grad_update_ends, source) + value)
                store(grad_update_ends, node * S + c, to)
