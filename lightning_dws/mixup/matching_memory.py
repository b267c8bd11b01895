"""What the weight matching of a pair of networks reads and writes on the CPU.

"Layer" stands for a group of hidden neurons: of an INR a layer, of a CNN the channels behind one,
of a residual network those that its shortcuts add up. Weights of a place are (before, neurons,
behind).
"""

import math
from typing import Any, NamedTuple

import numpy as np

from lightning_dws.weight_space import Architecture


class Layout(NamedTuple):
    """Where the weights of every layer's neurons stand in a row.

    Attributes:
        widths: (L,) neurons of a layer.
        offsets: (L,) of a layer's first neuron among those of all layers.
        places: (P, 4) layer by layer: on which side of the neurons the weights are (0 for what maps
            to them, 1 for what maps from them), where they start, and (before, behind) of their
            shape (before, neurons, behind).
        starts: (L + 1,) where each layer's places start, and the last end.
        neighbours: (L, L) whether the scores of one layer depend on the order of the other.
    """

    widths: Any
    offsets: Any
    places: Any
    starts: Any
    neighbours: Any


class Moved(NamedTuple):
    """A row that moves, and how: permutation and signs of the hidden neurons of all layers."""

    row: Any
    permutation: Any
    sign: Any


class Memory(NamedTuple):
    """To write into while a pair is matched.

    Attributes:
        given: The row that moves, as it was.
        other: Its second search.
        prices: Of the columns of every layer's assignment.
        fixed_lines: (L, ..) lines of the row that stays, see ``_write_lines``.
        lines: Those of the row that moves, of one layer.
        scores: Of a layer.
        costs: Likewise.
        integers: (5, widest); first the assignment of a layer.
        numbers: (5, widest); first its signs.
    """

    given: Any
    other: Moved
    prices: Any
    fixed_lines: Any
    lines: Any
    scores: Any
    costs: Any
    integers: Any
    numbers: Any


def find_layout(architecture: Architecture) -> Layout:
    """Find where the weights of every layer's neurons stand."""
    places, starts = [], [0]
    neighbours = np.zeros((len(architecture.groups),) * 2, np.bool_)
    for layer, group in enumerate(architecture.groups):
        own = []
        for spec, where in zip(architecture.tensors, architecture.tensor_slices, strict=True):
            for side, axis in enumerate(spec.axes):
                if axis == group:
                    before, behind = math.prod(spec.shape[:side]), math.prod(spec.shape[side + 1 :])
                    own.append((side, where.start, before, behind, spec.is_weight))
            if group in spec.axes:
                others = [axis for axis in spec.axes if axis not in (None, group)]
                others += [group] * (spec.axes.count(group) == 2)
                for axis in others:
                    neighbours[layer, list(architecture.groups).index(axis)] = True
        own.sort(key=lambda place: (place[0], place[4]))  # biases first
        places += [place[:4] for place in own]
        starts.append(len(places))
    widths = np.array(list(architecture.groups.values()))
    offsets = np.cumsum(widths) - widths
    return Layout(widths, offsets, np.array(places), np.array(starts), neighbours)


def make_memory(layout: Layout, num_parameters: int) -> Memory:
    """Make room for the search of a pair."""
    num_hidden, widest = layout.widths.sum(), layout.widths.max()
    fans = np.add.reduceat(layout.places[:, 2] * layout.places[:, 3], layout.starts[:-1])
    num_lines = (fans * layout.widths).max()
    return Memory(
        given=np.empty(num_parameters),
        other=Moved(np.empty(num_parameters), np.empty(num_hidden, np.int64), np.empty(num_hidden)),
        prices=np.empty(num_hidden),
        fixed_lines=np.empty((len(layout.widths), num_lines)),
        lines=np.empty(num_lines),
        scores=np.empty(widest * widest),
        costs=np.empty(widest * widest),
        integers=np.empty((5, widest), np.int64),
        numbers=np.empty((5, widest)),
    )
