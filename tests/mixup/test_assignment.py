import itertools

import pytest
import torch

from lightning_dws.errors import DataError
from lightning_dws.mixup.assignment import solve_assignments


def _random_scores(*size: int) -> torch.Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_finds_the_largest_total(n: int) -> None:
    scores = _random_scores(20, n, n)
    assignment = solve_assignments(scores)
    total = scores.gather(2, assignment[:, :, None]).sum(dim=(1, 2))
    rows = torch.arange(n)
    every = [scores[:, rows, list(order)].sum(dim=1) for order in itertools.permutations(range(n))]
    torch.testing.assert_close(total, torch.stack(every).amax(dim=0))
    assert torch.equal(assignment.sort(dim=1).values, rows.expand(20, n))


def test_takes_no_matrices_at_all() -> None:
    assert solve_assignments(_random_scores(0, 4, 4)).shape == (0, 4)


def test_not_finite_scores_are_a_data_error() -> None:
    scores = _random_scores(3, 4, 4)
    scores[1, 2, 3] = torch.nan
    with pytest.raises(DataError, match="cannot be aligned"):
        solve_assignments(scores)
