"""Self-attention along an axis for the INRs of a group, compiled by Numba: an INR in each lane.

A *block* is what ``set_attention.attend`` computes from one tensor for another one: it maps what the
tensor is pooled to along the axis, ``x`` (n, c), to q, k and v, attends, ``o = q + softmax(q k^T) v``
in each head, and adds ``o + relu(linear(o))`` (n, d) to the other tensor's parts. What scales scores
and results is in the weights. Kept for the backward pass is o; q, k and v are computed again, and a
few rows of the softmax at a time, while they are in the cache.

``blocks`` (B, 10) says of each n, c, d and the number of heads; where x begins and the step from a
position to the next, and likewise of its parts; where its maps begin, that of q, k and v (3 d, c + 1)
and then that of o (d, d + 1); and where its o begins. The last column of a map is its bias.

In scratch, the step from a position to the next is odd: else equal channels of many positions would
be in few sets of the cache.
"""

# Numba says what the arguments are, annotations would not.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, call-arg, var-annotated"

import numpy as np

from lightning_dws.models.lanes import (
    LANES,
    Matrix,
    at_least,
    keep_above,
    kernel,
    load,
    multiply,
    multiply_lanes,
    multiply_sum,
    splat,
    store,
)
from lightning_dws.models.scratch_kernels import make_room
from lightning_dws.models.softmax_kernels import softmax, softmax_backward

_SCORES_IN_CACHE = 512


@kernel
def attend_axis(blocks, weights, pooled, attended, parts):
    """Add to the parts what each block gives, and keep every o in ``attended``."""
    zero = splat(np.float32(0))
    qkv, hidden, scores = _make_scratch(blocks)
    for b in range(len(blocks)):
        n, c, d, heads, x, x_step, y, y_step, maps, start = blocks[b]
        step, width, rows = (3 * d) | 1, d // heads, _rows_at_once(n)
        _map(n, c, 3 * d, weights, maps, pooled, x, x_step, qkv, step)
        for i in range(n):
            for k in range(d):
                store(attended, start + i * d + k, load(qkv, i * step + k))
        for head in range(heads):
            for first in range(0, n, rows):
                count, own = min(rows, n - first), first * step + head * width
                _share(count, n, width, step, qkv, own, head * width + d, scores)
                v = Matrix(qkv, head * width + 2 * d, step, 1)
                out = Matrix(attended, start + first * d + head * width, d, 1)
                multiply_lanes(count, width, n, Matrix(scores, 0, n, 1), v, out, True)
        out_map = maps + 3 * d * (c + 1)
        _map(n, d, d, weights, out_map, attended, start, d, hidden, d | 1)
        for i in range(n):
            for k in range(d):
                value = at_least(load(hidden, i * (d | 1) + k), zero)
                value = value + load(attended, start + i * d + k)
                place = y + i * y_step + k
                store(parts, place, load(parts, place) + value)


@kernel
def attend_axis_backward(
    blocks, weights, pooled, attended, grad_parts, needs_grad, grad_pooled, grad_weights
):
    """Add to the gradients of weights and, if it ``needs_grad``, of what is pooled."""
    zero = splat(np.float32(0))
    qkv, hidden, scores = _make_scratch(blocks)
    grad_qkv, _, grad_scores = _make_scratch(blocks)
    for b in range(len(blocks)):
        n, c, d, heads, x, x_step, y, y_step, maps, start = blocks[b]
        step, width, rows, out_map = (3 * d) | 1, d // heads, _rows_at_once(n), maps + 3 * d * (c + 1)
        _map(n, d, d, weights, out_map, attended, start, d, hidden, d | 1)
        # The gradient of o is that of q as well, to which comes that of its scores.
        for i in range(n):
            for k in range(d):
                grad, place = load(grad_parts, y + i * y_step + k), i * (d | 1) + k
                store(grad_qkv, i * step + k, grad)
                store(hidden, place, keep_above(load(hidden, place), zero, grad))
        _map_backward_weights(
            n, d, d, attended, start, d, hidden, d | 1, out_map, grad_weights
        )
        _map_backward(n, d, d, weights, out_map, hidden, d | 1, grad_qkv, 0, step)
        grad_o = hidden
        for i in range(n):
            for k in range(d):
                store(grad_o, i * (d | 1) + k, load(grad_qkv, i * step + k))
                store(grad_qkv, i * step + d + k, zero)
                store(grad_qkv, i * step + 2 * d + k, zero)
        _map(n, c, 3 * d, weights, maps, pooled, x, x_step, qkv, step)
        for head in range(heads):
            key, value = head * width + d, head * width + 2 * d
            for first in range(0, n, rows):
                count, own = min(rows, n - first), first * step + head * width
                _share(count, n, width, step, qkv, own, key, scores)
                grad = Matrix(grad_o, first * (d | 1) + head * width, d | 1, 1)
                v, out = Matrix(qkv, value, 1, step), Matrix(grad_scores, 0, n, 1)
                multiply_lanes(count, n, width, grad, v, out, False)
                transposed, out = Matrix(scores, 0, 1, n), Matrix(grad_qkv, value, step, 1)
                multiply_lanes(n, width, count, transposed, grad, out, True)
                for i in range(count):
                    softmax_backward(scores, grad_scores, i * n, n, 1)
                k, out = Matrix(qkv, key, step, 1), Matrix(grad_qkv, own, step, 1)
                multiply_lanes(count, width, n, Matrix(grad_scores, 0, n, 1), k, out, True)
                q, out = Matrix(qkv, own, step, 1), Matrix(grad_qkv, key, step, 1)
                multiply_lanes(n, width, count, Matrix(grad_scores, 0, 1, n), q, out, True)
        _map_backward_weights(
            n, c, 3 * d, pooled, x, x_step, grad_qkv, step, maps, grad_weights
        )
        if needs_grad:
            _map_backward(n, c, 3 * d, weights, maps, grad_qkv, step, grad_pooled, x, x_step)


@kernel
def _rows_at_once(n):
    return min(n, max(4, _SCORES_IN_CACHE // n))


@kernel
def _make_scratch(blocks):
    """Make room for q, k and v, for the map of o, and for the scores of some rows."""
    qkv = hidden = scores = 0
    for b in range(len(blocks)):
        n, d = blocks[b, 0], blocks[b, 2]
        qkv, hidden = max(qkv, n * (3 * d | 1)), max(hidden, n * (d | 1))
        scores = max(scores, _rows_at_once(n) * n)
    return make_room(qkv), make_room(hidden), make_room(scores)


@kernel
def _share(count, n, width, step, qkv, query, key, scores):
    """Compute some rows of a head's softmax."""
    q, k = Matrix(qkv, query, step, 1), Matrix(qkv, key, 1, step)
    multiply_lanes(count, n, width, q, k, Matrix(scores, 0, n, 1), False)
    for i in range(count):
        softmax(scores, i * n, n, 1)


@kernel
def _map(n, c, d, weights, start, x, x_start, x_step, out, out_step):
    """Map n positions of c channels to d."""
    for i in range(n):
        for k in range(d):
            store(out, i * out_step + k, splat(weights[start + k * (c + 1) + c]))
    a, b = Matrix(weights, start, c + 1, 1), Matrix(x, x_start, 1, x_step)
    multiply(d, n, c, a, b, Matrix(out, 0, 1, out_step), True)


@kernel
def _map_backward(n, c, d, weights, start, grad, grad_step, grad_x, x_start, x_step):
    a, b = Matrix(weights, start, 1, c + 1), Matrix(grad, 0, 1, grad_step)
    multiply(c, n, d, a, b, Matrix(grad_x, x_start, 1, x_step), True)


@kernel
def _map_backward_weights(n, c, d, x, x_start, x_step, grad, grad_step, start, grad_weights):
    grad_t, own_x = Matrix(grad, 0, 1, grad_step), Matrix(x, x_start, x_step, 1)
    multiply_sum(d, c, n, grad_t, own_x, Matrix(grad_weights, start, c + 1, 1), True)
    one = np.ones(LANES, np.float32)
    out = Matrix(grad_weights, start + c, c + 1, 1)
    multiply_sum(d, 1, n, grad_t, Matrix(one, 0, 0, 0), out, True)
