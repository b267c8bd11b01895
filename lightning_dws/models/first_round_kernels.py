"""The first round of messages of a group of INRs, compiled by Numba: an INR in each lane.

An edge's first features are one function of one number, so all linear maps of these are tabulated,
and interpolated in rows of channels, which are then transposed.
"""

# Numba makes other functions of these, and says what their arguments are: annotations would not.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, call-arg, var-annotated, misc"
# mypy: disable-error-code="untyped-decorator"
# ruff: noqa: N803, N806

import math
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from lightning_dws.models.edge_kernels import NUM_POINTS
from lightning_dws.models.lanes import LANES, kernel, load, splat, store
from lightning_dws.models.message_kernels import (
    EDGES,
    add_messages,
    add_messages_backward,
    begin,
    begin_backward,
    blocks_of,
    finish,
    new_entries,
)


class Table(NamedTuple):
    """All linear maps of an edge's first features, over its weight, or their gradient.

    Attributes:
        rows: Flat vectors of channels: scales, shifts, features of the next round; their biases are
            added already.
        row: Vectors from a row to the next.
        direction: Vectors from a direction to the next.
        cells: (W, lanes) the first row that a weight is interpolated between.
        offsets: (W, lanes) its distance from there, in rows.
    """

    rows: Any
    row: int
    direction: int
    cells: Any
    offsets: Any


class _Scratch(NamedTuple):
    points: Any
    rows: Any
    columns: Any


_FACTORS = np.array(
    [
        1 / math.prod(point - other for other in range(NUM_POINTS) if other != point)
        for point in range(NUM_POINTS)
    ],
    np.float32,
)


@intrinsic
def _transpose(typing, a, start, step, out, out_start, out_step):
    """Transpose a square of entries: as many rows of a as lanes, to as many of out."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        def pointer(which: int, row: int) -> Any:
            kind = signature.args[which]
            data = context.make_array(kind)(context, builder, values[which]).data
            start, step = values[which + 1 : which + 3]
            entry = builder.add(start, builder.mul(step, ir.Constant(step.type, row)))
            place = builder.mul(entry, ir.Constant(entry.type, LANES))
            return builder.bitcast(builder.gep(data, [place]), vector.as_pointer())

        vector = ir.VectorType(ir.FloatType(), LANES)
        half = LANES // 2
        low, high = (
            ir.Constant(
                ir.VectorType(ir.IntType(32), LANES),
                [first + lane // 2 + LANES * (lane % 2) for lane in range(LANES)],
            )
            for first in (0, half)
        )
        rows = [builder.load(pointer(0, row), align=4) for row in range(LANES)]
        for _ in range(LANES.bit_length() - 1):
            pairs = list(zip(rows[:half], rows[half:], strict=True))
            rows = [builder.shuffle_vector(*pair, mask) for pair in pairs for mask in (low, high)]
        for row, value in enumerate(rows):
            builder.store(value, pointer(3, row), align=4)
        return context.get_dummy_value()

    return types.void(a, types.intp, types.intp, out, types.intp, types.intp), generate


@njit
def _new_scratch(table):
    size = table.direction * LANES
    return _Scratch(new_entries(NUM_POINTS), new_entries(size), new_entries(size))


@njit(error_model="numpy")
def _weigh_points(table, weight, points):
    """Give the lanes' weights of the rows from their cells on: Lagrange's polynomials."""
    t = load(table.offsets, weight)
    for k in range(NUM_POINTS):
        value = splat(_FACTORS[k])
        for m in range(NUM_POINTS):
            if m != k:
                value = value * (t - splat(np.float32(m)))
        store(points, k, value)


@njit(error_model="numpy")
def _interpolate(edge, incoming, table, blocks, scratch):
    """Give the first channels of an edge, so many vectors of them, as columns of entries."""
    weight, direction = incoming.weight[edge], incoming.direction[edge]
    _weigh_points(table, weight, scratch.points)
    for lane in range(LANES):
        first = table.cells[weight * LANES + lane] * table.row + direction * table.direction
        for block in range(blocks):
            total = splat(np.float32(0))
            for point in range(NUM_POINTS):
                factor = splat(scratch.points[point * LANES + lane])
                total = total + factor * load(table.rows, first + point * table.row + block)
            store(scratch.rows, lane * table.direction + block, total)
    for block in range(blocks):
        _transpose(scratch.rows, block, table.direction, scratch.columns, block * LANES, 1)


@njit(error_model="numpy")
def _interpolate_backward(edge, incoming, grad_table, scratch):
    weight, direction = incoming.weight[edge], incoming.direction[edge]
    _weigh_points(grad_table, weight, scratch.points)
    stride = grad_table.direction
    for block in range(stride):
        _transpose(scratch.columns, block * LANES, 1, scratch.rows, block, stride)
    for lane in range(LANES):
        first = grad_table.cells[weight * LANES + lane] * grad_table.row + direction * stride
        for block in range(stride):
            grad = load(scratch.rows, lane * stride + block)
            for point in range(NUM_POINTS):
                place = first + point * grad_table.row + block
                factor = splat(scratch.points[point * LANES + lane])
                store(grad_table.rows, place, load(grad_table.rows, place) + factor * grad)


@njit(error_model="numpy")
def _look_up(edge, count, D, incoming, table, scratch, maps, updated, target):
    """Give scales and shifts of a few edges and, if there is room, features."""
    F, S = D | 1, 2 * D | 1
    blocks = table.direction if updated.size > 0 else -(-2 * D // LANES)
    for k in range(count):
        _interpolate(edge + k, incoming, table, blocks, scratch)
        for c in range(2 * D):
            store(maps, k * S + c, load(scratch.columns, c))
        if updated.size > 0:
            for c in range(D):
                store(updated, target + k * F + c, load(scratch.columns, 2 * D + c))


@njit(error_model="numpy")
def _look_up_backward(edge, count, D, incoming, grad_table, scratch, maps, updated, target):
    F, S = D | 1, 2 * D | 1
    for k in range(count):
        scratch.columns[:] = 0
        for c in range(2 * D):
            store(scratch.columns, c, load(maps, k * S + c))
        if updated.size > 0:
            for c in range(D):
                store(scratch.columns, 2 * D + c, load(updated, target + k * F + c))
        _interpolate_backward(edge + k, incoming, grad_table, scratch)


@kernel
def first_round(incoming, which, table, ends, updated, aggregates):
    """Aggregate messages, and give the next round's features."""
    D, start, next_start = which
    F, S = D | 1, 2 * D | 1
    maps, no_bias, nothing = new_entries(EDGES * S), np.zeros(2 * D, np.float32), new_entries(0)
    scratch = _new_scratch(table)
    for node in range(start, len(incoming.bounds) - 1):
        place = (node - start) * 4 * D
        begin(D, aggregates, place)
        first, end, step = blocks_of(incoming, node)
        features = updated if node >= next_start else nothing
        for edge in range(first, end, step):
            count = min(step, end - edge)
            target = (edge - incoming.bounds[next_start]) * F
            _look_up(edge, count, D, incoming, table, scratch, maps, features, target)
            add_messages(edge, count, node, D, incoming, maps, no_bias, ends, aggregates, place)
        finish(D, end - first, aggregates, place)


@kernel
def first_round_backward(
    incoming, which, table, ends, aggregates, grad_aggregates, grad_updated, grad_table, grad_ends
):
    """Add to the gradients of table and ends."""
    D, start, next_start = which
    F, S = D | 1, 2 * D | 1
    maps, no_bias, nothing = new_entries(EDGES * S), np.zeros(2 * D, np.float32), new_entries(0)
    scratch, terms, grad_bias = _new_scratch(table), new_entries(4 * D), new_entries(2 * D)
    grad_bias[:] = 0
    for node in range(start, len(incoming.bounds) - 1):
        place = (node - start) * 4 * D
        first, end, step = blocks_of(incoming, node)
        begin_backward(D, end - first, aggregates, grad_aggregates, place, terms)
        features = grad_updated if node >= next_start else nothing
        for edge in range(first, end, step):
            count = min(step, end - edge)
            target = (edge - incoming.bounds[next_start]) * F
            _look_up(edge, count, D, incoming, table, scratch, maps, nothing, 0)
            add_messages_backward(
                edge, count, node, D, incoming, maps, no_bias, ends, aggregates, place, terms,
                grad_ends, grad_bias,
            )  # fmt: skip
            _look_up_backward(edge, count, D, incoming, grad_table, scratch, maps, features, target)
