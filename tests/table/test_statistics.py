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


@pytest.mark.parametrize(("num_seeds", "seed_std"), [(1, 0.0), (2, 0.02), (3, 0.0), (3, 0.03)])
def test_intervals_hold_the_truth_as_often_as_they_say(num_seeds, seed_std):
    """With differences of objects, of seeds, and noise of single runs, as digits have them."""
    generator, hits, count = np.random.default_rng(5), 0, 300
    for _ in range(count):
        objects = generator.normal(0, 0.13, (1, 400))
        noise = generator.normal(0, 0.3, (num_seeds, 400))
        runs = generator.normal(0, seed_std, (num_seeds, 1))
        estimate = paired_bootstrap(0.05 + objects + runs + noise)
        hits += estimate.low <= 0.05 <= estimate.high
        assert estimate.num_seeds == num_seeds
    assert 0.91 < hits / count < 0.995


def test_one_seed_is_the_bootstrap_of_its_definition():
    """Against resampling objects one by one, from the same counts."""
    difference = np.random.default_rng(0).integers(-1, 2, (1, 20)).astype(float)
    by_hand = [
        np.repeat(difference[0], np.rint(20 * objects).astype(int)).mean()
        for objects in _shares(20)
    ]
    estimate = paired_bootstrap(difference)
    assert estimate.value == pytest.approx(difference.mean())
    expected = np.percentile(by_hand, [2.5, 97.5])
    assert (estimate.low, estimate.high) == pytest.approx(tuple(expected), abs=1e-6)


def test_without_objects_that_differ_it_is_students_interval():
    runs = np.array([1.0, 2.0, 6.0])
    estimate = paired_bootstrap(np.repeat(runs[:, None], 50, axis=1))
    half = 4.303 * runs.std(ddof=1) / 3**0.5
    assert (estimate.low, estimate.high) == pytest.approx((3 - half, 3 + half), rel=0.02)


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


def test_few_pairs_have_the_p_value_of_all_their_orders():
    assert rank_correlation([1, 2, 3], [4, 5, 6]) == (1.0, pytest.approx(2 / 6))
    assert rank_correlation([1, 2, 3, 4], [9, 8, 7, 6]) == (-1.0, pytest.approx(2 / 24))
