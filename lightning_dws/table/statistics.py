"""What can be said about a table's figures, and how surely."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import mean, stdev

import numpy as np
from numpy.typing import NDArray
from scipy.stats import permutation_test, spearmanr
from scipy.stats import t as student_t

NUM_RESAMPLES = 2000
_LEVEL = 0.95
_MOST_TO_PERMUTE = 6  # pairs: 720 orders


@dataclass(frozen=True)
class Estimate:
    """A difference and its interval.

    Attributes:
        value: The difference itself.
        low: Lower end of its 95 % interval.
        high: Upper end.
        num_seeds: Pairs of runs behind it.
    """

    value: float
    low: float
    high: float
    num_seeds: int


def mean_and_std(values: Sequence[float]) -> tuple[float, float | None]:
    """Give the mean and the sample standard deviation, None where there is one value only.

    Example:
        >>> mean_and_std([1.0, 3.0])
        (2.0, 1.4142135623730951)
    """
    return mean(values), stdev(values) if len(values) > 1 else None


def paired_bootstrap(difference: NDArray[np.float64]) -> Estimate:
    """Estimate a mean difference from runs of the same seeds on the same test objects.

    Objects are drawn anew with replacement, and the interval is that of the percentiles. Seeds are
    too few to be drawn: three of them, resampled, would seem to agree far better than they do. Each
    resample has a Student variate of their standard error in their place, and noise of single
    objects in single runs, which their spread holds already, is taken off the objects' part. With
    one seed the interval speaks of the test objects alone.

    Args:
        difference: (seeds, objects), for each what the one run gets minus what the other gets.
    """
    num_seeds, num_objects = difference.shape
    by_object = difference.mean(axis=0)
    value = float(by_object.mean())
    resampled = _shares(num_objects) @ (by_object - value)
    if num_seeds > 1:
        by_seed = difference.mean(axis=1)
        noise = difference - by_object - (by_seed - value)[:, None]
        noise_variance = (noise**2).mean() / (num_seeds - 1)  # of each object's mean over seeds
        rest = 1 - noise_variance / max(by_object.var(), np.finfo(np.float64).tiny)
        error = by_seed.std(ddof=1) / num_seeds**0.5
        resampled = max(rest, 0.0) ** 0.5 * resampled + error * _student(num_seeds - 1)
    tail = 100 * (1 - _LEVEL) / 2
    low, high = value + np.percentile(resampled, [tail, 100 - tail])
    return Estimate(value, float(low), float(high), num_seeds)


def paired_seeds(difference: NDArray[np.float64]) -> Estimate:
    """Estimate a mean difference from runs of the same seeds alone, by Student's t.

    For scores that no single objects have. One seed has no interval: it has no bounds.

    Args:
        difference: (seeds,), for each what the one run gets minus what the other gets.
    """
    num_seeds, value = len(difference), float(difference.mean())
    if num_seeds == 1:
        return Estimate(value, -np.inf, np.inf, 1)
    error = float(difference.std(ddof=1)) / num_seeds**0.5
    reach = error * float(student_t.ppf((1 + _LEVEL) / 2, num_seeds - 1))
    return Estimate(value, value - reach, value + reach, num_seeds)


@lru_cache(maxsize=4)
def _shares(size: int) -> NDArray[np.float32]:
    """Draw how large a share of each resample every one of so many things has.

    The same for every difference of a table, so that they can be compared.
    """
    counts = np.random.default_rng([1, size]).multinomial(
        size, np.full(size, 1 / size), size=NUM_RESAMPLES
    )
    return (counts / size).astype(np.float32)


@lru_cache(maxsize=4)
def _student(freedom: int) -> NDArray[np.float64]:
    """Give Student variates in random order, evenly spaced in probability."""
    ranks = np.random.default_rng([2, freedom]).permutation(NUM_RESAMPLES)
    variates: NDArray[np.float64] = student_t.ppf((ranks + 0.5) / NUM_RESAMPLES, freedom)
    return variates


def rank_correlation(ours: Sequence[float], others: Sequence[float]) -> tuple[float, float] | None:
    """Give Spearman's rank correlation and its p-value, None below three pairs or among equals.

    The p-value is from all orders where there are few pairs, and from Student's t otherwise.
    """
    if len(ours) < 3 or len(set(ours)) == 1 or len(set(others)) == 1:
        return None
    found = spearmanr(ours, others)
    if len(ours) > _MOST_TO_PERMUTE:
        return float(found.statistic), float(found.pvalue)
    exact = permutation_test(
        (ours,), lambda x: spearmanr(x, others).statistic, permutation_type="pairings"
    )
    return float(found.statistic), float(exact.pvalue)
