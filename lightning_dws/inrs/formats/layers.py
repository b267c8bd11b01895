"""The layers of an MLP: found in named tensors, put in order, and written as named tensors."""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from torch import Tensor

from lightning_dws.errors import DataError
from lightning_dws.weight_space import INRArchitecture

_MAX_LAYERS = 64
_MAX_DIGITS = 18
_MAX_STEPS = 10_000  # of the search for an order, which may not hang
_KINDS = {"weight", "weights", "w", "bias", "biases", "b"}
_LAST = ("last", "layer")  # of siren-pytorch, whose other layers have numbers


@dataclass(frozen=True, eq=False)
class SourceLayer:
    """A linear layer as it was saved.

    Attributes:
        name: What its weight's and its bias's names share; empty if that is nothing.
        weight: (out, in).
        bias: (out,).
    """

    name: str
    weight: Tensor
    bias: Tensor


class LayerOrder(NamedTuple):
    """Layers in the order in which they are applied, and whether their entries are in another."""

    layers: tuple[SourceLayer, ...]
    is_changed: bool


@dataclass(frozen=True, eq=False)
class _Placed:
    """A layer, what its name says of its place, and its position among the entries."""

    layer: SourceLayer
    family: tuple[str, ...]
    numbers: tuple[int, ...]
    position: int


def find_layers(tensors: Mapping[str, Tensor], is_ordered: bool) -> LayerOrder:
    """Find the layers of an MLP in named tensors, and the order in which they are applied.

    The numbers in the names decide; where they do not, the shapes, which must form a chain, and
    then the order of the entries, if it means something.

    Args:
        tensors: Weights (out, in) and biases (out,) by name.
        is_ordered: Whether the order of the entries means something.

    Raises:
        DataError: They are not the weights and biases of an MLP, or fit in several orders.
    """
    pairs = _pair_by_name(tensors) or _pair_by_position(tensors, is_ordered)
    if not (
        pairs
        and 2 <= len(pairs) <= _MAX_LAYERS
        and all(len(pair.weight) == len(pair.bias) > 0 for pair in pairs)
        and all(pair.weight.shape[1] > 0 for pair in pairs)
    ):
        alone = _find_alone(tensors)
        hint = f"; {alone[:80]!r} belongs to none" if alone and pairs is None else ""
        raise DataError(f"not the weights and biases of linear layers: {_shapes(tensors)}{hint}")
    placed = [_place(pair, position) for position, pair in enumerate(pairs)]
    ordered = _order_by_number(placed) or _order_by_shape(placed, is_ordered)
    if ordered is None or not _is_chain(ordered):
        raise DataError(f"layers whose shapes do not follow each other: {_shapes(tensors)}")
    is_changed = is_ordered and ordered != placed
    return LayerOrder(tuple(item.layer for item in ordered), is_changed)


def split_row(architecture: INRArchitecture, row: Tensor) -> tuple[SourceLayer, ...]:
    """Give the layers of a row (P,), as views of it."""
    slices = zip(architecture.weight_slices, architecture.bias_slices, strict=True)
    return tuple(
        SourceLayer("", row[weight].reshape(shape), row[bias])
        for (weight, bias), shape in zip(slices, architecture.weight_shapes, strict=True)
    )


def name_layers(architecture: INRArchitecture, row: Tensor, names: list[str]) -> dict[str, Tensor]:
    """Give a row (P,) as a state dict; ``names`` are the layers', without ``.weight``."""
    state = {}
    for layer, name in zip(split_row(architecture, row), names, strict=True):
        # clones: torch.save writes the whole storage of a view
        state[f"{name}.weight"] = layer.weight.clone()
        state[f"{name}.bias"] = layer.bias.clone()
    return state


def _tokens(name: str) -> list[str]:
    return re.findall(r"[0-9]+|[^\W\d_]+", name)


@lru_cache(maxsize=1024)  # the files of a dataset have the same names
def _without_kind(name: str) -> tuple[str, ...]:
    """Give the parts of a name without the last that says weight or bias."""
    tokens = _tokens(name)
    kinds = [place for place, token in enumerate(tokens) if token.lower() in _KINDS]
    return tuple(tokens[: kinds[-1]] + tokens[kinds[-1] + 1 :]) if kinds else tuple(tokens)


def _by_layer(tensors: Mapping[str, Tensor]) -> dict[tuple[str, ...], dict[str, Tensor]]:
    """Sort tensors by their names without the word that says weight or bias."""
    found: dict[tuple[str, ...], dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        found.setdefault(_without_kind(name), {})[name] = tensor
    return found


def _find_alone(tensors: Mapping[str, Tensor]) -> str | None:
    """Find a name to which there is no other, among names that have one."""
    return next((next(iter(same)) for same in _by_layer(tensors).values() if len(same) == 1), None)


def _pair_by_name(tensors: Mapping[str, Tensor]) -> list[SourceLayer] | None:
    """Join a weight and a bias whose names differ in that word alone; None if any has no other."""
    pairs = []
    for key, same in _by_layer(tensors).items():
        by_rank = {tensor.ndim: tensor for tensor in same.values()}
        if len(same) != 2 or by_rank.keys() != {1, 2}:
            return None
        pairs.append(SourceLayer(".".join(key), by_rank[2], by_rank[1]))
    return pairs


def _pair_by_position(tensors: Mapping[str, Tensor], is_ordered: bool) -> list[SourceLayer] | None:
    """Join a weight and the bias behind it, by the numbers in the names if they have any."""
    items = [(_tokens(name), tensor) for name, tensor in tensors.items()]
    numbers = [tuple(int(t[:_MAX_DIGITS]) for t in tokens if t.isdecimal()) for tokens, _ in items]
    if all(numbers) and len(set(numbers)) == len(items):
        order = sorted(range(len(items)), key=numbers.__getitem__)
        items = [items[place] for place in order]
    elif not is_ordered:
        return None
    values = [tensor for _, tensor in items]
    if len(values) % 2 or any(tensor.ndim != 2 - place % 2 for place, tensor in enumerate(values)):
        return None
    return [SourceLayer("", *pair) for pair in zip(values[::2], values[1::2], strict=True)]


def _place(layer: SourceLayer, position: int) -> _Placed:
    tokens = layer.name.split(".") if layer.name else [str(position)]
    numbers = tuple(int(token[:_MAX_DIGITS]) for token in tokens if token.isdecimal())
    family = tuple("#" if token.isdecimal() else token for token in tokens)
    return _Placed(layer, family, numbers, position)


def _order_by_number(placed: list[_Placed]) -> list[_Placed] | None:
    """Sort by the numbers in the names, where every layer has its own."""
    numbers = {item.numbers for item in placed}
    if len(numbers) < len(placed) or len({len(own) for own in numbers}) > 1:
        return None
    return sorted(placed, key=lambda item: item.numbers)


def _order_by_shape(placed: list[_Placed], is_ordered: bool) -> list[_Placed] | None:
    """Find the order in which shapes form a chain and numbers ascend among names that are alike.

    Raises:
        DataError: There are several, and the order of the entries is none of them.
    """
    if is_ordered and _is_chain(placed) and _numbers_ascend(placed):
        return placed
    found = []
    for order in _chains(placed):
        found.append(order)
        if len(found) > 1:
            names = ", ".join(item.layer.name[:40] for item in placed[:8])
            raise DataError(f"several orders of its layers ({names}) fit: number their names")
    return found[0] if found else None


def _chains(placed: list[_Placed]) -> Iterator[list[_Placed]]:
    """Give every order that is a chain in which numbers ascend."""
    stack: list[list[_Placed]] = [[]]
    for _ in range(_MAX_STEPS):
        if not stack:
            return
        begun = stack.pop()
        if len(begun) == len(placed):
            yield begun
            continue
        for item in placed:
            if item not in begun:
                longer = [*begun, item]
                if _is_chain(longer[-2:]) and _numbers_ascend(longer):
                    stack.append(longer)
    raise DataError("too many orders of its layers to try: number their names")


def _is_chain(ordered: Sequence[_Placed]) -> bool:
    return all(
        len(before.layer.weight) == behind.layer.weight.shape[1]
        for before, behind in itertools.pairwise(ordered)
    )


def _numbers_ascend(ordered: Sequence[_Placed]) -> bool:
    """Say whether numbers ascend among names alike, and nothing follows a ``last_layer``."""
    latest: dict[tuple[str, ...], tuple[int, ...]] = {}
    for item in ordered:
        if item.numbers < latest.get(item.family, item.numbers):
            return False
        latest[item.family] = item.numbers
    return all(item.family[-2:] != _LAST for item in ordered[:-1])


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name[:80]: tuple(tensor.shape) for name, tensor in list(tensors.items())[:8]}
