"""Linear assignments for the CPU, compiled by Numba: shortest augmenting paths with a warm start.

The method of Jonker and Volgenant (1987): prices of columns make a row's best column cheap to
find; rows whose best column is free, or can be freed by a lower price, are assigned at once, the
rest by shortest augmenting paths. Any prices are a valid start, so those of an earlier, similar
matrix leave little to do: when nothing changed, one look at the matrix.

All functions hold no lock while they run, and compile once a machine.
"""

from typing import Any

import numpy as np

from lightning_dws.compiled import compiled

_PASSES = 2  # of rows over columns that a lower price frees, before paths


@compiled
def assign(cost: Any, price: Any, column_of: Any, scratch: Any, scratch_f: Any) -> None:
    """Find the permutation of the smallest total cost.

    Args:
        cost: (n, n) float64, finite.
        price: (n,) float64 of columns; any start, changed to the optimal prices.
        column_of: (n,) int64, written: each row's column.
        scratch: (5, n) int64, written.
        scratch_f: (n,) float64, written.
    """
    n = cost.shape[0]
    row_of, free = scratch[0], scratch[1]
    for k in range(n):
        row_of[k] = -1
        column_of[k] = -1
        free[k] = k
    num_free = n
    for _ in range(_PASSES):
        num_free = _reduce_rows(cost, price, column_of, row_of, free, num_free, scratch_f)
    for k in range(num_free):
        _augment(cost, price, column_of, row_of, free[k], scratch[2:], scratch_f)


@compiled
def _two_least(cost: Any, price: Any, reduced: Any) -> tuple[float, int, float, int]:
    """Find the two columns of the least reduced cost; in three passes that are vectorised."""
    n = len(cost)
    best, second = np.inf, np.inf
    for j in range(n):
        reduced[j] = cost[j] - price[j]
        best = min(best, reduced[j])
    column = 0
    while reduced[column] != best:
        column += 1
    reduced[column] = np.inf
    for j in range(n):
        second = min(second, reduced[j])
    other = 0
    while reduced[other] != second:
        other += 1
    return best, column, second, other


@compiled
def _reduce_rows(
    cost: Any, price: Any, column_of: Any, row_of: Any, free: Any, num_free: int, reduced: Any
) -> int:
    """Give free rows their best columns; a row that loses its own looks again.

    Returns:
        How many rows are free now: the first of ``free``.
    """
    n = cost.shape[0]
    left, at, looks = 0, 0, 0
    while at < num_free:
        row = free[at]
        at += 1
        looks += 1
        best, column, second, other = _two_least(cost[row], price, reduced)
        lowered = price[column] - (second - best)
        lowers = n > 1 and lowered < price[column]
        if lowers:
            price[column] = lowered
        elif row_of[column] >= 0 and n > 1:
            column = other
        loser = row_of[column]
        row_of[column] = row
        column_of[row] = column
        if loser >= 0:
            column_of[loser] = -1
            if lowers and looks < 4 * n:
                at -= 1
                free[at] = loser
            else:
                free[left] = loser
                left += 1
    return left


@compiled
def _augment(
    cost: Any, price: Any, column_of: Any, row_of: Any, start: int, scratch: Any, distance: Any
) -> None:
    """Assign one more row, along the shortest path to a free column (Dijkstra)."""
    n = cost.shape[0]
    previous, left, done = scratch[0], scratch[1], scratch[2]
    for j in range(n):
        distance[j] = np.inf
        left[j] = j
    num_left, num_done = n, 0
    row, base = start, 0.0
    while True:
        least, place = np.inf, 0
        for k in range(num_left):
            j = left[k]
            through = cost[row, j] - price[j] - base
            if through < distance[j]:
                distance[j] = through
                previous[j] = row
            if distance[j] < least or (distance[j] == least and row_of[j] < 0):
                least, place = distance[j], k
        nearest = left[place]
        if row_of[nearest] < 0:
            break
        num_left -= 1
        left[place] = left[num_left]
        done[num_done] = nearest
        num_done += 1
        row = row_of[nearest]
        base = cost[row, nearest] - price[nearest] - least
    for k in range(num_done):
        price[done[k]] += distance[done[k]] - least
    column = nearest
    while True:
        row = previous[column]
        row_of[column] = row
        taken = column_of[row]
        column_of[row] = column
        if row == start:
            break
        column = taken
