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

_PASSES = 8  # of rows over columns that a lower price frees, before paths


@compiled
def assign(cost: Any, price: Any, column_of: Any, scratch: Any, scratch_f: Any) -> None:
    """Find the permutation of the smallest total cost.

    Args:
        cost: (n, n) float64, finite.
        price: (n,) float64 of columns; any start, changed to the optimal prices.
        column_of: (n,) int64, written: each row's column.
        scratch: (4, n) int64, written.
        scratch_f: (3, n) float64, written.
    """
    n = cost.shape[0]
    row_of, free = scratch[0], scratch[1]
    for k in range(n):
        row_of[k] = -1
        column_of[k] = -1
        free[k] = k
    num_free = n
    for _ in range(_PASSES):
        num_free = _reduce_rows(cost, price, column_of, row_of, free, num_free, scratch_f[0])
    for k in range(num_free):
        _augment(cost, price, column_of, row_of, free[k], scratch[2:], scratch_f)


@compiled
def _two_least(cost: Any, row: int, price: Any, reduced: Any) -> tuple[float, int, float]:
    """Find the least two reduced costs of a row; in passes that are vectorised.

    The least one is left out of ``reduced``.
    """
    n = cost.shape[0]
    best, second = np.inf, np.inf
    for j in range(n):
        reduced[j] = cost[row, j] - price[j]
        best = min(best, reduced[j])
    column = _find(reduced, best)
    reduced[column] = np.inf
    for j in range(n):
        second = min(second, reduced[j])
    return best, column, second


@compiled
def _find(numbers: Any, wanted: float) -> int:
    place = 0
    while numbers[place] != wanted:
        place += 1
    return place


@compiled
def _reduce_rows(
    cost: Any, price: Any, column_of: Any, row_of: Any, free: Any, num_free: int, reduced: Any
) -> int:
    """Give free rows their best columns; the row that loses its own is free.

    Returns:
        How many rows are free now: the first of ``free``.
    """
    n, left = cost.shape[0], 0
    for at in range(num_free):
        row = free[at]
        best, column, second = _two_least(cost, row, price, reduced)
        lowered = price[column] - (second - best)
        if n > 1 and lowered < price[column]:
            price[column] = lowered
        elif n > 1 and row_of[column] >= 0:
            column = _find(reduced, second)
        loser = row_of[column]
        row_of[column] = row
        column_of[row] = column
        if loser >= 0:
            column_of[loser] = -1
            free[left] = loser
            left += 1
    return left


@compiled
def _augment(
    cost: Any, price: Any, column_of: Any, row_of: Any, start: int, scratch: Any, scratch_f: Any
) -> None:
    """Assign one more row, along the shortest path to a free column (Dijkstra)."""
    n = cost.shape[0]
    previous, done = scratch[0], scratch[1]
    distance, reach, final = scratch_f[0], scratch_f[1], scratch_f[2]
    for j in range(n):
        distance[j] = np.inf
        reach[j] = price[j]
    num_done, row, base = 0, start, 0.0
    while True:
        least = np.inf
        for j in range(n):  # vectorised: what is done is out of reach
            through = cost[row, j] - reach[j] - base
            is_closer = through < distance[j]
            distance[j] = through if is_closer else distance[j]
            previous[j] = row if is_closer else previous[j]
            least = min(least, distance[j])
        nearest = _find(distance, least)
        if row_of[nearest] < 0:
            break
        distance[nearest], reach[nearest] = np.inf, -np.inf
        done[num_done], final[num_done] = nearest, least
        num_done += 1
        row = row_of[nearest]
        base = cost[row, nearest] - price[nearest] - least
    for k in range(num_done):
        price[done[k]] += final[k] - least
    column = nearest
    while True:
        row = previous[column]
        row_of[column] = row
        taken = column_of[row]
        column_of[row] = column
        if row == start:
            break
        column = taken
