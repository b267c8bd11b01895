"""Weight matching of one pair of networks after another for the CPU, compiled by Numba.

A pair stays in the processor's cache from its first product to its last, and an assignment starts
from the column prices of the layer's assignment before. "Layer" stands for a group of hidden
neurons: of an INR a layer, of a CNN the channels behind one, of a residual network those that its
shortcuts add up.
"""

import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from lightning_dws.compiled import compiled
from lightning_dws.errors import DataError
from lightning_dws.mixup.assignment_kernel import assign
from lightning_dws.parallel import map_in_threads
from lightning_dws.weight_space import Architecture, WeightBatch

_PAIRS_AT_ONCE = 16  # of a thread
_LARGEST_NORM = 1e300  # squared


def match_on_cpu(
    a: WeightBatch, b: WeightBatch, signed: bool, relative_gain: float
) -> tuple[Int64[Tensor, "batch neurons"], Float64[Tensor, "batch neurons"]]:
    """Match every network of b to that of a.

    Args:
        a: B networks that stay.
        b: B networks that move, of the same architecture.
        signed: Whether hidden neurons may be negated.
        relative_gain: Least gain of a step, relative to the product of both networks' norms.

    Returns:
        Which neuron of b stands where, per hidden neuron of all layers, and its sign.

    Raises:
        DataError: The weights of a pair are not finite, or too large to compare.
    """
    fixed = np.ascontiguousarray(a.parameters.double().numpy())
    moved = b.parameters.double().clone(memory_format=torch.contiguous_format)
    count, num_hidden = len(b), sum(b.architecture.groups.values())
    permutation = torch.empty(count, num_hidden, dtype=torch.int64)
    sign = torch.empty(count, num_hidden, dtype=torch.float64)
    layout = _layout(b.architecture)

    def match(pairs: slice) -> int:
        rows = (fixed[pairs], moved.numpy()[pairs], permutation.numpy()[pairs], sign.numpy()[pairs])
        return int(pairs.start + _match_pairs(*rows, layout, signed, relative_gain))

    chunks = [slice(k, min(k + _PAIRS_AT_ONCE, count)) for k in range(0, count, _PAIRS_AT_ONCE)]
    for chunk, ended in zip(chunks, map_in_threads(match, chunks), strict=True):
        if ended < chunk.stop:
            raise DataError(
                f"INRs cannot be aligned: the weights of pair {ended} of the batch are not finite, "
                "or too large to compare"
            )
    return permutation, sign


def _layout(architecture: Architecture) -> tuple[Any, Any, Any, Any]:
    """Give where the weights of every layer's neurons stand in a row.

    Returns:
        The widths; the places (P, 4), layer by layer: on which side of the neurons the weights are
        (0 for what maps to them, 1 for what maps from them), where they start, and (before, behind)
        of their shape (before, neurons, behind); where each layer's places start, and the last
        end; and (L, L) whether the scores of one layer depend on the order of the other.
    """
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
    return widths, np.array(places), np.array(starts), neighbours


# Below, ``layout`` is what ``_layout`` gives. ``own`` is the row that moves, with its permutation
# and signs (hidden neurons of all layers one after another). ``a`` is the row that stays, with its
# lines (see ``_write_lines``). ``work`` is memory to write into: column prices of every hidden
# neuron, two matrices, integers and numbers of a layer. Weights of a place are (before, neurons,
# behind).


@compiled
def _match_pairs(
    fixed: Any,
    moved: Any,
    permutations: Any,
    signs: Any,
    layout: Any,
    signed: bool,
    relative_gain: float,
) -> int:
    """Match rows (B, P) of ``moved`` to those of ``fixed``, in place.

    Returns:
        The first pair with a norm that is not finite, or too large; B where there is none.
    """
    num_hidden, widest, largest = permutations.shape[1], layout[0].max(), 0
    for layer in range(len(layout[0])):
        num_weights = 0
        for place in range(layout[2][layer], layout[2][layer + 1]):
            num_weights += layout[1][place, 2] * layout[1][place, 3]
        largest = max(largest, layout[0][layer] * num_weights)
    fixed_lines = np.empty((len(layout[0]), largest))
    given = np.empty(moved.shape[1])
    other = (np.empty(moved.shape[1]), np.empty(num_hidden, np.int64), np.empty(num_hidden))
    work = (
        np.empty(num_hidden),
        np.empty((2, max(widest * widest, largest))),
        np.empty((5, widest), np.int64),
        np.empty((5, widest)),
    )
    for pair in range(moved.shape[0]):
        row, own = fixed[pair], (moved[pair], permutations[pair], signs[pair])
        a = (row, fixed_lines)
        for layer in range(len(layout[0])):
            _write_lines(row, layer, layout, fixed_lines[layer], True)
        given[:] = own[0]
        first, second = _squared_norm(row), _squared_norm(given)
        if not (first < _LARGEST_NORM and second < _LARGEST_NORM):  # as every score then is
            return pair
        least = relative_gain * np.sqrt(first) * np.sqrt(second)
        unmatched = _squared_distance(row, given)
        _begin(own, given, layout, work)
        _assign_from_incoming(a, own, layout, work, False)
        _descend(a, own, layout, work, False, least)
        if _squared_distance(row, own[0]) > unmatched:
            _begin(own, given, layout, work)
            _descend(a, own, layout, work, False, least)
        if signed:
            _begin(other, given, layout, work)
            _assign_from_incoming(a, other, layout, work, True)
            _descend(a, other, layout, work, True, least)
            work[0][:] = 0
            _descend(a, own, layout, work, True, least)
            if _squared_distance(row, other[0]) < _squared_distance(row, own[0]):
                own[0][:], own[1][:], own[2][:] = other
    return int(moved.shape[0])


@compiled
def _squared_norm(a: Any) -> float:
    total = 0.0
    for k in range(len(a)):
        total += a[k] * a[k]
    return total


@compiled
def _squared_distance(a: Any, b: Any) -> float:
    total = 0.0
    for k in range(len(a)):
        total += (a[k] - b[k]) * (a[k] - b[k])
    return total


@compiled
def _begin(own: Any, given: Any, layout: Any, work: Any) -> None:
    """Move nothing yet."""
    row, permutation, sign = own
    row[:] = given
    sign[:] = 1
    work[0][:] = 0
    start = 0
    for n in layout[0]:
        for k in range(n):
            permutation[start + k] = k
        start += n


@compiled
def _assign_from_incoming(a: Any, own: Any, layout: Any, work: Any, signed: bool) -> None:
    """Assign layer by layer from incoming weights and biases alone, closer or not."""
    start = 0
    for layer in range(len(layout[0])):
        _solve(_scores(a, own[0], layer, layout, work, False), start, work, signed)
        _move(own, layer, start, layout, work)
        start += layout[0][layer]


@compiled
def _descend(a: Any, own: Any, layout: Any, work: Any, signed: bool, least: float) -> None:
    """Re-assign each hidden layer given its neighbours, until no assignment gets closer."""
    num_layers, neighbours = len(layout[0]), layout[3]
    unsolved = np.ones(num_layers, np.bool_)
    while unsolved.any():
        start = 0
        for layer in range(num_layers):
            if unsolved[layer]:
                unsolved[layer] = False
                scores = _scores(a, own[0], layer, layout, work, True)
                now = 0.0
                for k in range(scores.shape[0]):
                    now += scores[k, k]
                if _solve(scores, start, work, signed) - now > least:
                    if not neighbours[layer, layer]:
                        _move(own, layer, start, layout, work)
                        unsolved |= neighbours[layer]
                    elif _move_if_closer(a, own, layer, start, layout, work, least):
                        unsolved |= neighbours[layer]
            start += layout[0][layer]


@compiled
def _move_if_closer(
    a: Any, own: Any, layer: int, start: int, layout: Any, work: Any, least: float
) -> bool:
    """Move the neurons of a layer that maps to itself, whose scores suppose that one end stays."""
    row, permutation, sign = own
    old_row, old_permutation, old_sign = row.copy(), permutation.copy(), sign.copy()
    old_prices = work[0].copy()
    _move(own, layer, start, layout, work)
    if _squared_distance(a[0], old_row) - _squared_distance(a[0], row) > 2 * least:
        return True
    row[:], permutation[:], sign[:], work[0][:] = old_row, old_permutation, old_sign, old_prices
    return False


@compiled
def _scores(a: Any, b: Any, layer: int, layout: Any, work: Any, with_outgoing: bool) -> Any:
    """Give the inner products (n, n) of the weights of a's neurons with those of b's."""
    n, lines = layout[0][layer], work[1][1]
    num_lines = _write_lines(b, layer, layout, lines, with_outgoing)
    left = a[1][layer, : num_lines * n].reshape(num_lines, n)
    right = lines[: num_lines * n].reshape(num_lines, n)
    scores = work[1][0, : n * n].reshape(n, n)
    scores[:] = 0
    last = num_lines - num_lines % 4
    for k in range(0, last, 4):  # four at once, so that a score is read and written less often
        for i in range(n):
            first, second, third, fourth = (
                left[k, i],
                left[k + 1, i],
                left[k + 2, i],
                left[k + 3, i],
            )
            for j in range(n):
                scores[i, j] += (first * right[k, j] + second * right[k + 1, j]) + (
                    third * right[k + 2, j] + fourth * right[k + 3, j]
                )
    for k in range(last, num_lines):
        for i in range(n):
            factor = left[k, i]
            for j in range(n):
                scores[i, j] += factor * right[k, j]
    return scores


@compiled
def _write_lines(row: Any, layer: int, layout: Any, lines: Any, with_outgoing: bool) -> int:
    """Write the weights of a layer's neurons, for each weight of a neuron a line of all neurons.

    Returns:
        The number of lines.
    """
    widths, places, starts, _ = layout
    n, end = widths[layer], 0
    for place in range(starts[layer], starts[layer + 1]):
        side, start, before, behind = places[place]
        if side == 0 or with_outgoing:
            for k in range(before):
                block = row[start + k * n * behind : start + (k + 1) * n * behind]
                for i in range(n):
                    for m in range(behind):
                        lines[end + m * n + i] = block[i * behind + m]
                end += n * behind
    return int(end // n)


@compiled
def _solve(scores: Any, start: int, work: Any, signed: bool) -> float:
    """Write the best assignment to ``integers[0]``, its signs to ``numbers[0]``; give its total."""
    prices, matrices, integers, numbers = work
    n = scores.shape[0]
    cost = matrices[1, : n * n].reshape(n, n)
    for i in range(n):
        for j in range(n):
            cost[i, j] = -abs(scores[i, j]) if signed else -scores[i, j]
    assign(cost, prices[start : start + n], integers[0, :n], integers[1:, :n], numbers[1:4, :n])
    total = 0.0
    for i in range(n):
        chosen = scores[i, integers[0, i]]
        numbers[0, i] = -1.0 if signed and chosen < 0 else 1.0
        total += abs(chosen) if signed else chosen
    return total


@compiled
def _move(own: Any, layer: int, start: int, layout: Any, work: Any) -> None:
    """Reorder and negate the neurons of one layer, and with them the prices of its columns."""
    row, permutation, sign = own
    prices, matrices, integers, numbers = work
    widths, places, starts, _ = layout
    n = widths[layer]
    chosen, factor = integers[0, :n], numbers[0, :n]
    for place in range(starts[layer], starts[layer + 1]):
        _, first, before, behind = places[place]
        for k in range(before):
            at = first + k * n * behind
            block = row[at : at + n * behind]
            if behind == 1:
                _reorder(block, chosen, factor, numbers[4])
            else:
                rows = matrices[1, : n * behind]
                rows[:] = block
                for i in range(n):
                    for m in range(behind):
                        block[i * behind + m] = factor[i] * rows[chosen[i] * behind + m]
    _reorder(sign[start : start + n], chosen, factor, numbers[4])
    _reorder(permutation[start : start + n], chosen, np.ones(n, np.int64), integers[1])
    _reorder(prices[start : start + n], chosen, np.ones(n), numbers[4])


@compiled
def _reorder(line: Any, chosen: Any, factor: Any, room: Any) -> None:
    n = len(line)
    room[:n] = line
    for i in range(n):
        line[i] = factor[i] * room[chosen[i]]
