"""Linear assignments for CUDA by Triton: shortest augmenting paths with a warm start.

The method of ``assignment_kernel``, with a row of the matrix as one vector. Nothing is assigned
before the paths: with the prices of an earlier, similar matrix most rows find their column at once.
"""

# Compiled functions are not typed, and take their constants in capitals.
# mypy: disable-error-code="no-untyped-def, untyped-decorator"
# ruff: noqa: N803

import triton
import triton.language as tl


@triton.jit
def assign(scores, price_of, n, SIGNED: tl.constexpr, WIDEST: tl.constexpr):
    """Find the permutation of the largest total score, by shortest augmenting paths.

    The prices of columns may start anywhere, and end where they prove the permutation the best.
    """
    column = tl.arange(0, WIDEST)
    inside = column < n
    price = tl.load(price_of + column, inside, 0.0)
    row_of = tl.full([WIDEST], -1, tl.int32)
    column_of = tl.full([WIDEST], -1, tl.int32)
    for start in range(n):
        distance = tl.full([WIDEST], float("inf"), tl.float64)
        previous = tl.zeros([WIDEST], tl.int32)
        done = tl.where(inside, 0, 1)
        row, nearest, searching = start, 0, 1
        base = tl.sum(tl.zeros([1], tl.float64))
        least = base
        while searching == 1:
            costs = cost(tl.load(scores + row * WIDEST + column, inside, 0.0), SIGNED)
            through = costs - price - base
            shorter = (through < distance) & (done == 0)
            distance = tl.where(shorter, through, distance)
            previous = tl.where(shorter, row, previous)
            least, nearest = tl.min(
                tl.where(done == 0, distance, float("inf")), 0, return_indices=True
            )
            owner = tl.sum(tl.where(column == nearest, row_of, 0))
            if owner < 0:
                searching = 0
            else:
                row = owner
                done = tl.where(column == nearest, 1, done)
                cost_there = cost(tl.load(scores + row * WIDEST + nearest), SIGNED)
                base = cost_there - tl.sum(tl.where(column == nearest, price, 0.0)) - least
        price = tl.where((done == 1) & inside, price + distance - least, price)
        row = -1
        while row != start:  # back along the path
            row = tl.sum(tl.where(column == nearest, previous, 0))
            row_of = tl.where(column == nearest, row, row_of)
            taken = tl.sum(tl.where(column == row, column_of, 0))
            column_of = tl.where(column == row, nearest, column_of)
            nearest = taken
    tl.store(price_of + column, price, inside)
    chosen = tl.load(scores + column * WIDEST + column_of, inside, 0.0)
    total = -tl.sum(tl.where(inside, cost(chosen, SIGNED), 0.0))
    tl.debug_barrier()
    return column_of, total


@triton.jit
def cost(score, SIGNED: tl.constexpr):
    """Give what a score costs; with signs, that of its absolute value."""
    return -tl.abs(score) if SIGNED else -score
