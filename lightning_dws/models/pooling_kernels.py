"""Features of an INR's parameter tensors pooled, and spread again: an INR in each lane.

A tensor is n x m positions of c channels; a bias, or a weight without its fixed axis, has m = 1.
Pooled are each row, each column and the whole of every tensor; of m = 1 the only column is the
whole, and a row is a position. They have one order: the wholes of all tensors, then (n, c) along
each axis, where those that share the axis join channels. What is spread has the same order.

Features z are read activated: ``max(scale (z - mean) + shift, floor)``, or 0 where dropped.
``affine`` (3, C) is mean, scale and shift of the channels of all tensors, single values. Arrays
have one axis; indices count entries.
"""

# Numba says what the arguments are, annotations would not.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, call-arg, var-annotated"

import operator
from typing import Any, NamedTuple

import numpy as np

from lightning_dws.models.lanes import (
    at_least,
    keep_equal,
    keep_lanes,
    kernel,
    load,
    maximum,
    multiply_add,
    splat,
    store,
)
from lightning_dws.models.scratch_kernels import make_room

_IN_CACHE = 64  # positions, if a row is no longer


class Side(NamedTuple):
    """Where the features of tensors stand, before or after a layer.

    Attributes:
        places: (T, 7) of each tensor its number of channels, its features' start, its whole, the
            first of its rows and the step from one to the next, and likewise of its columns.
        channels: The sum over tensors; a tensor's first one is as its whole.
        features: Number of entries.
        pooled: Likewise.
    """

    places: Any
    channels: int
    features: int
    pooled: int


@kernel
def rows_at_once(m):
    """Say how many rows of m positions stay in the cache."""
    return max(1, _IN_CACHE // m)


@kernel
def make_scratch(tensors, side):
    """Make room for the features of some rows of any tensor."""
    size = 0
    for t in range(len(tensors)):
        m = tensors[t, 1]
        size = max(size, rows_at_once(m) * m * side.places[t, 0])
    return make_room(size)


@kernel
def activate(z, start, positions, of_tensor, affine, floor, keep, out):
    """Activate features."""
    c, channel, channels = of_tensor[0], of_tensor[2], affine.size // 3
    low = splat(np.float32(floor))
    for p in range(positions):
        for k in range(c):
            mean, scale = splat(affine[channel + k]), splat(affine[channels + channel + k])
            shift = splat(affine[2 * channels + channel + k])
            value = multiply_add(load(z, start + p * c + k) - mean, scale, shift)
            store(out, p * c + k, at_least(value, low))
    if keep.size > 0:
        for place in range(positions * c):
            store(out, place, keep_lanes(keep[start + place], load(out, place)))


def _make_pool(join, name):
    def pool(x, first, rows, m, place, pooled):
        """Join some rows' features with what is in their rows and columns."""
        c, _, _, row, row_step, column, column_step = place
        for i in range(rows):
            own_row = row + (first + i) * row_step
            for j in range(m):
                here, own_column = (i * m + j) * c, column + j * column_step
                for k in range(c):
                    value = load(x, here + k)
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

    pool.__qualname__, finish.__qualname__ = f"{name}_rows", f"finish_{name}"  # linked by name
    return kernel(pool), kernel(finish)


_max_rows, _finish_max = _make_pool(maximum, "max")
sum_rows, finish_sum = _make_pool(operator.add, "sum")


@kernel
def pool_features(tensors, side, takes_maxima, z, affine, floor, keep, pooled):
    """Activate features and pool them."""
    pooled[:] = -np.inf if takes_maxima else 0
    scratch = make_scratch(tensors, side)
    for t in range(len(tensors)):
        n, m, _ = tensors[t]
        place = side.places[t]
        c, start = place[:2]
        step = rows_at_once(m)
        for first in range(0, n, step):
            rows = min(step, n - first)
            own = start + first * m * c
            activate(z, own, rows * m, place, affine, floor, keep, scratch)
            if takes_maxima:
                _max_rows(scratch, first, rows, m, place, pooled)
            else:
                sum_rows(scratch, first, rows, m, place, pooled)
        if takes_maxima:
            _finish_max(n, place, pooled)
        else:
            finish_sum(n, place, pooled)


@kernel
def add_wholes(tensors, side, parts):
    """Add a tensor's whole to its columns, where it is none itself."""
    for t in range(len(tensors)):
        c, _, whole, _, _, column, step = side.places[t]
        if column != whole:
            for j in range(tensors[t, 1]):
                for k in range(c):
                    own = column + j * step + k
                    store(parts, own, load(parts, own) + load(parts, whole + k))


@kernel
def spread(parts, first, rows, m, place, out, start):
    """Give some rows' positions the sum of their row's and their column's parts."""
    c, _, _, row, row_step, column, column_step = place
    for i in range(rows):
        own_row = row + (first + i) * row_step
        for j in range(m):
            here, own_column = start + (i * m + j) * c, column + j * column_step
            for k in range(c):
                store(out, here + k, load(parts, own_row + k) + load(parts, own_column + k))


@kernel
def spread_to_maxima(grads, pooled, a, first, rows, m, place, out):
    """Give some rows' positions the gradients of the maxima that they are."""
    c, _, _, row, row_step, column, column_step = place
    for i in range(rows):
        own_row = row + (first + i) * row_step
        for j in range(m):
            here, own_column = (i * m + j) * c, column + j * column_step
            for k in range(c):
                value = load(a, here + k)
                grad = keep_equal(value, load(pooled, own_row + k), load(grads, own_row + k))
                other = keep_equal(value, load(pooled, own_column + k), load(grads, own_column + k))
                store(out, here + k, grad + other)


@kernel
def share_among_maxima(tensors, side, z, affine, floor, keep, pooled, grads):
    """Divide gradients of maxima by the number of features that are equal to them."""
    one, zero = splat(np.float32(1)), splat(np.float32(0))
    scratch = make_scratch(tensors, side)
    counts = make_room(side.pooled)
    counts[:] = 0
    for t in range(len(tensors)):
        n, m, _ = tensors[t]
        place = side.places[t]
        c, start, whole, row, row_step, column, column_step = place
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
            activate(z, start + i * m * c, m, place, affine, floor, keep, scratch)
            own_row = row + i * row_step
            for j in range(m):
                own_column = column + j * column_step
                for k in range(c):
                    value = load(scratch, j * c + k)
                    equal = keep_equal(value, load(pooled, own_row + k), one)
                    store(counts, own_row + k, load(counts, own_row + k) + equal)
                    equal = keep_equal(value, load(pooled, own_column + k), one)
                    store(counts, own_column + k, load(counts, own_column + k) + equal)
            for k in range(own_row, own_row + c):
                store(grads, k, load(grads, k) / load(counts, k))
        for j in range(m):
            for k in range(column + j * column_step, column + j * column_step + c):
                store(grads, k, load(grads, k) / load(counts, k))
