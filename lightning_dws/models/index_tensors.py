"""Index tensors of a module that follow it to its device and are nothing else of it."""

from collections.abc import Callable
from typing import Self

from torch import Tensor, nn


class IndexTensors(nn.Module):
    """A module with integer tensors that say where things are.

    They are no registered buffers: an average of a network's buffers (EMA) would round integers,
    and checkpoints need not hold what the architecture says.
    """

    def __init__(self) -> None:
        super().__init__()
        self._index_names: list[str] = []

    def set_index(self, name: str, index: Tensor) -> None:
        """Keep an index tensor as the attribute ``name``."""
        self._index_names.append(name)
        setattr(self, name, index)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name in self._index_names:
            setattr(self, name, fn(getattr(self, name)))
        return self
