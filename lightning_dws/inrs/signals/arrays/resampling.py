"""Arrays brought to another size, one axis after another."""

from collections.abc import Sequence

import numpy as np

from lightning_dws.inrs.signals.arrays.array_files import Array


def resample(values: Array, size: Sequence[int]) -> Array:
    """Stretch an array (*old size, channels) to another size.

    An axis that shrinks is averaged over the parts of old points that a new one covers; one that
    grows is interpolated linearly between the points' middles. No value is outside of the old
    range, and no bit depends on the number of threads.
    """
    for axis, new in enumerate(size):
        old = values.shape[axis]
        if new != old:
            along = np.moveaxis(values, axis, 0)
            resized = _average(along, new) if new < old else _interpolate(along, new)
            values = np.moveaxis(resized, 0, axis)
    return np.ascontiguousarray(values)


def _average(values: Array, new: int) -> Array:
    step = len(values) / new
    found = np.empty((new, *values.shape[1:]))
    for number in range(new):
        start, stop = number * step, (number + 1) * step
        first, last = int(start), min(len(values), int(np.ceil(stop - 1e-9)))
        edges = np.arange(first, last)
        weights = np.minimum(stop, edges + 1) - np.maximum(start, edges)
        weights = weights.reshape(-1, *(1,) * (values.ndim - 1)) / weights.sum()
        found[number] = (weights * values[first:last]).sum(axis=0)
    return found


def _interpolate(values: Array, new: int) -> Array:
    old = len(values)
    places = ((np.arange(new) + 0.5) * old / new - 0.5).clip(0, old - 1)
    first = places.astype(np.int64)
    share = (places - first).reshape(-1, *(1,) * (values.ndim - 1))
    following = np.minimum(first + 1, old - 1)
    found: Array = (1 - share) * values[first] + share * values[following]
    return found
