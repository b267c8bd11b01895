"""What the dense path does for every edge, compiled by Numba for CPUs.

The arithmetic of an edge is small and its arrays are large, so the time goes into reading and
writing them: each kernel reads every edge once. Edges are (B, E, directions, D), one row per
weight and direction; direction 1 is the reversed edge. ``source`` and ``target`` (E,) are the
nodes of direction 0. All arrays of a call are contiguous and of one floating dtype.

The offsets D, 2 D, ... are compile-time constants and the loops' length is not: so LLVM sees how
the parts of a row lie to each other, and vectorises the loops.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np

VARIANCE_FLOOR = 1e-5  # a standard deviation at it counts as 0
NUM_POINTS = 8  # of the interpolation


class EdgeKernels(NamedTuple):
    """Compiled functions; see ``edge_kernels``."""

    aggregate: Callable[..., None]
    aggregate_backward: Callable[..., None]
    add_ends: Callable[..., None]
    sum_to_ends: Callable[..., None]
    interpolate: Callable[..., None]
    interpolate_backward: Callable[..., None]


@cache
def edge_kernels(dim: int, directions: int) -> EdgeKernels:
    """Compile, once a process, the kernels for D channels; none holds a lock while it runs."""
    import numba

    def aggregate(
        modulation: Any,
        bias: Any,
        ends: Any,
        source: Any,
        target: Any,
        degree: Any,
        out: Any,
        width: int,
    ) -> None:
        """Mean, min, max and std (B, N, 4 D) of the messages that end in each node.

        A message is ``s * (to_i + of_j) + t``; modulation (B, E, directions, 2 D) and bias (2 D,)
        add up to s and t, ends (B, N, 2 D) is what a node gives as the target, and as the source.
        """
        zero = modulation.dtype.type(0)
        infinity = modulation.dtype.type(np.inf)
        floor = modulation.dtype.type(VARIANCE_FLOOR)
        for b in range(modulation.shape[0]):
            for n in range(ends.shape[1]):
                for c in range(width):
                    out[b, n, c] = zero
                    out[b, n, dim + c] = infinity
                    out[b, n, 2 * dim + c] = -infinity
                    out[b, n, 3 * dim + c] = zero
            for e in range(modulation.shape[1]):
                for direction in range(directions):
                    i, j = target[e], source[e]
                    if direction == 1:
                        i, j = j, i
                    for c in range(width):
                        both = ends[b, i, c] + ends[b, j, dim + c]
                        scale = modulation[b, e, direction, c] + bias[c]
                        shift = modulation[b, e, direction, dim + c] + bias[dim + c]
                        message = scale * both + shift
                        low, high = out[b, i, dim + c], out[b, i, 2 * dim + c]
                        out[b, i, c] += message
                        out[b, i, dim + c] = message if message < low else low
                        out[b, i, 2 * dim + c] = message if message > high else high
                        out[b, i, 3 * dim + c] += message * message
            for n in range(ends.shape[1]):
                count = degree[n]
                for c in range(width):
                    if count == 0:
                        out[b, n, dim + c] = zero
                        out[b, n, 2 * dim + c] = zero
                    else:
                        mean = out[b, n, c] / count
                        variance = out[b, n, 3 * dim + c] / count - mean * mean
                        out[b, n, c] = mean
                        out[b, n, 3 * dim + c] = np.sqrt(variance) if variance > floor else zero

    def aggregate_backward(
        modulation: Any,
        bias: Any,
        ends: Any,
        source: Any,
        target: Any,
        degree: Any,
        out: Any,
        grad_out: Any,
        grad_modulation: Any,
        grad_ends: Any,
        terms: Any,
        width: int,
    ) -> None:
        """Gradients of ``aggregate``; of equal extremes the first one has the gradient.

        A message's gradient is ``constant + slope * message``, and that of an extreme where it
        is one: terms (N, 6 D), scratch, holds these for one INR.
        """
        zero = modulation.dtype.type(0)
        one = modulation.dtype.type(1)
        for b in range(modulation.shape[0]):
            for n in range(ends.shape[1]):
                count = max(degree[n], one)
                for c in range(width):
                    std = out[b, n, 3 * dim + c]
                    slope = grad_out[b, n, 3 * dim + c] / (count * std) if std > zero else zero
                    terms[n, c] = grad_out[b, n, c] / count - slope * out[b, n, c]
                    terms[n, dim + c] = slope
                    terms[n, 2 * dim + c] = grad_out[b, n, dim + c]
                    terms[n, 3 * dim + c] = grad_out[b, n, 2 * dim + c]
                    terms[n, 4 * dim + c] = out[b, n, dim + c]
                    terms[n, 5 * dim + c] = out[b, n, 2 * dim + c]
                    grad_ends[b, n, c] = zero
                    grad_ends[b, n, dim + c] = zero
            for e in range(modulation.shape[1]):
                for direction in range(directions):
                    i, j = target[e], source[e]
                    if direction == 1:
                        i, j = j, i
                    for c in range(width):
                        both = ends[b, i, c] + ends[b, j, dim + c]
                        scale = modulation[b, e, direction, c] + bias[c]
                        shift = modulation[b, e, direction, dim + c] + bias[dim + c]
                        message = scale * both + shift
                        grad_low, grad_high = terms[i, 2 * dim + c], terms[i, 3 * dim + c]
                        is_low = message == terms[i, 4 * dim + c]
                        is_high = message == terms[i, 5 * dim + c]
                        grad = terms[i, c] + terms[i, dim + c] * message
                        grad += grad_low if is_low else zero
                        grad += grad_high if is_high else zero
                        terms[i, 2 * dim + c] = zero if is_low else grad_low
                        terms[i, 3 * dim + c] = zero if is_high else grad_high
                        grad_modulation[b, e, direction, c] = grad * both
                        grad_modulation[b, e, direction, dim + c] = grad
                    for c in range(width):
                        scale = modulation[b, e, direction, c] + bias[c]
                        grad_ends[b, i, c] += grad_modulation[b, e, direction, dim + c] * scale
                    for c in range(width):
                        scale = modulation[b, e, direction, c] + bias[c]
                        grad_ends[b, j, dim + c] += (
                            grad_modulation[b, e, direction, dim + c] * scale
                        )

    def add_ends(edges: Any, ends: Any, source: Any, target: Any, width: int) -> None:
        """Add to each edge, in place, what its target and its source give."""
        for b in range(edges.shape[0]):
            for e in range(edges.shape[1]):
                for direction in range(directions):
                    i, j = target[e], source[e]
                    if direction == 1:
                        i, j = j, i
                    for c in range(width):
                        edges[b, e, direction, c] += ends[b, i, c] + ends[b, j, dim + c]

    def sum_to_ends(edges: Any, ends: Any, source: Any, target: Any, width: int) -> None:
        """Sum the edges of each node where it is the target, and where it is the source."""
        for b in range(edges.shape[0]):
            for n in range(ends.shape[1]):
                for c in range(2 * width):
                    ends[b, n, c] = 0
            for e in range(edges.shape[1]):
                for direction in range(directions):
                    i, j = target[e], source[e]
                    if direction == 1:
                        i, j = j, i
                    for c in range(width):
                        ends[b, i, c] += edges[b, e, direction, c]
                    for c in range(width):
                        ends[b, j, dim + c] += edges[b, e, direction, c]

    @numba.njit
    def lagrange(position: Any, weights: Any) -> int:
        """Weights of the points around a position; give the first point."""
        first = int(np.floor(position)) - NUM_POINTS // 2 + 1
        t = position - first
        for k in range(NUM_POINTS):
            weight = 1.0
            for m in range(NUM_POINTS):
                if m != k:
                    weight *= (t - m) / (k - m)
            weights[k] = weight
        return first

    def interpolate(positions: Any, table: Any, out: Any, width: int) -> None:
        """Rows of a table (K, width) at positions (n,), counted in rows, to out (n, width)."""
        weights = np.empty(NUM_POINTS, table.dtype)
        for n in range(len(positions)):
            first = lagrange(positions[n], weights)
            for c in range(width):
                out[n, c] = 0
            for k in range(NUM_POINTS):
                weight = weights[k]
                for c in range(width):
                    out[n, c] += weight * table[first + k, c]

    def interpolate_backward(positions: Any, grad_out: Any, grad_table: Any, width: int) -> None:
        """Add the gradient of ``interpolate`` to that of the table."""
        weights = np.empty(NUM_POINTS, grad_table.dtype)
        for n in range(len(positions)):
            first = lagrange(positions[n], weights)
            for k in range(NUM_POINTS):
                weight = weights[k]
                for c in range(width):
                    grad_table[first + k, c] += weight * grad_out[n, c]

    # Contraction into fused multiply-adds is all that is allowed: nothing is reordered.
    compiled = numba.njit(nogil=True, fastmath={"contract"}, error_model="numpy")
    return EdgeKernels(
        compiled(aggregate),
        compiled(aggregate_backward),
        compiled(add_ends),
        compiled(sum_to_ends),
        compiled(interpolate),
        compiled(interpolate_backward),
    )
