"""Self-attention along an axis for the INRs of a group, compiled by Numba: an INR in each lane.

A block is what ``set_attention.attend`` computes from a source for a target. It maps x (n, c), what
the source is pooled to along the axis, to q, k and v, (n, d) each; attends in each head,
``o = q + softmax(q k^T) v``; and adds ``o + relu(linear(o))`` to the parts of the target. What
scales scores and results is in the weights.

``blocks`` (B, 11) says of each its n, c, d and number of heads; where its x begins and the step
from a position to the next, and likewise of its parts; where the map to q, k and v (3 d, c + 1)
begins, that of o (d, d + 1), and o itself. The last column of a map is its bias.

Kept is o; the backward pass computes q, k and v again, and the softmax, some rows at a time. Steps
of positions are odd: else equal channels of many would be in few sets of the cache.
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

_IN_CACHE = 512  # scores, if a row is no longer


@kernel
def attend_axis(blocks, weights, pooled, attended, parts):
    """Add what each block gives to the parts, and keep its o in ``attended``."""
    zero = splat(np.float32(0))
    for_qkv, for_hidden, for_scores = _make_scratch(blocks)
    for b in range(len(blocks)):
        n, c, d, heads, x_start, x_step, y, y_step, in_map, out_map, start = blocks[b]
        width, rows = d // heads, _rows_at_once(n)
        qkv, hidden = Matrix(for_qkv, 0, (3 * d) | 1, 1), Matrix(for_hidden, 0, d | 1, 1)
        o, scores = Matrix(attended, start, d, 1), Matrix(for_scores, 0, n, 1)
        _map(n, c, 3 * d, weights, in_map, Matrix(pooled, x_start, x_step, 1), qkv)
        for i in range(n):
            for channel in range(d):
                store(attended, start + i * d + channel, load(for_qkv, i * qkv.row + channel))
        for head in range(heads):
            q, k, v = _split(qkv, d, head * width)
            for first in range(0, n, rows):
                count = min(rows, n - first)
                _compute_shares(count, n, width, _part(q, first, 0), k, scores)
                own_o = _part(o, first, head * width)
                multiply_lanes(count, width, n, scores, v, own_o, True)
        _map(n, d, d, weights, out_map, o, hidden)
        for i in range(n):
            for channel in range(d):
                place = y + i * y_step + channel
                value = at_least(load(for_hidden, i * hidden.row + channel), zero)
                value = value + load(attended, start + i * d + channel)
                store(parts, place, load(parts, place) + value)


@kernel
def attend_axis_backward(
    blocks, weights, pooled, attended, grad_parts, needs_grad, grad_pooled, grad_weights
):
    """Add to the gradients of weights and, if it ``needs_grad``, of what is pooled."""
    zero = splat(np.float32(0))
    for_qkv, for_hidden, for_scores = _make_scratch(blocks)
    for_grad_qkv, for_grad_o, for_grad_scores = _make_scratch(blocks)
    for b in range(len(blocks)):
        n, c, d, heads, x_start, x_step, y, y_step, in_map, out_map, start = blocks[b]
        width, rows, step, wide_step = d // heads, _rows_at_once(n), d | 1, (3 * d) | 1
        qkv, grad_qkv = Matrix(for_qkv, 0, wide_step, 1), Matrix(for_grad_qkv, 0, wide_step, 1)
        hidden, grad_o = Matrix(for_hidden, 0, step, 1), Matrix(for_grad_o, 0, step, 1)
        scores, grad_scores = Matrix(for_scores, 0, n, 1), Matrix(for_grad_scores, 0, n, 1)
        x, o = Matrix(pooled, x_start, x_step, 1), Matrix(attended, start, d, 1)

        _map(n, d, d, weights, out_map, o, hidden)
        for i in range(n):
            for channel in range(d):
                place = i * step + channel
                grad = load(grad_parts, y + i * y_step + channel)
                store(for_grad_o, place, grad)
                store(for_hidden, place, keep_above(load(for_hidden, place), zero, grad))
        _add_grad_weights(n, d, d, o, hidden, grad_weights, out_map)
        _add_grad_input(n, d, d, weights, out_map, hidden, grad_o)

        _map(n, c, 3 * d, weights, in_map, x, qkv)
        for i in range(n):
            for channel in range(d):
                place = i * wide_step + channel
                store(for_grad_qkv, place, load(for_grad_o, i * step + channel))
                store(for_grad_qkv, place + d, zero)
                store(for_grad_qkv, place + 2 * d, zero)
        for head in range(heads):
            all_q, k, v = _split(qkv, d, head * width)
            all_grad_q, grad_k, grad_v = _split(grad_qkv, d, head * width)
            for first in range(0, n, rows):
                count = min(rows, n - first)
                q, grad_q = _part(all_q, first, 0), _part(all_grad_q, first, 0)
                own_grad_o = _part(grad_o, first, head * width)
                _compute_shares(count, n, width, q, k, scores)
                multiply_lanes(n, width, count, _transpose(scores), own_grad_o, grad_v, True)
                multiply_lanes(count, n, width, own_grad_o, _transpose(v), grad_scores, False)
                for i in range(count):
                    softmax_backward(for_scores, for_grad_scores, i * n, n, 1)
                multiply_lanes(count, width, n, grad_scores, k, grad_q, True)
                multiply_lanes(n, width, count, _transpose(grad_scores), q, grad_k, True)
        _add_grad_weights(n, c, 3 * d, x, grad_qkv, grad_weights, in_map)
        if needs_grad:
            grad_x = Matrix(grad_pooled, x_start, x_step, 1)
            _add_grad_input(n, c, 3 * d, weights, in_map, grad_qkv, grad_x)


@kernel
def _rows_at_once(n):
    """Say how many rows of n scores stay in the cache."""
    return min(n, max(4, _IN_CACHE // n))


@kernel
def _make_scratch(blocks):
    """Make room for any block's q, k and v, for what is of the size of o, and for scores."""
    qkv = hidden = scores = 0
    for b in range(len(blocks)):
        n, d = blocks[b, 0], blocks[b, 2]
        qkv, hidden = max(qkv, n * ((3 * d) | 1)), max(hidden, n * (d | 1))
        scores = max(scores, _rows_at_once(n) * n)
    return make_room(qkv), make_room(hidden), make_room(scores)


@kernel
def _part(matrix, row, column):
    """Give what begins at a row and a column."""
    start = matrix.start + row * matrix.row + column * matrix.column
    return Matrix(matrix.array, start, matrix.row, matrix.column)


@kernel
def _split(qkv, d, channel):
    """Give what begins at a channel of q, of k and of v."""
    return _part(qkv, 0, channel), _part(qkv, 0, d + channel), _part(qkv, 0, 2 * d + channel)


@kernel
def _transpose(matrix):
    return Matrix(matrix.array, matrix.start, matrix.column, matrix.row)


@kernel
def _compute_shares(count, n, width, q, k, scores):
    """Compute some rows of a head's softmax."""
    multiply_lanes(count, n, width, q, _transpose(k), scores, False)
    for i in range(count):
        softmax(scores.array, i * n, n, 1)


@kernel
def _map(n, c, d, weights, start, x, out):
    """Map n positions of c channels to d; x and out have a row for each."""
    for i in range(n):
        for k in range(d):
            bias = splat(weights[start + k * (c + 1) + c])
            store(out.array, out.start + i * out.row + k, bias)
    multiply(d, n, c, Matrix(weights, start, c + 1, 1), _transpose(x), _transpose(out), True)


@kernel
def _add_grad_input(n, c, d, weights, start, grad, grad_x):
    """Add to the gradient of what is mapped."""
    transposed = Matrix(weights, start, 1, c + 1)
    multiply(c, n, d, transposed, _transpose(grad), _transpose(grad_x), True)


@kernel
def _add_grad_weights(n, c, d, x, grad, grad_weights, start):
    """Add to the gradients of a map and of its bias, which is as of a channel of ones."""
    multiply_sum(d, c, n, _transpose(grad), x, Matrix(grad_weights, start, c + 1, 1), True)
    ones, out = (
        Matrix(np.ones(LANES, np.float32), 0, 0, 0),
        Matrix(grad_weights, start + c, c + 1, 1),
    )
    multiply_sum(d, 1, n, _transpose(grad), ones, out, True)
