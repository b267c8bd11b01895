"""Relational attention of the INRs of a group, compiled by Numba: an INR in each lane.

The pairs of an INR that have features stand in one axis of P pairs. ``rows`` (R, 3) says of every
node that queries where its pairs begin, and the keys from and to which they go; ``columns`` (N, 4)
of every key where its pairs begin and the step to its next, and the queries from and to which they
go. Of other pairs the features are 0. Arrays have one axis; these are their shapes, in entries:

edges (P, E), query (R, H, S), key (N, H, S), value (N, H, C), query_terms (R, H, D),
key_terms (N, H, D), attention (R, N, H), gated_mean (R, H, C), edge_mean (R, H, D); parameters are
forms (D, H, D), gates (H, C, D) and gate_bias (H, C). Scores are ``q_i . k_j + e . (query_term_i +
key_term_j) + sum_dd' forms_dd' e_d e_d'``, values ``v_j * (gates e + gate_bias)``. Of the forms
only those entries count whose d' is not before the block of d (``pack_forms``).

E is D or, if that is even, one more: else equal channels of many pairs would be in few sets of the
cache. The entries more are not used.
"""

# Numba says what the arguments are, annotations would not; capitals are the sizes named above.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, call-arg, var-annotated"
# ruff: noqa: N806

from typing import NamedTuple

import numpy as np

from lightning_dws.models.lanes import (
    LANES,
    Matrix,
    kernel,
    load,
    multiply,
    multiply_lanes,
    splat,
    store,
)
from lightning_dws.models.softmax_kernels import softmax, softmax_backward

FORM_BLOCK = 8
_PAIRS = 34  # at a time, whose wide features stay in the cache


class Sizes(NamedTuple):
    """R, N, H, S, C and D."""

    queries: int
    nodes: int
    heads: int
    score_channels: int
    value_channels: int
    edge_channels: int


@kernel
def attend_group(
    sizes, rows, columns, edges, query, key, value, query_terms, key_terms,
    forms, gates, gate_bias, attention, gated_mean, edge_mean,
):  # fmt: skip
    """Compute attention, gated_mean and edge_mean."""
    R, N, H, S, C, D = sizes
    E, W = D | 1, (H * C) | 1
    zero = splat(np.float32(0))
    for h in range(H):
        out = Matrix(attention, h, N * H, H)
        q, k = Matrix(query, h * S, H * S, 1), Matrix(key, h * S, 1, H * S)
        multiply_lanes(R, N, S, q, k, out, False)
    for j in range(N):
        first, step, start, stop = columns[j]
        out = Matrix(attention, (start * N + j) * H, 1, N * H)
        e = Matrix(edges, first * E, 1, step * E)
        multiply_lanes(H, stop - start, D, Matrix(key_terms, j * H * D, D, 1), e, out, True)
    mapped = np.empty(_PAIRS * (FORM_BLOCK * H + 1) * LANES, np.float32)
    gated = np.empty(_PAIRS * W * LANES, np.float32)
    for i in range(R):
        first, start, stop = rows[i]
        out = Matrix(attention, (i * N + start) * H, 1, H)
        e = Matrix(edges, first * E, 1, E)
        multiply_lanes(H, stop - start, D, Matrix(query_terms, i * H * D, D, 1), e, out, True)
        for j in range(start, stop, _PAIRS):
            count = min(_PAIRS, stop - j)
            for d in range(0, D, FORM_BLOCK):
                block = min(FORM_BLOCK, D - d)
                M = (block * H) | 1
                e = Matrix(edges, (first + j - start) * E + d, 1, E)
                form = Matrix(forms, d * H * D + d, D, 1)
                multiply(block * H, count, D - d, form, e, Matrix(mapped, 0, 1, M), False)
                for pair in range(count):
                    for h in range(H):
                        place = (i * N + j + pair) * H + h
                        score = load(attention, place)
                        for f in range(block):
                            own = load(edges, (first + j - start + pair) * E + d + f)
                            score = score + own * load(mapped, pair * M + f * H + h)
                        store(attention, place, score)
        for h in range(H):
            softmax(attention, i * N * H + h, N, H)
        e, out = Matrix(edges, first * E, E, 1), Matrix(edge_mean, i * H * D, D, 1)
        p = Matrix(attention, (i * N + start) * H, 1, H)
        multiply_lanes(H, D, stop - start, p, e, out, False)
        for h in range(H):
            for c in range(C):
                place = h * C + c
                total = zero
                if gate_bias.size > 0:
                    for j in range(N):
                        p_h = load(attention, (i * N + j) * H + h)
                        total = total + p_h * load(value, j * H * C + place)
                    total = total * splat(gate_bias[place])
                store(gated_mean, i * H * C + place, total)
        for j in range(start, stop, _PAIRS):
            count = min(_PAIRS, stop - j)
            e = Matrix(edges, (first + j - start) * E, 1, E)
            multiply(H * C, count, D, Matrix(gates, 0, D, 1), e, Matrix(gated, 0, 1, W), False)
            for h in range(H):
                for c in range(C):
                    place = h * C + c
                    total = load(gated_mean, i * H * C + place)
                    for pair in range(count):
                        p_h = load(attention, (i * N + j + pair) * H + h)
                        v = load(value, (j + pair) * H * C + place)
                        total = total + p_h * v * load(gated, pair * W + place)
                    store(gated_mean, i * H * C + place, total)


@kernel
def attend_group_backward(
    sizes, rows, columns, edges, query, key, value, query_terms, key_terms,
    forms, both_forms, gates, gate_bias, attention, grad_gated_mean, grad_edge_mean,
    grad_edges, grad_query, grad_key, grad_value, grad_query_terms, grad_key_terms,
    grad_forms, grad_gates, grad_gate_bias, grad_scores,
):  # fmt: skip
    """Add to the gradients, which begin as zeros.

    Those of parameters are entries: each lane has its INR's. ``both_forms`` (D, H, D) are the forms
    and their transposes; grad_scores (R, N, H) are those of the scores.
    """
    R, N, H, S, C, D = sizes
    E, W = D | 1, (H * C) | 1
    zero = splat(np.float32(0))
    wide = np.empty(_PAIRS * max(FORM_BLOCK * H + 1, W) * LANES, np.float32)
    for i in range(R):
        first, start, stop = rows[i]
        here = (i * N + start) * H
        if gate_bias.size > 0:
            for j in range(N):
                for h in range(H):
                    p = load(attention, (i * N + j) * H + h)
                    total = zero
                    for c in range(C):
                        place = h * C + c
                        grad = load(grad_gated_mean, i * H * C + place)
                        v = load(value, j * H * C + place)
                        bias = splat(gate_bias[place])
                        total = total + grad * v * bias
                        old = load(grad_value, j * H * C + place)
                        store(grad_value, j * H * C + place, old + p * grad * bias)
                        old = load(grad_gate_bias, place)
                        store(grad_gate_bias, place, old + p * grad * v)
                    store(grad_scores, (i * N + j) * H + h, total)
        for j in range(start, stop, _PAIRS):
            count, pairs = min(_PAIRS, stop - j), (first + j - start) * E
            e, gated = Matrix(edges, pairs, 1, E), Matrix(wide, 0, 1, W)
            multiply(H * C, count, D, Matrix(gates, 0, D, 1), e, gated, False)
            for pair in range(count):
                for h in range(H):
                    share = (i * N + j + pair) * H + h
                    p, total = load(attention, share), load(grad_scores, share)
                    for c in range(C):
                        place, node = h * C + c, (j + pair) * H * C + h * C + c
                        grad = load(grad_gated_mean, i * H * C + place)
                        gate, v = load(wide, pair * W + place), load(value, node)
                        total = total + grad * v * gate
                        grad = grad * p
                        store(grad_value, node, load(grad_value, node) + grad * gate)
                        store(wide, pair * W + place, grad * v)
                    store(grad_scores, share, total)
            out = Matrix(grad_edges, pairs, 1, E)
            multiply(D, count, H * C, Matrix(gates, 0, 1, D), gated, out, True)
            e, out = Matrix(edges, pairs, E, 1), Matrix(grad_gates, 0, D, 1)
            multiply_lanes(H * C, D, count, gated, e, out, True)
        e, grad_e = Matrix(edges, first * E, 1, E), Matrix(grad_edges, first * E, 1, E)
        own, own_t = (
            Matrix(grad_edge_mean, i * H * D, D, 1), Matrix(grad_edge_mean, i * H * D, 1, D)
        )  # fmt: skip
        grad_p = Matrix(grad_scores, here, 1, H)
        multiply_lanes(H, stop - start, D, own, e, grad_p, True)
        multiply_lanes(D, stop - start, H, own_t, Matrix(attention, here, 1, H), grad_e, True)
        for h in range(H):
            softmax_backward(attention, grad_scores, i * N * H + h, N, H)
        by_key, out = Matrix(edges, first * E, E, 1), Matrix(grad_query_terms, i * H * D, D, 1)
        multiply_lanes(H, D, stop - start, grad_p, by_key, out, False)
        own_t = Matrix(query_terms, i * H * D, 1, D)
        multiply_lanes(D, stop - start, H, own_t, grad_p, grad_e, True)
        for j in range(start, stop, _PAIRS):
            count, pairs = min(_PAIRS, stop - j), (first + j - start) * E
            for d in range(0, D, FORM_BLOCK):
                block = min(FORM_BLOCK, D - d)
                M = (block * H) | 1
                for pair in range(count):
                    for f in range(block):
                        own_e = load(edges, pairs + pair * E + d + f)
                        for h in range(H):
                            grad = load(grad_scores, (i * N + j + pair) * H + h)
                            store(wide, pair * M + f * H + h, grad * own_e)
                weighted, out = Matrix(wide, 0, 1, M), Matrix(grad_edges, pairs, 1, E)
                form = Matrix(both_forms, d * H * D, 1, D)
                multiply(D, count, block * H, form, weighted, out, True)
                e, out = Matrix(edges, pairs + d, E, 1), Matrix(grad_forms, d * H * D + d, D, 1)
                multiply_lanes(block * H, D - d, count, weighted, e, out, True)
    for j in range(N):
        first, step, start, stop = columns[j]
        grad = Matrix(grad_scores, (start * N + j) * H, 1, N * H)
        e, out = Matrix(edges, first * E, step * E, 1), Matrix(grad_key_terms, j * H * D, D, 1)
        multiply_lanes(H, D, stop - start, grad, e, out, False)
        own_t, out = Matrix(key_terms, j * H * D, 1, D), Matrix(grad_edges, first * E, 1, step * E)
        multiply_lanes(D, stop - start, H, own_t, grad, out, True)
    for h in range(H):
        q, k = Matrix(query, h * S, H * S, 1), Matrix(key, h * S, H * S, 1)
        out = Matrix(grad_query, h * S, H * S, 1)
        multiply_lanes(R, S, N, Matrix(grad_scores, h, N * H, H), k, out, False)
        out = Matrix(grad_key, h * S, H * S, 1)
        multiply_lanes(N, S, R, Matrix(grad_scores, h, H, N * H), q, out, False)
