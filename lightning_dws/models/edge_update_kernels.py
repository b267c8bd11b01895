"""Updates of the edges of the INRs of a group, compiled by Numba: an INR in each lane.

Pairs, ``rows`` and ``columns`` are as in ``attention_kernels``, of all N nodes; updated are those of
the last R nodes to all. Arrays of entries: edges (P, D), query_terms (R, F), key_terms (N, F),
updated (R, N, D). ``keep`` (2, R, N, D) are the bits of the lanes that dropout keeps, or empty.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call"

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from lightning_dws.models.lanes import (
    LANES,
    Matrix,
    gelu,
    gelu_slope,
    keep_lanes,
    kernel,
    load,
    multiply,
    multiply_lanes,
    splat,
    square_root,
    store,
)

_PAIRS = 17  # at a time, whose wide features stay in the cache


class Maps(NamedTuple):
    """Parameters of an update, or entries of their gradients, flat: see ``EdgeUpdateTerms``.

    ``no_edge`` is what all pairs' edges are beside their features.
    """

    own: Any
    opposite: Any
    out: Any
    out_bias: Any
    norm: Any
    mlp_in: Any
    mlp_out: Any
    mlp_out_bias: Any
    mlp_norm: Any
    no_edge: Any


class _Block(NamedTuple):
    """What a residual block computes for some pairs, of which the gradient is made."""

    hidden: Any
    active: Any
    normalised: Any
    inverse_std: Any
    result: Any


@njit
def _new_block(D, F):
    return _Block(
        np.empty(_PAIRS * F * LANES, np.float32),
        np.empty(_PAIRS * F * LANES, np.float32),
        np.empty(_PAIRS * D * LANES, np.float32),
        np.empty(_PAIRS * LANES, np.float32),
        np.empty(_PAIRS * D * LANES, np.float32),
    )


@njit(error_model="numpy")
def _finish_block(count, D, F, block, e, out, bias, norm, keep, keep_start):
    """Give ``norm(e + keep * (out gelu(hidden) + bias))`` from hidden, where e is in the result."""
    for place in range(count * F):
        store(block.active, place, gelu(load(block.hidden, place)))
    x = block.normalised
    multiply(D, count, F, Matrix(out, 0, F, 1), Matrix(block.active, 0, 1, F), Matrix(x, 0, 1, D), False)
    share = splat(np.float32(1 / D))
    for pair in range(count):
        mean = splat(np.float32(0))
        for d in range(D):
            place = pair * D + d
            added = load(x, place) + splat(bias[d])
            if keep.size > 0:
                added = keep_lanes(keep[keep_start + place], added)
            added = added + load(e, place)
            store(x, place, added)
            mean = mean + added
        mean = mean * share
        variance = splat(np.float32(0))
        for d in range(D):
            centred = load(x, pair * D + d) - mean
            store(x, pair * D + d, centred)
            variance = variance + centred * centred
        std = square_root(variance * share + splat(np.float32(1e-5)))
        inverse = splat(np.float32(1)) / std
        store(block.inverse_std, pair, inverse)
        for d in range(D):
            normalised = load(x, pair * D + d) * inverse
            store(x, pair * D + d, normalised)
            store(block.result, pair * D + d, normalised * splat(norm[d]) + splat(norm[D + d]))


@njit(error_model="numpy")
def _block_backward(
    count, D, F, block, grad, out, norm, keep, keep_start, grad_out, grad_bias, grad_norm,
    grad_update, grad_hidden,
):  # fmt: skip
    """Turn the gradient of the result into that of e, and give that of hidden."""
    share = splat(np.float32(1 / D))
    for pair in range(count):
        mean, projection = splat(np.float32(0)), splat(np.float32(0))
        for d in range(D):
            place = pair * D + d
            own, normalised = load(grad, place), load(block.normalised, place)
            store(grad_norm, d, load(grad_norm, d) + own * normalised)
            store(grad_norm, D + d, load(grad_norm, D + d) + own)
            own = own * splat(norm[d])
            store(grad, place, own)
            mean = mean + own
            projection = projection + own * normalised
        mean, projection = mean * share, projection * share
        inverse = load(block.inverse_std, pair)
        for d in range(D):
            place = pair * D + d
            own = load(grad, place) - mean - load(block.normalised, place) * projection
            own = own * inverse
            store(grad, place, own)
            if keep.size > 0:
                own = keep_lanes(keep[keep_start + place], own)
            store(grad_update, place, own)
            store(grad_bias, d, load(grad_bias, d) + own)
    update = Matrix(grad_update, 0, 1, D)
    multiply(F, count, D, Matrix(out, 0, 1, F), update, Matrix(grad_hidden, 0, 1, F), False)
    active, total = Matrix(block.active, 0, F, 1), Matrix(grad_out, 0, F, 1)
    multiply_lanes(D, F, count, update, active, total, True)
    for place in range(count * F):
        slope = gelu_slope(load(block.hidden, place))
        store(grad_hidden, place, load(grad_hidden, place) * slope)


@njit(error_model="numpy")
def _two_blocks(
    i, j, count, R, N, D, F, row, column, edges, query_terms, key_terms, maps, keep, first, second, e,
):  # fmt: skip
    """Compute the edges of query i to keys from j."""
    for pair in range(count):
        for f in range(F):
            value = load(query_terms, i * F + f) + load(key_terms, (j + pair) * F + f)
            store(first.hidden, pair * F + f, value)
    for pair in range(count):
        for d in range(D):
            value = splat(maps.no_edge[d])
            if row[1] <= j + pair < row[2]:
                value = value + load(edges, (row[0] + j + pair - row[1]) * D + d)
            store(e, pair * D + d, value)
    low, high = max(j, row[1]), min(j + count, row[2])
    if low < high:
        own = Matrix(edges, (row[0] + low - row[1]) * D, 1, D)
        hidden = Matrix(first.hidden, (low - j) * F, 1, F)
        multiply(F, high - low, D, Matrix(maps.own, 0, D, 1), own, hidden, True)
    low, high = max(j, column[2]), min(j + count, column[3])
    if low < high:
        place = column[0] + (low - column[2]) * column[1]
        opposite = Matrix(edges, place * D, 1, column[1] * D)
        hidden = Matrix(first.hidden, (low - j) * F, 1, F)
        multiply(F, high - low, D, Matrix(maps.opposite, 0, D, 1), opposite, hidden, True)
    start = (i * N + j) * D
    _finish_block(count, D, F, first, e, maps.out, maps.out_bias, maps.norm, keep, start)
    result, hidden = Matrix(first.result, 0, 1, D), Matrix(second.hidden, 0, 1, F)
    multiply(F, count, D, Matrix(maps.mlp_in, 0, D, 1), result, hidden, False)
    start += R * N * D
    _finish_block(
        count, D, F, second, first.result, maps.mlp_out, maps.mlp_out_bias, maps.mlp_norm, keep, start
    )


@kernel
def update_group(R, N, D, F, rows, columns, edges, query_terms, key_terms, maps, keep, updated):
    """Compute the updated edges."""
    first, second = _new_block(D, F), _new_block(D, F)
    e = np.empty(_PAIRS * D * LANES, np.float32)
    for i in range(R):
        row, column = rows[N - R + i], columns[N - R + i]
        for j in range(0, N, _PAIRS):
            count = min(_PAIRS, N - j)
            _two_blocks(
                i, j, count, R, N, D, F, row, column, edges, query_terms, key_terms, maps, keep,
                first, second, e,
            )  # fmt: skip
            for place in range(count * D):
                store(updated, (i * N + j) * D + place, load(second.result, place))


@kernel
def update_group_backward(
    R, N, D, F, rows, columns, edges, query_terms, key_terms, maps, keep,
    grad_updated, grad_edges, grad_query_terms, grad_key_terms, grads,
):  # fmt: skip
    """Add to the gradients, which begin as zeros; each lane has its INR's."""
    first, second = _new_block(D, F), _new_block(D, F)
    e = np.empty(_PAIRS * D * LANES, np.float32)
    grad, grad_update = np.empty_like(e), np.empty_like(e)
    grad_hidden = np.empty_like(first.hidden)
    for i in range(R):
        row, column = rows[N - R + i], columns[N - R + i]
        for j in range(0, N, _PAIRS):
            count, start = min(_PAIRS, N - j), (i * N + j) * D
            _two_blocks(
                i, j, count, R, N, D, F, row, column, edges, query_terms, key_terms, maps, keep,
                first, second, e,
            )  # fmt: skip
            for place in range(count * D):
                store(grad, place, load(grad_updated, start + place))
            _block_backward(
                count, D, F, second, grad, maps.mlp_out, maps.mlp_norm, keep, start + R * N * D,
                grads.mlp_out, grads.mlp_out_bias, grads.mlp_norm, grad_update, grad_hidden,
            )  # fmt: skip
            hidden, result = Matrix(grad_hidden, 0, 1, F), Matrix(first.result, 0, D, 1)
            multiply_lanes(F, D, count, hidden, result, Matrix(grads.mlp_in, 0, D, 1), True)
            multiply(D, count, F, Matrix(maps.mlp_in, 0, 1, D), hidden, Matrix(grad, 0, 1, D), True)
            _block_backward(
                count, D, F, first, grad, maps.out, maps.norm, keep, start,
                grads.out, grads.out_bias, grads.norm, grad_update, grad_hidden,
            )  # fmt: skip
            for pair in range(count):
                for f in range(F):
                    own = load(grad_hidden, pair * F + f)
                    place = (j + pair) * F + f
                    store(grad_key_terms, place, load(grad_key_terms, place) + own)
                    place = i * F + f
                    store(grad_query_terms, place, load(grad_query_terms, place) + own)
                for d in range(D):
                    own = load(grad, pair * D + d)
                    store(grads.no_edge, d, load(grads.no_edge, d) + own)
                    if row[1] <= j + pair < row[2]:
                        place = (row[0] + j + pair - row[1]) * D + d
                        store(grad_edges, place, load(grad_edges, place) + own)
            low, high = max(j, row[1]), min(j + count, row[2])
            if low < high:
                place = (row[0] + low - row[1]) * D
                hidden = Matrix(grad_hidden, (low - j) * F, 1, F)
                total = Matrix(grads.own, 0, D, 1)
                multiply_lanes(F, D, high - low, hidden, Matrix(edges, place, D, 1), total, True)
                total = Matrix(grad_edges, place, 1, D)
                multiply(D, high - low, F, Matrix(maps.own, 0, 1, D), hidden, total, True)
            low, high = max(j, column[2]), min(j + count, column[3])
            if low < high:
                place = (column[0] + (low - column[2]) * column[1]) * D
                hidden, step = Matrix(grad_hidden, (low - j) * F, 1, F), column[1] * D
                total = Matrix(grads.opposite, 0, D, 1)
                multiply_lanes(F, D, high - low, hidden, Matrix(edges, place, step, 1), total, True)
                total = Matrix(grad_edges, place, 1, step)
                multiply(D, high - low, F, Matrix(maps.opposite, 0, 1, D), hidden, total, True)
