"""Any feed-forward network as its tensors, given or read off its modules."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from torch import nn

from lightning_dws.errors import DataError
from lightning_dws.weight_space.module_walk import walk_module
from lightning_dws.weight_space.tensor_specs import Architecture, TensorSpec

_NUM_SHAPES = 4  # that a summary tells


@dataclass(frozen=True, init=False)
class NetworkArchitecture(Architecture):
    """A feed-forward network, such as a small CNN, by its tensors and what is done between them.

    A residual network's tensors share the name of the group that its shortcuts add up: two
    convolutions of a block have the axes ``("h2", "h1", None, None)`` and
    ``("h1", "h2", None, None)``.

    Attributes:
        tensors: In the order of ``module.parameters()``.
        functions: What is applied to the neurons of each group: pairs of a group's name and names
            such as ``("relu", "max_pool")``; may be given as a mapping, and for some groups alone.

    Raises:
        ValueError: No hidden neurons, a group of several sizes or that nothing maps to or from, two
            tensors of one name, or functions of a group that no tensor has.
    """

    kind: ClassVar[str] = "network"

    tensors: tuple[TensorSpec, ...]
    functions: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def __init__(
        self,
        tensors: Sequence[TensorSpec] = (),
        functions: Mapping[str, Sequence[str]] | Sequence[tuple[str, Sequence[str]]] = (),
    ) -> None:
        object.__setattr__(self, "tensors", tuple(tensors))
        names = [spec.name for spec in self.tensors]
        if len(set(names)) < len(names):
            raise ValueError(f"tensors must have names that are all different, got {names}")
        if not self.tensors or not self.groups:
            raise ValueError("a network needs a group of hidden neurons, got tensors without one")
        sizes: dict[str, int] = {}
        for spec in self.tensors:
            for axis, size in zip(spec.axes, spec.shape, strict=True):
                if axis is not None and sizes.setdefault(axis, size) != size:
                    raise ValueError(
                        f"group {axis!r} has {size} neurons in tensor {spec.name!r} and "
                        f"{sizes[axis]} in another"
                    )
        for group, (side, preposition) in itertools.product(self.groups, enumerate(("to", "from"))):
            if not any(s.is_weight and s.axes[side] == group for s in self.tensors):
                raise ValueError(f"no tensor with several axes maps {preposition} group {group!r}")
        given = {group: tuple(applied) for group, applied in dict(functions).items()}
        if unknown := set(given) - set(self.groups):
            raise ValueError(f"functions of {sorted(unknown)}, the groups are {[*self.groups]}")
        ordered = tuple((group, given[group]) for group in self.groups if group in given)
        object.__setattr__(self, "functions", ordered)

    @classmethod
    def from_module(cls, module: nn.Module, input_shape: Sequence[int]) -> Self:
        """Read a plain ``nn.Sequential`` layer by layer; the groups are h1, h2, ...

        It may hold ``nn.Linear``, convolutions, activations, pooling, ``nn.Flatten``, dropout, and
        other ``nn.Sequential``.

        Args:
            module: The network.
            input_shape: Of one input: (channels, height, width), or (features,).

        Raises:
            DataError: It holds another module, or one of another use; the message names it.
        """
        try:
            return cls(*walk_module(module, tuple(input_shape)))
        except DataError:
            raise
        except ValueError as error:
            raise DataError(f"{type(module).__name__} cannot be read: {error}") from error

    def functions_of(self, group: str) -> tuple[str, ...]:
        return dict(self.functions).get(group, ())

    def to_dict(self) -> dict[str, Any]:
        tensors = [
            {"name": spec.name, "shape": list(spec.shape), "axes": list(spec.axes)}
            for spec in self.tensors
        ]
        functions = {group: list(names) for group, names in self.functions}
        return {"kind": self.kind, "tensors": tensors, "functions": functions}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """Read what ``to_dict`` gave.

        Raises:
            KeyError, TypeError, ValueError: It is something else.
        """
        if plain["kind"] != cls.kind:
            raise ValueError(f"architecture of kind {plain['kind']!r}, expected {cls.kind!r}")
        tensors = [
            TensorSpec(str(spec["name"]), tuple(spec["shape"]), tuple(spec["axes"]))
            for spec in plain["tensors"]
        ]
        functions = {
            str(group): tuple(str(name) for name in names)
            for group, names in plain["functions"].items()
        }
        return cls(tensors, functions)

    def __str__(self) -> str:
        return self.summary  # every tensor would fill pages of an error

    @property
    def summary(self) -> str:
        shapes = [str(spec.shape) for spec in self.tensors[:_NUM_SHAPES]]
        more = ", ..." if len(self.tensors) > _NUM_SHAPES else ""
        return f"networks of {len(self.tensors)} tensors {', '.join(shapes)}{more}"
