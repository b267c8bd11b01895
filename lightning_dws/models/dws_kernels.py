"""A layer of DWSNet with DeepSets for the INRs of a group, compiled by Numba: an INR in each lane.

A parameter tensor is n x m positions of c channels; a bias, or a weight without its fixed axis, has
m = 1. A layer reads its features z activated (a), and

1. pools them: to each row, to each column, and to the whole of every tensor,
2. maps what is pooled along each axis, and the wholes: these are the parts,
3. spreads the parts: features of a position are those of its row and of its column, to which the
   whole's are added before, and the map of its own features if the tensor has two axes.

Its backward pass does the same with gradients: it pools those of the result to the parts, maps
these, and spreads them over the positions. What is pooled and what is spread has one order: the
wholes of all tensors, then (n, c) along each axis, where those that share the axis join channels. A
``Side`` says where a tensor's are. Of m = 1 the only column is the whole, and a row is a position.

Arrays have one axis and count entries; those of weights and of ``affine`` (mean, scale and shift of
every channel) are of single values. Some rows at a time are taken through all steps in the cache.
"""

# Numba says what the arguments are, annotations would not.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, call-arg, var-annotated"

import operator
from typing import Any, NamedTuple

import numpy as np

from lightning_dws.models.lanes import (
    LANES,
    Matrix,
    keep_equal,
    keep_lanes,
    keep_positive,
    kernel,
    load,
    maximum,
    multiply,
    multiply_add,
    multiply_sum,
    relu,
    splat,
    store,
)

_POSITIONS = 64  # at a time, if a row is no longer: their channels stay in the cache


class Side(NamedTuple):
    """Where the features of tensors stand, before or after a layer.

    Attributes:
        places: (T, 7) of each tensor its number of channels, its features' start, its whole, the
            first of its rows and the step from one to the next, and likewise of its columns.
        channels: The sum over tensors.
        features: Number of entries.
        pooled: Likewise.
    """

    places: Any
    channels: int
    features: int
    pooled: int


class Layer(NamedTuple):
    """What a layer computes.

    Attributes:
        tensors: (T, 3) of each tensor n, m and where its positions' map begins, -1 if it has none.
        axes: (A, 6) of each axis its number of neurons, channels before and after, where what is
            pooled along it and where its parts begin, and its map.
        bias: Where the wholes' bias begins; their map is first.
        before: Of the features that it reads.
        after: And of those that it gives.
        takes_maxima: How it pools: by maxima, or by sums.
    """

    tensors: Any
    axes: Any
    bias: int
    before: Side
    after: Side
    takes_maxima: bool


@kernel
def _rows_at_once(m):
    return max(1, _POSITIONS // m)


@kernel
def _scratch(tensors, side):
    """Make room for the features of some rows of any tensor."""
    size = 0
    for t in range(len(tensors)):
        m = tensors[t, 1]
        size = max(size, _rows_at_once(m) * m * side.places[t, 0])
    return np.empty(size * LANES, np.float32)


@kernel
def _activate(z, start, positions, c, channel, affine, keep, out):
    """Give where activated features stand; without ``affine`` they are as they were."""
    if affine.size == 0:
        return z, start
    channels = affine.size // 3
    for p in range(positions):
        for k in range(c):
            mean, scale = splat(affine[channel + k]), splat(affine[channels + channel + k])
            shift = splat(affine[2 * channels + channel + k])
            value = load(z, start + p * c + k) - mean
            store(out, p * c + k, relu(multiply_add(value, scale, shift)))
    if keep.size > 0:
        for place in range(positions * c):
            store(out, place, keep_lanes(keep[start + place], load(out, place)))
    return out, 0


def _make_pool(join):
    def pool(x, start, first, rows, m, place, pooled):
        """Join some rows' features with what is in their rows and columns."""
        c, _, _, row, row_step, column, column_step = place
        for i in range(rows):
            own_row = row + (first + i) * row_step
            for j in range(m):
                own, own_column = start + (i * m + j) * c, column + j * column_step
                for k in range(c):
                    value = load(x, own + k)
                    store(pooled, own_row + k, join(load(pooled, own_row + k), value))
                    store(pooled, own_column + k, join(load(pooled, own_column + k), value))

    def finish(n, place, pooled):
        """Pool rows to the whole, where it is not a column."""
        c, _, whole, row, row_step, column, _ = place
        if column != whole:
            for i in range(n):
                for k in range(c):
                    value = load(pooled, row + i * row_step + k)
                    store(pooled, whole + k, join(load(pooled, whole + k), value))

    return kernel(pool), kernel(finish)


_max_rows, _finish_max = _make_pool(maximum)
_sum_rows, _finish_sum = _make_pool(operator.add)


@kernel
def pool_features(tensors, side, takes_maxima, z, affine, keep, pooled):
    """Activate features and pool them."""
    pooled[:] = -np.inf if takes_maxima else 0
    scratch = _scratch(tensors, side)
    channel = 0
    for t in range(len(tensors)):
        n, m, _ = tensors[t]
        place = side.places[t]
        c, start = place[:2]
        step = _rows_at_once(m)
        for first in range(0, n, step):
            rows = min(step, n - first)
            x, own = _activate(
                z, start + first * m * c, rows * m, c, channel, affine, keep, scratch
            )
            if takes_maxima:
                _max_rows(x, own, first, rows, m, place, pooled)
            else:
                _sum_rows(x, own, first, rows, m, place, pooled)
        if takes_maxima:
            _finish_max(n, place, pooled)
        else:
            _finish_sum(n, place, pooled)
        channel += c


@kernel
def _add_wholes(tensors, side, parts):
    """Add a tensor's whole to its columns, where it is none itself."""
    for t in range(len(tensors)):
        c, _, whole, _, _, column, step = side.places[t]
        if column != whole:
            for j in range(tensors[t, 1]):
                for k in range(c):
                    own = column + j * step + k
                    store(parts, own, load(parts, own) + load(parts, whole + k))


@kernel
def _spread(parts, first, rows, m, place, out, start):
    c, _, _, row, row_step, column, column_step = place
    for i in range(rows):
        own_row = row + (first + i) * row_step
        for j in range(m):
            own, own_column = start + (i * m + j) * c, column + j * column_step
            for k in range(c):
                store(out, own + k, load(parts, own_row + k) + load(parts, own_column + k))


@kernel
def _spread_to_maxima(grads, pooled, a, a_start, first, rows, m, place, out, start):
    c, _, _, row, row_step, column, column_step = place
    for i in range(rows):
        own_row = row + (first + i) * row_step
        for j in range(m):
            own, own_column = (i * m + j) * c, column + j * column_step
            for k in range(c):
                value = load(a, a_start + own + k)
                grad = keep_equal(value, load(pooled, own_row + k), load(grads, own_row + k))
                other = keep_equal(value, load(pooled, own_column + k), load(grads, own_column + k))
                store(out, start + own + k, grad + other)


@kernel
def _share_among_maxima(tensors, side, z, affine, keep, pooled, grads):
    """Divide gradients of maxima by the number of features that are equal to them."""
    one, zero = splat(np.float32(1)), splat(np.float32(0))
    scratch = _scratch(tensors, side)
    counts = np.empty(side.pooled * LANES, np.float32)
    counts[:] = 0
    channel = 0
    for t in range(len(tensors)):
        n, m, _ = tensors[t]
        c, start, whole, row, row_step, column, column_step = side.places[t]
        if column != whole:
            for k in range(c):
                largest, count = load(pooled, whole + k), zero
                for i in range(n):
                    count = count + keep_equal(load(pooled, row + i * row_step + k), largest, one)
                share = load(grads, whole + k) / count
                for i in range(n):
                    own = row + i * row_step + k
                    grad = load(grads, own) + keep_equal(load(pooled, own), largest, share)
                    store(grads, own, grad)
        for i in range(n):
            own_row = row + i * row_step
            a, a_start = _activate(z, start + i * m * c, m, c, channel, affine, keep, scratch)
            for j in range(m):
                own_column = column + j * column_step
                for k in range(c):
                    value = load(a, a_start + j * c + k)
                    equal = keep_equal(value, load(pooled, own_row + k), one)
                    store(counts, own_row + k, load(counts, own_row + k) + equal)
                    equal = keep_equal(value, load(pooled, own_column + k), one)
                    store(counts, own_column + k, load(counts, own_column + k) + equal)
            for k in range(c):
                store(grads, own_row + k, load(grads, own_row + k) / load(counts, own_row + k))
        for j in range(m):
            for k in range(c):
                own = column + j * column_step + k
                store(grads, own, load(grads, own) / load(counts, own))
        channel += c


@kernel
def _add_moments(y, start, positions, first, c, channel, channels, moments):
    """Add to the sums, and sums of squares, of what features are more than the first position."""
    for k in range(c):
        total, squares = load(moments, channel + k), load(moments, channels + channel + k)
        origin = load(y, first + k)
        for p in range(positions):
            value = load(y, start + p * c + k) - origin
            total, squares = total + value, multiply_add(value, value, squares)
        store(moments, channel + k, total)
        store(moments, channels + channel + k, squares)


@kernel
def _finish_moments(y, first, positions, c, channel, channels, moments):
    """Turn the sums to the mean, and to the sum of squares of what features are more than it."""
    share = splat(np.float32(1 / positions))
    for k in range(c):
        total, squares = load(moments, channel + k), load(moments, channels + channel + k)
        mean = total * share
        store(moments, channel + k, load(y, first + k) + mean)
        store(moments, channels + channel + k, squares - total * mean)


@kernel
def layer_forward(layer, z, affine, keep, weights, y, pooled, moments):
    """Compute y, what is pooled, and each channel's mean and sum of squares if there is room."""
    tensors, before, after = layer.tensors, layer.before, layer.after
    pool_features(tensors, before, layer.takes_maxima, z, affine, keep, pooled)
    parts = np.zeros(after.pooled * LANES, np.float32)
    for channel in range(after.channels):
        store(parts, channel, splat(weights[layer.bias + channel]))
    C = before.channels
    a, b, out = Matrix(weights, 0, C, 1), Matrix(pooled, 0, 1, C), Matrix(parts, 0, 1, C)
    multiply(after.channels, 1, C, a, b, out, True)
    for axis in range(len(layer.axes)):
        n, c, d, start, parts_start, map_start = layer.axes[axis]
        a, b = Matrix(weights, map_start, c, 1), Matrix(pooled, start, 1, c)
        multiply(d, n, c, a, b, Matrix(parts, parts_start, 1, d), False)
    _add_wholes(tensors, after, parts)
    moments[:] = 0
    scratch = _scratch(tensors, before)
    c_channel = d_channel = 0
    for t in range(len(tensors)):
        n, m, map_start = tensors[t]
        c, z_start = before.places[t, :2]
        d, y_start = after.places[t, :2]
        step = _rows_at_once(m)
        for first in range(0, n, step):
            rows, own = min(step, n - first), y_start + first * m * d
            _spread(parts, first, rows, m, after.places[t], y, own)
            if map_start >= 0:
                x, x_start = _activate(
                    z, z_start + first * m * c, rows * m, c, c_channel, affine, keep, scratch
                )
                a, b = Matrix(weights, map_start, c, 1), Matrix(x, x_start, 1, c)
                multiply(d, rows * m, c, a, b, Matrix(y, own, 1, d), True)
            if moments.size > 0:
                _add_moments(y, own, rows * m, y_start, d, d_channel, after.channels, moments)
        if moments.size > 0:
            _finish_moments(y, y_start, n * m, d, d_channel, after.channels, moments)
        c_channel, d_channel = c_channel + c, d_channel + d


@kernel
def _correct(grad, y, start, positions, d, channel, correction, out):
    """Give where the gradients of features stand, with those of their moments: linear in them."""
    if correction.size == 0:
        return grad, start
    channels = correction.size // (2 * LANES)
    for p in range(positions):
        for k in range(d):
            own = start + p * d + k
            slope, offset = load(correction, channel + k), load(correction, channels + channel + k)
            value = multiply_add(slope, load(y, own), offset)
            store(out, p * d + k, load(grad, own) + value)
    return out, 0


@kernel
def features_backward(
    layer, z, affine, keep, weights, pooled, grad_pooled, y, grad_y, correction, grad_weights,
    grad_affine, grad_z,
):  # fmt: skip
    """Give gradients of features by those of what is pooled from them, and by their own maps'.

    Those of scales and shifts are added up for each lane.
    """
    tensors, before, after = layer.tensors, layer.before, layer.after
    needs_grad_z = grad_z.size > 0
    if needs_grad_z and layer.takes_maxima:
        _share_among_maxima(tensors, before, z, affine, keep, pooled, grad_pooled)
    elif needs_grad_z:
        _add_wholes(tensors, before, grad_pooled)
    scratch, g_scratch = _scratch(tensors, before), _scratch(tensors, after)
    grad_scratch = _scratch(tensors, before)
    c_channel = d_channel = 0
    for t in range(len(tensors)):
        n, m, map_start = tensors[t]
        c, z_start = before.places[t, :2]
        d, y_start = after.places[t, :2]
        step = _rows_at_once(m)
        for first in range(0, n, step):
            rows = min(step, n - first)
            positions, own = rows * m, z_start + first * m * c
            a, a_start = _activate(z, own, positions, c, c_channel, affine, keep, scratch)
            g, g_start = grad_y, 0
            if map_start >= 0:
                g, g_start = _correct(
                    grad_y, y, y_start + first * m * d, positions, d, d_channel, correction,
                    g_scratch,
                )  # fmt: skip
                left, right = Matrix(g, g_start, 1, d), Matrix(a, a_start, c, 1)
                out = Matrix(grad_weights, map_start, c, 1)
                multiply_sum(d, c, positions, left, right, out, True)
            if not needs_grad_z:
                continue
            grad, start = (grad_z, own) if affine.size == 0 else (grad_scratch, 0)
            place = before.places[t]
            if layer.takes_maxima:
                _spread_to_maxima(
                    grad_pooled, pooled, a, a_start, first, rows, m, place, grad, start
                )
            else:
                _spread(grad_pooled, first, rows, m, place, grad, start)
            if map_start >= 0:
                right, out = Matrix(g, g_start, 1, d), Matrix(grad, start, 1, c)
                multiply(
                    c, positions, d, Matrix(weights, map_start, 1, c), right, out, True
                )
            if affine.size > 0:
                _activate_backward(
                    z, own, positions, c, c_channel, affine, a, grad, grad_affine, grad_z
                )
        c_channel, d_channel = c_channel + c, d_channel + d


@kernel
def _activate_backward(z, start, positions, c, channel, affine, a, grad, grad_affine, grad_z):
    channels = affine.size // 3
    for p in range(positions):
        for k in range(c):
            own, here = start + p * c + k, channel + k
            value = keep_positive(load(a, p * c + k), load(grad, p * c + k))
            store(grad_z, own, value * splat(affine[channels + here]))
            if grad_affine.size > 0:
                centred = load(z, own) - splat(affine[here])
                total = multiply_add(value, centred, load(grad_affine, here))
                store(grad_affine, here, total)
                store(grad_affine, channels + here, load(grad_affine, channels + here) + value)


@kernel
def layer_backward(
    layer, z, affine, keep, weights, pooled, y, grad_y, correction, grad_weights, grad_wholes,
    grad_affine, grad_z,
):  # fmt: skip
    """Compute gradients; of the wholes' map and bias only those of what it gives.

    Arrays without room are not filled. Those of weights, scales and shifts are added.
    """
    tensors, before, after = layer.tensors, layer.before, layer.after
    scratch = _scratch(tensors, after)
    parts = np.zeros(after.pooled * LANES, np.float32)
    channel = 0
    for t in range(len(tensors)):
        n, m, _ = tensors[t]
        place = after.places[t]
        d, start = place[:2]
        step = _rows_at_once(m)
        for first in range(0, n, step):
            rows = min(step, n - first)
            g, own = _correct(
                grad_y, y, start + first * m * d, rows * m, d, channel, correction, scratch
            )
            _sum_rows(g, own, first, rows, m, place, parts)
        _finish_sum(n, place, parts)
        channel += d
    grad_wholes[:] = parts[: after.channels * LANES]
    grad_pooled = np.zeros(before.pooled * LANES, np.float32)
    C, D = before.channels, after.channels
    a, b, out = Matrix(weights, 0, 1, C), Matrix(parts, 0, 1, D), Matrix(grad_pooled, 0, 1, C)
    multiply(C, 1, D, a, b, out, False)
    for axis in range(len(layer.axes)):
        n, c, d, start, parts_start, map_start = layer.axes[axis]
        b, out = Matrix(parts, parts_start, 1, d), Matrix(grad_pooled, start, 1, c)
        if grad_z.size > 0:
            multiply(c, n, d, Matrix(weights, map_start, 1, c), b, out, False)
        right, out = Matrix(pooled, start, c, 1), Matrix(grad_weights, map_start, c, 1)
        multiply_sum(d, c, n, b, right, out, True)
    features_backward(
        layer, z, affine, keep, weights, pooled, grad_pooled, y, grad_y, correction, grad_weights,
        grad_affine, grad_z,
    )  # fmt: skip
