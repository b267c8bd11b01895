"""Signals of files that are read once, as far as memory is given for them."""

from collections.abc import Callable

from torch import Tensor

MOST_BYTES = 2**29


class KeptSignals:
    """Reads objects' signals, and keeps the first of them, up to 512 MiB.

    Args:
        read: Reads one, by its object id.
    """

    def __init__(self, read: Callable[[int], Tensor]) -> None:
        self._read = read
        self._kept: dict[int, Tensor] = {}

    def __call__(self, object_id: int) -> Tensor:
        """Give an object's signal; nobody may change it."""
        if object_id in self._kept:
            return self._kept[object_id]
        signal = self._read(object_id)
        if (len(self._kept) + 1) * signal.nbytes <= MOST_BYTES:
            self._kept[object_id] = signal
        return signal
