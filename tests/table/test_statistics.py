import numpy as np
import pytest

from lightning_dws.table.recorder import pack_bits, unpack_bits
from lightning_dws.table.statistics import (
    _shares,
    mean_and_std,
    paired_bootstrap,
    rank_correlation,
)


def test_mean_and_std_by_hand():
    assert mean_and_std([70.0, 72.0, 77.0]) == (73.0, pytest.approx(13**0.5))
    assert mean_and_std([70.0]) == (70.0, None)


def test_the_bootstrap_is_that_of_its_definition():
    """Against resampling runs and objects one by one, from the same counts."""
    generator = np.random.default_rng(0)
    difference = generator.integers(-1, 2, (3, 20)).astype(float)
    by_hand = [
        np.repeat(
            np.repeat(difference, np.rint(3 * seeds).astype(int), axis=0),
            np.rint(20 * objects).astype(int),
            axis=1,
        ).mean()
        for seeds, objects in zip(_shares(3, 0), _shares(20, 1), strict=True)
    ]
    estimate = paired_bootstrap(difference)
    assert estimate.value == pytest.approx(difference.mean())
    expected = np.percentile(by_hand, [2.5, 97.5])
    assert (estimate.low, estimate.high) == pytest.approx(tuple(expected), abs=1e-6)
    assert estimate.num_seeds == 3


def test_the_bootstrap_of_one_seed_has_the_width_of_the_objects():
    generator = np.random.default_rng(1)
    difference = 100 * generator.integers(-1, 2, (1, 2000)).astype(float)
    estimate = paired_bootstrap(difference)
    expected = 2 * 1.96 * difference.std() / 2000**0.5
    assert estimate.high - estimate.low == pytest.approx(expected, rel=0.1)


def test_runs_that_differ_widen_the_interval():
    objects = np.random.default_rng(2).integers(0, 2, 500).astype(float)
    alike = paired_bootstrap(np.stack([objects, objects, objects]))
    unlike = paired_bootstrap(np.stack([objects, objects - 0.5, objects + 0.5]))
    assert unlike.high - unlike.low > 2 * (alike.high - alike.low)


def test_no_difference_has_no_width():
    estimate = paired_bootstrap(np.zeros((3, 10)))
    assert (estimate.value, estimate.low, estimate.high) == (0, 0, 0)


def test_rank_correlation_by_hand():
    """One pair of neighbours exchanged among four: 1 - 6 * 2 / (4 * 15)."""
    rho, _ = rank_correlation([1, 2, 3, 4], [10, 20, 40, 30])
    assert rho == pytest.approx(0.8)
    assert rank_correlation([1, 2], [1, 2]) is None
    assert rank_correlation([1, 1, 1], [1, 2, 3]) is None


@pytest.mark.parametrize("count", [1, 4, 7, 360])
def test_bits_come_back(count):
    bits = (np.random.default_rng(count).random(count) < 0.5).tolist()
    assert unpack_bits(pack_bits(bits), count) == bits
