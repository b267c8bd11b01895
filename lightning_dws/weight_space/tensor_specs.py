"""The tensors of a network, and which of their axes are hidden neurons: all that a row means.

Symmetries of weights are symmetries of hidden neurons, so an axis has the name of a group of them,
the same wherever the group occurs, or none: such an axis is fixed, like a network's inputs and
outputs, the positions within a kernel, or those of a feature map that was flattened.
"""

import itertools
import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

Axis = str | None


@dataclass(frozen=True)
class TensorSpec:
    """A parameter tensor of a network.

    Of a tensor with several axes the first are what it maps to and the second what it maps from, as
    in ``nn.Linear`` and ``nn.Conv2d``; further ones are fixed. A tensor with one axis adds to what
    is mapped to.

    Attributes:
        name: The parameter's name, such as ``"0.weight"``.
        shape: Such that every axis is one thing: a linear layer behind a flattened feature map has
            (out, channels, positions) in the same memory as torch's (out, channels * positions).
        axes: Of each axis the name of a group of hidden neurons, or None where it is fixed.

    Raises:
        ValueError: Not one axis for each size, a size below 1, or a group behind the second axis.
    """

    name: str
    shape: tuple[int, ...]
    axes: tuple[Axis, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(int(size) for size in self.shape))
        object.__setattr__(self, "axes", tuple(self.axes))
        if not self.shape or min(self.shape) < 1 or len(self.shape) != len(self.axes):
            raise ValueError(
                f"tensor {self.name!r} must have a name or None for each axis of a shape of "
                f"positive integers, got shape {self.shape} and axes {self.axes}"
            )
        if not all(axis is None or (isinstance(axis, str) and axis) for axis in self.axes):
            raise ValueError(f"tensor {self.name!r}: axes are names or None, got {self.axes}")
        if any(self.axes[2:]):
            raise ValueError(
                f"tensor {self.name!r}: hidden neurons stand on its first axis (mapped to) and its "
                f"second (mapped from) alone, got axes {self.axes}"
            )

    @property
    def num_entries(self) -> int:
        return math.prod(self.shape)

    @property
    def is_weight(self) -> bool:
        """Whether it maps, and does not only add."""
        return len(self.shape) > 1

    def holds(self, shape: tuple[int, ...]) -> bool:
        """Whether a tensor of a shape is this one, perhaps with some of its axes joined."""
        sizes = list(shape)
        for size in self.shape:
            while sizes and sizes[0] == 1 and size != 1:
                sizes.pop(0)
            if not sizes or sizes[0] % size:
                return False
            sizes[0] //= size
        return all(size == 1 for size in sizes)


class Architecture:
    """What kind of network a row of weights is: its tensors, one after another.

    Attributes:
        tensors: In the order of a row, which is that of ``torch.nn.utils.parameters_to_vector``.
        noun: What rows of them are called where the user reads it.
    """

    noun: ClassVar[str] = "networks"

    if TYPE_CHECKING:

        @property
        def tensors(self) -> tuple[TensorSpec, ...]: ...

    @cached_property
    def tensor_slices(self) -> tuple[slice, ...]:
        """Where each flattened tensor stands in a row."""
        stops = itertools.accumulate(spec.num_entries for spec in self.tensors)
        return tuple(
            slice(stop - spec.num_entries, stop)
            for spec, stop in zip(self.tensors, stops, strict=True)
        )

    @property
    def num_parameters(self) -> int:
        """Length P of a row."""
        return sum(spec.num_entries for spec in self.tensors)

    @cached_property
    def groups(self) -> dict[str, int]:
        """The groups of hidden neurons and their sizes, in the order of the tensors."""
        return {
            axis: size
            for spec in self.tensors
            for axis, size in zip(spec.axes, spec.shape, strict=True)
            if axis is not None
        }

    def functions_of(self, group: str) -> tuple[str, ...]:
        """Give what is applied to a group's neurons, such as ``("relu", "max_pool")``.

        A network that does nothing with them has ``("identity",)``; () is of one that does not say.
        """
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """Give plain data, for JSON and checkpoints; ``read_architecture`` reads it."""
        raise NotImplementedError

    @property
    def summary(self) -> str:
        """What networks these are, in a few words for errors."""
        raise NotImplementedError
