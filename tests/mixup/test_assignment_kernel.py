import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from lightning_dws.mixup.assignment_kernel import assign


def solve(cost: NDArray[np.float64], price: NDArray[np.float64]) -> NDArray[np.int64]:
    n = len(cost)
    column_of = np.empty(n, np.int64)
    assign(cost, price, column_of, np.empty((4, n), np.int64), np.empty((3, n)))
    return column_of


def costs(kind: str, n: int, seed: int) -> NDArray[np.float64]:
    generator = np.random.default_rng(seed)
    if kind == "ties":
        return generator.integers(0, 3, (n, n)).astype(float)
    return generator.normal(size=(n, n)) * {"normal": 1.0, "small": 1e-300, "large": 1e140}[kind]


@pytest.mark.parametrize("kind", ["normal", "ties", "small", "large"])
@pytest.mark.parametrize("n", [1, 2, 3, 8, 33])
def test_its_total_is_that_of_scipy(n: int, kind: str) -> None:
    for seed in range(20):
        cost = costs(kind, n, seed)
        column_of = solve(cost, np.zeros(n))
        assert sorted(column_of) == list(range(n))
        expected = cost[linear_sum_assignment(cost)].sum()
        scale = n * np.abs(cost).max()
        assert abs(cost[np.arange(n), column_of].sum() - expected) <= 1e-12 * scale


@pytest.mark.parametrize("n", [2, 8, 33])
def test_prices_of_a_similar_matrix_lead_to_the_same_total(n: int) -> None:
    for seed in range(20):
        price = np.zeros(n)
        before = costs("normal", n, seed)
        solve(before, price)
        cost = before + 0.1 * costs("normal", n, seed + 100)
        total = cost[np.arange(n), solve(cost, price)].sum()
        assert abs(total - cost[linear_sum_assignment(cost)].sum()) < 1e-9


def test_its_prices_prove_that_it_is_the_best() -> None:
    """No row would rather have another column than its own: duality."""
    cost, price = costs("normal", 16, 0), np.zeros(16)
    column_of = solve(cost, price)
    reduced = cost - price
    assert (reduced[np.arange(16), column_of] <= reduced.min(axis=1) + 1e-12).all()
