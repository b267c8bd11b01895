"""What can be said about a table's figures, and how surely."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import mean, stdev

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

NUM_RESAMPLES = 2000
_LEVEL = 0.95


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

    Seeds and objects are drawn anew with replacement, independently of each other (Owen, "The
    pigeonhole bootstrap", 2007); the interval is that of the percentiles. With one seed it speaks
    of the test objects alone, and with a few it is somewhat too narrow.

    Args:
        difference: (seeds, objects), for each what the one run gets minus what the other gets.
    """
    num_seeds, num_objects = difference.shape
    seed_shares, object_shares = _shares(num_seeds, 0), _shares(num_objects, 1)
    resampled = ((seed_shares @ difference.astype(np.float32)) * object_shares).sum(axis=1)
    tail = 100 * (1 - _LEVEL) / 2
    low, high = np.percentile(resampled, [tail, 100 - tail])
    return Estimate(float(difference.mean()), float(low), float(high), num_seeds)


@lru_cache(maxsize=8)
def _shares(size: int, stream: int) -> NDArray[np.float32]:
    """Draw how large a share of each resample every one of so many things has.

    The same for every difference of a table, so that they can be compared.
    """
    generator = np.random.default_rng([stream, size])
    counts = generator.multinomial(size, np.full(size, 1 / size), size=NUM_RESAMPLES)
    return (counts / size).astype(np.float32)


def rank_correlation(ours: Sequence[float], others: Sequence[float]) -> tuple[float, float] | None:
    """Give Spearman's rank correlation and its p-value, None below three pairs or among equals."""
    if len(ours) < 3 or len(set(ours)) == 1 or len(set(others)) == 1:
        return None
    result = spearmanr(ours, others)
    return float(result.statistic), float(result.pvalue)
