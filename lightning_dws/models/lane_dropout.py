"""Dropout of vectors of a few INRs: a bit for each lane of an entry."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call"

from typing import Any

import numpy as np
import torch

from lightning_dws.models.lanes import kernel
from lightning_dws.parallel import map_in_threads


def draw_keep_bits(shape: tuple[int, ...], dropout: float) -> tuple[Any, float]:
    """Draw which lanes of entries dropout keeps, and give the exact probability of that.

    Returns:
        The bits of each entry's lanes, none without dropout, and a multiple of 2^-16.
    """
    level = max(round((1 - dropout) * 2**16), 1)
    if level == 2**16:
        return np.empty((shape[0], 0), np.uint16), 1.0
    entries = -(-int(np.prod(shape[1:])) // 4) * 4
    keep = np.empty((shape[0], entries), np.uint16)
    seeds = torch.randint(-(2**63), 2**63 - 1, (shape[0],)).numpy().view(np.uint64)

    def draw(group: int) -> None:
        draw_bits(seeds[group], level, keep[group].view(np.uint64))

    map_in_threads(draw, range(shape[0]))
    return keep, level / 2**16


@kernel
def draw_bits(seed, level, words):
    """Fill 64-bit words with bits that are 1 with the probability level / 2^16.

    Of independent fair bits, one more that is ORed halves the way to 1, one that is ANDed to 0.
    """
    for place in range(words.size):
        bits = np.uint64(0)
        for power in range(16):
            # splitmix64 (Steele et al., 2014) of a counter
            z = seed + np.uint64(16 * place + power + 1) * np.uint64(0x9E3779B97F4A7C15)
            z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            z = z ^ (z >> np.uint64(31))
            bits = bits | z if (level >> power) & 1 else bits & z
        words[place] = bits
