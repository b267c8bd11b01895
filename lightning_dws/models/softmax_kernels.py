"""Softmax of entries, compiled by Numba: an INR in each lane."""

# Numba says what the arguments are, annotations would not.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, call-arg, var-annotated"

import numpy as np

from lightning_dws.models.lanes import exp, kernel, larger, load, splat, store


@kernel
def softmax(scores, start, count, step):
    """Turn scores, a step apart from each other, to the shares of their softmax.

    If one is NaN, so are all shares.
    """
    stop = start + count * step
    highest = load(scores, start)
    for place in range(start + step, stop, step):
        highest = larger(load(scores, place), highest)
    total = splat(np.float32(0))
    for place in range(start, stop, step):
        share = exp(load(scores, place) - highest)
        store(scores, place, share)
        total = total + share
    scale = splat(np.float32(1)) / total
    for place in range(start, stop, step):
        store(scores, place, load(scores, place) * scale)


@kernel
def softmax_backward(shares, grads, start, count, step):
    """Turn gradients of shares to those of their scores."""
    stop = start + count * step
    mean = splat(np.float32(0))
    for place in range(start, stop, step):
        mean = mean + load(shares, place) * load(grads, place)
    for place in range(start, stop, step):
        store(grads, place, load(shares, place) * (load(grads, place) - mean))
