"""Updates of the edges of the INRs of a group, compiled by Numba: an INR in each lane.

Pairs, ``rows`` and ``columns`` are as in ``attention_kernels``, of all N nodes; updated are those
of the last R nodes to all. Arrays of entries: edges (P, E), query_terms (R, F), key_terms (N, F),
updated (R, N, E). ``keep`` (2, R, N, D) are the bits of the lanes that dropout keeps, or empty.
"""

# Numba says what the arguments are, annotations would not; capitals are the sizes named above.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, call-arg, var-annotated"
# ruff: noqa: N803, N806

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
def _new_features(channels):
    return np.empty(_PAIRS * (channels | 1) * LANES, np.float32)


@njit
def _new_block(D, F):
    return _Block(
        _new_features(F),
        _new_features(F),
        _new_features(D),
        np.empty(_PAIRS * LANES, np.float32),
        _new_features(D),
    )


@njit(error_model="numpy")
def _finish_block(count, D, F, block, e, out, bias, norm, keep, keep_start):
    """Give ``norm(e + keep * (out gelu(hidden) + bias))`` from hidden, where e is in the result."""
    E, G = D | 1, F | 1
    for place in range(count * G):
        store(block.active, place, gelu(load(block.hidden, place)))
    x, active = block.normalised, Matrix(block.active, 0, 1, G)
    multiply(D, count, F, Matrix(out, 0, F, 1), active, Matrix(x, 0, 1, E), False)
    share = splat(np.float32(1 / D))
    for pair in range(count):
        mean = splat(np.float32(0))
        for d in range(D):
            place = pair * E + d
            added = load(x, place) + splat(bias[d])
            if keep.size > 0:
                added = keep_lanes(keep[keep_start + pair * D + d], added)
            added = added + load(e, place)
            store(x, place, added)
            mean = mean + added
        mean = mean * share
        variance = splat(np.float32(0))
        for d in range(D):
            centred = load(x, pair * E + d) - mean
            store(x, pair * E + d, centred)
            variance = variance + centred * centred
        std = square_root(variance * share + splat(np.float32(1e-5)))
        inverse = splat(np.float32(1)) / std
        store(block.inverse_std, pair, inverse)
        for d in range(D):
            normalised = load(x, pair * E + d) * inverse
            store(x, pair * E + d, normalised)
            store(block.result, pair * E + d, normalised * splat(norm[d]) + splat(norm[D + d]))


@njit(error_model="numpy")
def _block_backward(
    count, D, F, block, grad, out, norm, keep, keep_start, grad_out, grad_bias, grad_norm,
    grad_update, grad_hidden,
):  # fmt: skip
    """Turn the gradient of the result into that of e, and give that of hidden."""
    E, G = D | 1, F | 1
    share = splat(np.float32(1 / D))
    for pair in range(count):
        mean, projection = splat(np.float32(0)), splat(np.float32(0))
        for d in range(D):
            place = pair * E + d
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
            place = pair * E + d
            own = load(grad, place) - mean - load(block.normalised, place) * projection
            own = own * inverse
            store(grad, place, own)
            if keep.size > 0:
                own = keep_lanes(keep[keep_start + pair * D + d], own)
            store(grad_update, place, own)
            store(grad_bias, d, load(grad_bias, d) + own)
    update = Matrix(grad_update, 0, 1, E)
    multiply(F, count, D, Matrix(out, 0, 1, F), update, Matrix(grad_hidden, 0, 1, G), False)
    active, total = Matrix(block.active, 0, G, 1), Matrix(grad_out, 0, F, 1)
    multiply_lanes(D, F, count, update, active, total, True)
    for place in range(count * G):
        slope = gelu_slope(load(block.hidden, place))
        store(grad_hidden, place, load(grad_hidden, place) * slope)


@njit(error_model="numpy")
def _two_blocks(
    i, j, count, R, N, D, F, row, column, edges, query_terms, key_terms, maps, keep,
    first, second, e,
):  # fmt: skip
    """Compute the edges of query i to keys from j."""
    E, G = D | 1, F | 1
    for pair in range(count):
        for f in range(F):
            value = load(query_terms, i * F + f) + load(key_terms, (j + pair) * F + f)
            store(first.hidden, pair * G + f, value)
    for pair in range(count):
        for d in range(D):
            value = splat(maps.no_edge[d])
            if row[1] <= j + pair < row[2]:
                value = value + load(edges, (row[0] + j + pair - row[1]) * E + d)
            store(e, pair * E + d, value)
    low, high = max(j, row[1]), min(j + count, row[2])
    if low < high:
        own = Matrix(edges, (row[0] + low - row[1]) * E, 1, E)
        hidden = Matrix(first.hidden, (low - j) * G, 1, G)
        multiply(F, high - low, D, Matrix(maps.own, 0, D, 1), own, hidden, True)
    low, high = max(j, column[2]), min(j + count, column[3])
    if low < high:
        place = column[0] + (low - column[2]) * column[1]
        opposite = Matrix(edges, place * E, 1, column[1] * E)
        hidden = Matrix(first.hidden, (low - j) * G, 1, G)
        multiply(F, high - low, D, Matrix(maps.opposite, 0, D, 1), opposite, hidden, True)
    start = (i * N + j) * D
    _finish_block(count, D, F, first, e, maps.out, maps.out_bias, maps.norm, keep, start)
    result, hidden = Matrix(first.result, 0, 1, E), Matrix(second.hidden, 0, 1, G)
    multiply(F, count, D, Matrix(maps.mlp_in, 0, D, 1), result, hidden, False)
    start += R * N * D
    _finish_block(
        count,
        D,
        F,
        second,
        first.result,
        maps.mlp_out,
        maps.mlp_out_bias,
        maps.mlp_norm,
        keep,
        start,
    )


@kernel
def update_group(R, N, D, F, rows, columns, edges, query_terms, key_terms, maps, keep, updated):
    """Compute the updated edges."""
    E = D | 1
    first, second, e = _new_block(D, F), _new_block(D, F), _new_features(D)
    for i in range(R):
        row, column = rows[N - R + i], columns[N - R + i]
        for j in range(0, N, _PAIRS):
            count = min(_PAIRS, N - j)
            _two_blocks(
                i, j, count, R, N, D, F, row, column, edges, query_terms, key_terms, maps, keep,
                first, second, e,
            )  # fmt: skip
            for place in range(count * E):
                store(updated, (i * N + j) * E + place, load(second.result, place))


@kernel
def update_group_backward(
    R, N, D, F, rows, columns, edges, query_terms, key_terms, maps, keep,
    grad_updated, grad_edges, grad_query_terms, grad_key_terms, grads,
):  # fmt: skip
    """Add to the gradients, which begin as zeros; each lane has its INR's."""
    E, G = D | 1, F | 1
    first, second, e = _new_block(D, F), _new_block(D, F), _new_features(D)
    grad, grad_update, grad_hidden = _new_features(D), _new_features(D), _new_features(F)
    for i in range(R):
        row, column = rows[N - R + i], columns[N - R + i]
        for j in range(0, N, _PAIRS):
            count, start = min(_PAIRS, N - j), (i * N + j) * D
            _two_blocks(
                i, j, count, R, N, D, F, row, column, edges, query_terms, key_terms, maps, keep,
                first, second, e,
            )  # fmt: skip
            for place in range(count * E):
                store(grad, place, load(grad_updated, (i * N + j) * E + place))
            _block_backward(
                count, D, F, second, grad, maps.mlp_out, maps.mlp_norm, keep, start + R * N * D,
                grads.mlp_out, grads.mlp_out_bias, grads.mlp_norm, grad_update, grad_hidden,
            )  # fmt: skip
            hidden, result = Matrix(grad_hidden, 0, 1, G), Matrix(first.result, 0, E, 1)
            multiply_lanes(F, D, count, hidden, result, Matrix(grads.mlp_in, 0, D, 1), True)
            multiply(D, count, F, Matrix(maps.mlp_in, 0, 1, D), hidden, Matrix(grad, 0, 1, E), True)
            _block_backward(
                count, D, F, first, grad, maps.out, maps.norm, keep, start,
                grads.out, grads.out_bias, grads.norm, grad_update, grad_hidden,
            )  # fmt: skip
            for pair in range(count):
                for f in range(F):
                    own = load(grad_hidden, pair * G + f)
                    place = (j + pair) * F + f
                    store(grad_key_terms, place, load(grad_key_terms, place) + own)
                    place = i * F + f
                    store(grad_query_terms, place, load(grad_query_terms, place) + own)
                for d in range(D):
                    own = load(grad, pair * E + d)
                    store(grads.no_edge, d, load(grads.no_edge, d) + own)
                    if row[1] <= j + pair < row[2]:
                        place = (row[0] + j + pair - row[1]) * E + d
                        store(grad_edges, place, load(grad_edges, place) + own)
            low, high = max(j, row[1]), min(j + count, row[2])
            if low < high:
                place = (row[0] + low - row[1]) * E
                hidden = Matrix(grad_hidden, (low - j) * G, 1, G)
                total = Matrix(grads.own, 0, D, 1)
                multiply_lanes(F, D, high - low, hidden, Matrix(edges, place, E, 1), total, True)
                total = Matrix(grad_edges, place, 1, E)
                multiply(D, high - low, F, Matrix(maps.own, 0, 1, D), hidden, total, True)
            low, high = max(j, column[2]), min(j + count, column[3])
            if low < high:
                place = (column[0] + (low - column[2]) * column[1]) * E
                hidden, step = Matrix(grad_hidden, (low - j) * G, 1, G), column[1] * E
                total = Matrix(grads.opposite, 0, D, 1)
                multiply_lanes(F, D, high - low, hidden, Matrix(edges, place, step, 1), total, True)
                total = Matrix(grad_edges, place, 1, step)
                multiply(D, high - low, F, Matrix(maps.opposite, 0, 1, D), hidden, total, True)
