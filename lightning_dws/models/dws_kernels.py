"""A layer of DWSNet for the INRs of a group, compiled by Numba: an INR in each lane.

A layer

1. pools its activated features (``pooling_kernels``),
2. maps what is pooled along each axis, and the wholes: these are the parts, to which attention
   along each axis, if any, adds (``axis_attention_kernels``),
3. spreads the parts: features of a position are those of its row and of its column, to which the
   whole's are added before, and the map of its own features if the tensor has two axes.

Its backward pass does the same with gradients: it pools those of the result to the parts, maps
these, and spreads them. Some rows at a time are taken through all steps in the cache. Weights are
single values.
"""

# Numba says what the arguments are, annotations would not.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, call-arg, var-annotated"

from typing import Any, NamedTuple

import numpy as np

from lightning_dws.models.axis_attention_kernels import attend_axis, attend_axis_backward
from lightning_dws.models.lanes import (
    LANES,
    Matrix,
    keep_above,
    kernel,
    load,
    multiply,
    multiply_add,
    multiply_sum,
    splat,
    store,
)
from lightning_dws.models.pooling_kernels import (
    Side,
    activate,
    add_wholes,
    finish_sum,
    make_scratch,
    pool_features,
    rows_at_once,
    share_among_maxima,
    spread,
    spread_to_maxima,
    sum_rows,
)
from lightning_dws.models.scratch_kernels import make_room


class Layer(NamedTuple):
    """What a layer computes.

    Attributes:
        tensors: (T, 3) of each tensor n, m and where its positions' map begins, -1 if it has none.
        axes: (1 + A, 8) of the wholes, as of an axis of length 1, and then of each axis that has a
            map its number of neurons, channels that are mapped and that result, where what is
            pooled along it begins and the step from a neuron to the next, likewise of its parts,
            and its map.
        blocks: Of attention (``axis_attention_kernels``).
        bias: Where the wholes' bias begins.
        before: Of the features that it reads.
        after: And of those that it gives.
        attended: Number of entries that attention keeps.
        takes_maxima: How it pools: by maxima, or by sums.
        floor: What activated features are at least: 0, or -inf if they are not activated.
    """

    tensors: Any
    axes: Any
    blocks: Any
    bias: int
    before: Side
    after: Side
    attended: int
    takes_maxima: bool
    floor: float


@kernel
def layer_forward(layer, z, affine, keep, weights, y, pooled, attended, moments):
    """Compute y, what is kept, and each channel's mean and sum of squares if there is room."""
    tensors, before, after = layer.tensors, layer.before, layer.after
    pool_features(tensors, before, layer.takes_maxima, z, affine, layer.floor, keep, pooled)
    parts = make_room(after.pooled)
    parts[:] = 0
    for channel in range(after.channels):
        store(parts, channel, splat(weights[layer.bias + channel]))
    for axis in range(len(layer.axes)):
        n, c, d, start, step, parts_start, parts_step, map_start = layer.axes[axis]
        a, b = Matrix(weights, map_start, c, 1), Matrix(pooled, start, 1, step)
        multiply(d, n, c, a, b, Matrix(parts, parts_start, 1, parts_step), True)
    attend_axis(layer.blocks, weights, pooled, attended, parts)
    add_wholes(tensors, after, parts)
    moments[:] = 0
    scratch = make_scratch(tensors, before)
    for t in range(len(tensors)):
        n, m, map_start = tensors[t]
        place, y_place = before.places[t], after.places[t]
        c, z_start, d, y_start = place[0], place[1], y_place[0], y_place[1]
        step = rows_at_once(m)
        for first in range(0, n, step):
            rows, own = min(step, n - first), y_start + first * m * d
            spread(parts, first, rows, m, y_place, y, own)
            if map_start >= 0:
                z_own = z_start + first * m * c
                activate(z, z_own, rows * m, place, affine, layer.floor, keep, scratch)
                a, b = Matrix(weights, map_start, c, 1), Matrix(scratch, 0, 1, c)
                multiply(d, rows * m, c, a, b, Matrix(y, own, 1, d), True)
            if moments.size > 0:
                _add_moments(y, own, rows * m, y_place, moments)
        if moments.size > 0:
            _finish_moments(y, n * m, y_place, moments)


@kernel
def _add_moments(y, start, positions, place, moments):
    """Add to the sums, and sums of squares, of what features are more than the first position."""
    d, first, channel, squares = place[0], place[1], place[2], moments.size // (2 * LANES)
    for k in range(d):
        own, origin = channel + k, load(y, first + k)
        total, total_squares = load(moments, own), load(moments, squares + own)
        for p in range(positions):
            value = load(y, start + p * d + k) - origin
            total, total_squares = total + value, multiply_add(value, value, total_squares)
        store(moments, own, total)
        store(moments, squares + own, total_squares)


@kernel
def _finish_moments(y, positions, place, moments):
    """Turn the sums to the mean, and to the sum of squares of what features are more than it."""
    d, first, channel, squares = place[0], place[1], place[2], moments.size // (2 * LANES)
    share = splat(np.float32(1 / positions))
    for k in range(channel, channel + d):
        total = load(moments, k)
        mean = total * share
        store(moments, k, load(y, first + k - channel) + mean)
        store(moments, squares + k, load(moments, squares + k) - total * mean)


@kernel
def _add_grad_of_moments(grad, y, start, positions, place, slopes):
    """Add to the gradients of features those of their moments, which are linear in them."""
    d, channel, offsets = place[0], place[2], slopes.size // (2 * LANES)
    for p in range(positions):
        for k in range(d):
            slope, offset = load(slopes, channel + k), load(slopes, offsets + channel + k)
            own = start + p * d + k
            store(grad, own, load(grad, own) + multiply_add(slope, load(y, own), offset))


@kernel
def layer_backward(
    layer, z, affine, keep, weights, pooled, attended, y, grad_y, slopes, grad_weights,
    grad_wholes, grad_affine, grad_z,
):  # fmt: skip
    """Compute gradients; of the wholes' map and bias only those of what it gives.

    Those of weights, scales and shifts are added; arrays without room are not filled. What comes of
    the moments is added to grad_y, and grad_z may be the same array, as in ``features_backward``.
    """
    tensors, before, after = layer.tensors, layer.before, layer.after
    parts = make_room(after.pooled)
    parts[:] = 0
    for t in range(len(tensors)):
        n, m, _ = tensors[t]
        place = after.places[t]
        d, start = place[:2]
        step = rows_at_once(m)
        for first in range(0, n, step):
            rows, own = min(step, n - first), start + first * m * d
            if slopes.size > 0:
                _add_grad_of_moments(grad_y, y, own, rows * m, place, slopes)
            sum_rows(grad_y[own * LANES :], first, rows, m, place, parts)
        finish_sum(n, place, parts)
    for channel in range(after.channels):
        store(grad_wholes, channel, load(parts, channel))
    grad_pooled = make_room(before.pooled)
    grad_pooled[:] = 0
    for axis in range(len(layer.axes)):
        n, c, d, start, step, parts_start, parts_step, map_start = layer.axes[axis]
        b, out = Matrix(parts, parts_start, 1, parts_step), Matrix(grad_pooled, start, 1, step)
        if grad_z.size > 0:
            multiply(c, n, d, Matrix(weights, map_start, 1, c), b, out, True)
        if axis > 0:
            right, out = Matrix(pooled, start, step, 1), Matrix(grad_weights, map_start, c, 1)
            multiply_sum(d, c, n, b, right, out, True)
    attend_axis_backward(
        layer.blocks, weights, pooled, attended, parts, grad_z.size > 0, grad_pooled, grad_weights
    )
    features_backward(
        layer,
        z,
        affine,
        keep,
        weights,
        pooled,
        grad_pooled,
        grad_y,
        grad_weights,
        grad_affine,
        grad_z,
    )


@kernel
def features_backward(
    layer, z, affine, keep, weights, pooled, grad_pooled, grad_y, grad_weights, grad_affine, grad_z
):
    """Give gradients of features by those of what is pooled from them, and by their own maps'.

    Those of scales and shifts are added up for each lane. grad_z may be grad_y where features have
    the same places.
    """
    tensors, before, after = layer.tensors, layer.before, layer.after
    needs_grad_z = grad_z.size > 0
    if needs_grad_z and layer.takes_maxima:
        share_among_maxima(tensors, before, z, affine, layer.floor, keep, pooled, grad_pooled)
    elif needs_grad_z:
        add_wholes(tensors, before, grad_pooled)
    a, grad = make_scratch(tensors, before), make_scratch(tensors, before)
    for t in range(len(tensors)):
        n, m, map_start = tensors[t]
        place = before.places[t]
        c, z_start = place[:2]
        d, y_start = after.places[t, :2]
        step = rows_at_once(m)
        for first in range(0, n, step):
            rows = min(step, n - first)
            positions, own = rows * m, z_start + first * m * c
            activate(z, own, positions, place, affine, layer.floor, keep, a)
            g, out = Matrix(grad_y, y_start + first * m * d, 1, d), Matrix(grad, 0, 1, c)
            if map_start >= 0:
                grad_map = Matrix(grad_weights, map_start, c, 1)
                multiply_sum(d, c, positions, g, Matrix(a, 0, c, 1), grad_map, True)
            if not needs_grad_z:
                continue
            if layer.takes_maxima:
                spread_to_maxima(grad_pooled, pooled, a, first, rows, m, place, grad)
            else:
                spread(grad_pooled, first, rows, m, place, grad, out.start)
            if map_start >= 0:
                multiply(c, positions, d, Matrix(weights, map_start, 1, c), g, out, True)
            _activate_backward(
                z, own, positions, place, affine, layer.floor, a, grad, grad_affine, grad_z
            )


@kernel
def _activate_backward(z, start, positions, place, affine, floor, a, grad, grad_affine, grad_z):
    c, channel, channels, low = place[0], place[2], affine.size // 3, splat(np.float32(floor))
    for p in range(positions):
        for k in range(c):
            here, own, column = p * c + k, start + p * c + k, channel + k
            value = keep_above(load(a, here), low, load(grad, here))
            if grad_affine.size > 0:
                total = load(grad_affine, column)
                centred = load(z, own) - splat(affine[column])
                store(grad_affine, column, multiply_add(value, centred, total))
                total = load(grad_affine, channels + column)
                store(grad_affine, channels + column, total + value)
            store(grad_z, own, value * splat(affine[channels + column]))
