"""The equivariant linear layers NP and HNP of neural functional networks.

Zhou et al. (2023), "Permutation Equivariant Neural Functionals".

One rule: a layer has every linear map from tensor S to tensor T that goes through axes they share.
S is averaged over its other axes, mapped, and repeated along T's other axes. NP counts all neurons
as permutable, inputs and outputs too, which an encoding of their positions then tells apart; HNP
counts hidden neurons alone, and folds everything else into the channels. Features of a tensor are
(B, channels * fold, *permutable axes).
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lightning_dws.models.pooling import map_entries, pool, pool_matrix
from lightning_dws.weight_space import TensorSpec

SYMMETRIES = ("NP", "HNP")  # what a layer counts as permutable: all neurons, or hidden ones

Axes = tuple[int, ...]
Features = list[Float[Tensor, "batch _folded_channels ..."]]  # one of each parameter tensor


class FoldedTensor(NamedTuple):
    """How a parameter tensor's axes are treated.

    Attributes:
        shape: The tensor's own.
        axes: Which neurons stand along its permutable axes, 0 being the inputs, the last number
            the outputs.
        permutable: Where these axes stand in ``shape``.
    """

    shape: tuple[int, ...]
    axes: Axes
    permutable: tuple[int, ...]

    @property
    def fixed(self) -> tuple[int, ...]:
        """Where the other axes stand, which are folded into the channels."""
        return tuple(i for i in range(len(self.shape)) if i not in self.permutable)

    @property
    def fold(self) -> int:
        """How many positions are folded into the channels."""
        return math.prod(self.shape[axis] for axis in self.fixed)


def neurons_of_axes(tensors: Sequence[TensorSpec]) -> list[tuple[int | None, ...]]:
    """Number the neurons along every axis of every tensor: the inputs 0, hidden groups, outputs.

    None is an axis of no neurons, such as a kernel's.
    """
    names = list(dict.fromkeys(name for spec in tensors for name in spec.axes if name is not None))
    numbers = {name: number for number, name in enumerate(names, 1)}
    ends = (len(names) + 1, 0)  # without a name the first axis is of outputs, the second of inputs
    return [
        tuple(
            numbers[name] if name is not None else ends[position] if position < 2 else None
            for position, name in enumerate(spec.axes)
        )
        for spec in tensors
    ]


def fold_tensors(tensors: Sequence[TensorSpec], symmetry: str) -> list[FoldedTensor]:
    """Say which axes of every tensor a symmetry permutes."""
    folded = []
    for spec, neurons in zip(tensors, neurons_of_axes(tensors), strict=True):
        permutable = tuple(
            position
            for position, (name, number) in enumerate(zip(spec.axes, neurons, strict=True))
            if name is not None or (symmetry == "NP" and number is not None)
        )
        axes = tuple(n for n in (neurons[position] for position in permutable) if n is not None)
        folded.append(FoldedTensor(spec.shape, axes, permutable))
    return folded


def subsets(axes: Axes) -> Iterator[tuple[Axes, tuple[int, ...]]]:
    """Give every subset of a tensor's axes, as neurons from the outputs down, and as positions."""
    for size in range(len(axes) + 1):
        for positions in itertools.combinations(range(len(axes)), size):
            order = tuple(sorted(positions, key=lambda position: -axes[position]))
            yield tuple(axes[position] for position in order), order


class NFNLayer(nn.Module):
    """An equivariant linear layer: one matrix for every set of axes that maps go through.

    All tensors with these axes are its sources, and all are its targets. A layer of a residual
    network may have the same neurons on both of its sides; then each side is a source and a target.

    Args:
        tensors: The networks' parameter tensors.
        in_features: Channels per entry of a tensor, before.
        out_features: And after.
    """

    def __init__(
        self, tensors: Sequence[FoldedTensor], in_features: int, out_features: int
    ) -> None:
        super().__init__()
        self.tensors = tensors
        ends: dict[Axes, list[tuple[int, tuple[int, ...]]]] = {}
        for index, tensor in enumerate(tensors):
            for along, order in subsets(tensor.axes):
                ends.setdefault(along, []).append((index, order))
        self.ends = dict(sorted(ends.items(), key=lambda item: len(item[0])))
        self.out_channels = [tensor.fold * out_features for tensor in tensors]
        sizes = {
            along: sum(tensors[index].fold for index, _ in of) for along, of in self.ends.items()
        }
        self.linears: Mapping[str, nn.Linear] = nn.ModuleDict(  # type: ignore[assignment]
            {
                _key(along): nn.Linear(size * in_features, size * out_features)
                for along, size in sizes.items()
            }
        )
        self._initialise(in_features, sizes)

    @torch.no_grad()
    def _initialise(self, in_features: int, sizes: dict[Axes, int]) -> None:
        """Draw as torch does, with all sources of a target for its inputs."""
        for along, ends in self.ends.items():
            linear = self.linears[_key(along)]
            widths = [self.out_channels[index] for index, _ in ends]
            for (index, _), weight, bias in zip(
                ends, linear.weight.split(widths), linear.bias.split(widths), strict=True
            ):
                inputs = sum(sizes[of] for of, _ in subsets(self.tensors[index].axes))
                bound = 1 / math.sqrt(in_features * inputs)
                weight.uniform_(-bound, bound)
                bias.uniform_(-bound, bound)

    def forward(self, features: Features) -> Features:
        means = [_average(x) for x in features]
        parts: list[dict[tuple[int, ...], Tensor]] = [{} for _ in self.tensors]
        for along, ends in self.ends.items():
            sources = _join([_turn(means[index][order], order) for index, order in ends])
            linear = self.linears[_key(along)]
            weight, bias = linear.weight.to(sources.dtype), linear.bias.to(sources.dtype)
            if len(along) == 0:
                out = torch.addmm(bias, sources, weight.T)
            elif len(along) == 1:
                out = torch.baddbmm(bias[:, None], weight.expand(len(sources), -1, -1), sources)
            else:
                rows = _join([parts[index][order[:1]] for index, order in ends])
                constants = _join([parts[index][()] for index, _ in ends]) + bias
                columns = _join([parts[index][order[1:]] for index, order in ends])
                out = map_entries(sources, weight, rows, columns + constants[..., None])
            widths = [self.out_channels[index] for index, _ in ends]
            for (index, order), part in zip(ends, _split(out, widths), strict=True):
                parts[index][order] = _turn(part, order)
        return [_total(part) for part in parts]


def _total(parts: dict[tuple[int, ...], Tensor]) -> Tensor:
    """Add what came to a tensor through its axes; where it has two, entries have the rest."""
    positions, last = list(parts.items())[-1]
    return last + parts[()][..., None] if len(positions) == 1 else last


def _average(x: Tensor) -> dict[tuple[int, ...], Tensor]:
    """Give a tensor's means over its axes, by the positions of those that are left."""
    if x.ndim == 2:
        return {(): x}
    if x.ndim == 3:
        return {(): pool(x, "mean"), (0,): x}
    x, rows, columns = pool_matrix(x, "mean")
    return {(): pool(rows, "mean"), (0,): rows, (1,): columns, (0, 1): x, (1, 0): x}


def _join(tensors: list[Tensor]) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors, 1)


def _split(x: Tensor, widths: list[int]) -> list[Tensor]:
    """Give the channels of each target, as tensors of their own, which may be written in."""
    return [x] if len(widths) == 1 else [part.clone() for part in x.split(widths, 1)]


def _turn(x: Tensor, order: tuple[int, ...]) -> Tensor:
    """Exchange two axes that stand in the other order."""
    return x.mT if order == (1, 0) else x


def _key(along: Axes) -> str:
    return "_".join(map(str, along)) or "all"
