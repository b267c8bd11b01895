"""Weight matching of one pair of networks after another for the CPU, compiled by Numba.

A pair stays in the processor's cache from its first product to its last, and an assignment starts
from the column prices of the layer's assignment before. In what is compiled, ``a`` is the row that
stays, ``own`` the ``Moved`` of a pair, ``layout`` a ``Layout`` and ``memory`` a ``Memory``.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from lightning_dws.compiled import compiled
from lightning_dws.errors import DataError
from lightning_dws.mixup.assignment_kernel import assign
from lightning_dws.mixup.matching_memory import Moved, find_layout, make_memory
from lightning_dws.parallel import map_in_threads
from lightning_dws.weight_space import WeightBatch

_PAIRS_AT_ONCE = 16  # of a thread
_LARGEST_NORM = 1e300  # squared

# What is looked up is no literal, for each of which Numba would compile a function anew.
_FLAGS = np.array([False, True])


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
    layout = find_layout(b.architecture)

    def match(pairs: slice) -> int:
        rows = (moved.numpy()[pairs], permutation.numpy()[pairs], sign.numpy()[pairs])
        memory = make_memory(layout, num_parameters=fixed.shape[1])
        ended = _match_pairs(fixed[pairs], Moved(*rows), layout, memory, signed, relative_gain)
        return int(pairs.start + ended)

    chunks = [slice(k, min(k + _PAIRS_AT_ONCE, count)) for k in range(0, count, _PAIRS_AT_ONCE)]
    for chunk, ended in zip(chunks, map_in_threads(match, chunks), strict=True):
        if ended < chunk.stop:
            raise DataError(
                f"INRs cannot be aligned: the weights of pair {ended} of the batch are not finite, "
                "or too large to compare"
            )
    return permutation, sign


@compiled
def _match_pairs(
    fixed: Any, moved: Any, layout: Any, memory: Any, signed: bool, relative_gain: float
) -> int:
    """Match rows (B, P) of ``moved`` to those of ``fixed``, in place.

    Returns:
        The first pair with a norm that is not finite, or too large; B where there is none.
    """
    given, other, no = memory.given, memory.other, _FLAGS[0]
    for pair in range(len(fixed)):
        a, own = fixed[pair], Moved(moved.row[pair], moved.permutation[pair], moved.sign[pair])
        _copy(own.row, given)
        first, second = _squared_norm(a), _squared_norm(given)
        if not (first < _LARGEST_NORM and second < _LARGEST_NORM):  # as every score then is
            return pair
        for layer in range(len(layout.widths)):
            _write_lines(a, layer, layout, memory.fixed_lines[layer], _FLAGS[1])
        least = relative_gain * np.sqrt(first) * np.sqrt(second)
        unmatched = _squared_distance(a, given)
        _begin(own, layout, memory)
        _assign_from_incoming(own, layout, memory, no)
        _descend(a, own, layout, memory, no, least)
        if _squared_distance(a, own.row) > unmatched:
            _begin(own, layout, memory)
            _descend(a, own, layout, memory, no, least)
        if signed:
            _begin(other, layout, memory)
            _assign_from_incoming(other, layout, memory, signed)
            _descend(a, other, layout, memory, signed, least)
            _fill(memory.prices, 0)
            _descend(a, own, layout, memory, signed, least)
            if _squared_distance(a, other.row) < _squared_distance(a, own.row):
                _copy(other.row, own.row)
                _copy(other.permutation, own.permutation)
                _copy(other.sign, own.sign)
    return len(fixed)


@compiled
def _copy(numbers: Any, to: Any) -> None:  # compiles ten times as fast as a[:] = b
    for k in range(len(numbers)):
        to[k] = numbers[k]


@compiled
def _fill(numbers: Any, value: float) -> None:
    for k in range(len(numbers)):
        numbers[k] = value


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
def _begin(own: Any, layout: Any, memory: Any) -> None:
    """Move nothing yet."""
    _copy(memory.given, own.row)
    _fill(own.sign, 1)
    _fill(memory.prices, 0)
    for layer in range(len(layout.widths)):
        for k in range(layout.widths[layer]):
            own.permutation[layout.offsets[layer] + k] = k


@compiled
def _assign_from_incoming(own: Any, layout: Any, memory: Any, signed: bool) -> None:
    """Assign layer by layer from incoming weights and biases alone, closer or not."""
    for layer in range(len(layout.widths)):
        scores = _scores(own.row, layer, layout, memory, _FLAGS[0])
        _solve(scores, layout.offsets[layer], memory, signed)
        _move(own, layer, layout, memory)


@compiled
def _descend(a: Any, own: Any, layout: Any, memory: Any, signed: bool, least: float) -> None:
    """Re-assign each hidden layer given its neighbours, until no assignment gets closer."""
    num_layers = len(layout.widths)
    unsolved = np.ones(num_layers, np.bool_)
    num_unsolved = num_layers
    while num_unsolved > 0:
        for layer in range(num_layers):
            if unsolved[layer]:
                unsolved[layer] = False
                scores = _scores(own.row, layer, layout, memory, _FLAGS[1])
                now = 0.0
                for k in range(len(scores)):
                    now += scores[k, k]
                gain = _solve(scores, layout.offsets[layer], memory, signed) - now
                if gain > least and _move_if_closer(a, own, layer, layout, memory, least):
                    for k in range(num_layers):
                        unsolved[k] |= layout.neighbours[layer, k]
        num_unsolved = 0
        for layer in range(num_layers):
            num_unsolved += unsolved[layer]


@compiled
def _move_if_closer(a: Any, own: Any, layer: int, layout: Any, memory: Any, least: float) -> bool:
    """Move the neurons of a layer; tell whether they are closer now, else they are put back.

    They are, but for those of a layer that maps to itself, whose scores suppose that one end stays.
    """
    if not layout.neighbours[layer, layer]:
        _move(own, layer, layout, memory)
        return True
    old = own.row.copy(), own.permutation.copy(), own.sign.copy(), memory.prices.copy()
    _move(own, layer, layout, memory)
    if _squared_distance(a, old[0]) - _squared_distance(a, own.row) > 2 * least:
        return True
    _copy(old[0], own.row)
    _copy(old[1], own.permutation)
    _copy(old[2], own.sign)
    _copy(old[3], memory.prices)
    return False


@compiled
def _scores(row: Any, layer: int, layout: Any, memory: Any, with_outgoing: bool) -> Any:
    """Give the inner products (n, n) of the weights of the fixed neurons with those of a row's."""
    n = layout.widths[layer]
    num_lines = _write_lines(row, layer, layout, memory.lines, with_outgoing)
    left = memory.fixed_lines[layer, : num_lines * n].reshape(num_lines, n)
    right = memory.lines[: num_lines * n].reshape(num_lines, n)
    scores = memory.scores[: n * n].reshape(n, n)
    _fill(memory.scores, 0)
    last = num_lines - num_lines % 4
    for k in range(0, last, 4):  # four at once, so that a score is read and written less often
        for i in range(n):
            first, second = left[k, i], left[k + 1, i]
            third, fourth = left[k + 2, i], left[k + 3, i]
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
    n, end = layout.widths[layer], 0
    for place in range(layout.starts[layer], layout.starts[layer + 1]):
        side, start, before, behind = layout.places[place]
        if side == 0 or with_outgoing:
            for k in range(before):
                for i in range(n):
                    for m in range(behind):
                        lines[end + m * n + i] = row[start + (k * n + i) * behind + m]
                end += n * behind
    return int(end // n)


@compiled
def _solve(scores: Any, start: int, memory: Any, signed: bool) -> float:
    """Write the best assignment to ``integers[0]``, its signs to ``numbers[0]``; give its total."""
    n = len(scores)
    integers, numbers = memory.integers[:, :n], memory.numbers[:, :n]
    costs = memory.costs[: n * n].reshape(n, n)
    for i in range(n):
        for j in range(n):
            costs[i, j] = -abs(scores[i, j]) if signed else -scores[i, j]
    assign(costs, memory.prices[start : start + n], integers[0], integers[1:], numbers[1:4])
    total = 0.0
    for i in range(n):
        chosen = scores[i, integers[0, i]]
        numbers[0, i] = -1.0 if signed and chosen < 0 else 1.0
        total += abs(chosen) if signed else chosen
    return total


@compiled
def _move(own: Any, layer: int, layout: Any, memory: Any) -> None:
    """Reorder and negate the neurons of one layer, and with them the prices of its columns."""
    n, offset = layout.widths[layer], layout.offsets[layer]
    chosen, factor = memory.integers[0, :n], memory.numbers[0, :n]
    for place in range(layout.starts[layer], layout.starts[layer + 1]):
        start, before, behind = layout.places[place, 1:]
        for k in range(before):
            block = own.row[start + k * n * behind : start + (k + 1) * n * behind]
            old = memory.lines[: n * behind]
            _copy(block, old)
            for i in range(n):
                for m in range(behind):
                    block[i * behind + m] = factor[i] * old[chosen[i] * behind + m]
    old_numbers, old_integers = memory.numbers[4], memory.integers[4]
    for i in range(n):
        old_numbers[i], old_integers[i] = own.sign[offset + i], own.permutation[offset + i]
    for i in range(n):
        own.sign[offset + i] = factor[i] * old_numbers[chosen[i]]
        own.permutation[offset + i] = old_integers[chosen[i]]
    for i in range(n):
        old_numbers[i] = memory.prices[offset + i]
    for i in range(n):
        memory.prices[offset + i] = old_numbers[chosen[i]]
