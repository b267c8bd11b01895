"""Arrays that nobody sorted by class, prepared as those that a network was trained on."""

from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from lightning_dws.counting import counted
from lightning_dws.errors import DataError
from lightning_dws.inrs.signals.arrays.array_files import Array, read_array
from lightning_dws.inrs.signals.arrays.base import ArraySignals, ValueRange, times, to_signal
from lightning_dws.inrs.signals.file_listing import name_dataset
from lightning_dws.inrs.signals.unsorted_files import UnsortedFiles, UnsortedSignals


class Extent(NamedTuple):
    """Size and values of a file's array."""

    size: tuple[int, ...]
    low: float
    high: float


class UnsortedArrays(UnsortedSignals, ArraySignals):
    """Files of arrays without classes, all of them in the split ``test``, as an ``ArrayFolder``'s.

    Args:
        root: What the files' names are relative to; it names the dataset.
        paths: The files.
        size: Of the signals' grid.
        channels: Of the signals.
        value_range: As in ``ArrayFolder``.
    """

    def __init__(
        self,
        root: str | Path,
        paths: Sequence[Path],
        size: tuple[int, ...],
        channels: int,
        value_range: ValueRange,
    ) -> None:
        self.grid_shape = size
        self.channels = channels
        self.value_range = value_range
        preparation = {"size": list(size), "channels": channels, **self.preparation}
        self.files = UnsortedFiles(Path(root), paths, preparation)
        self._extents: dict[Path, Extent] = {}

    @cached_property
    def name(self) -> str:  # type: ignore[override]
        return name_dataset(None, self.files.root, "arrays", self.files.identity)

    def describe_changes(self) -> list[str]:
        """Tell which arrays had another size or values out of range, a line each."""
        low, high = self.value_range
        stretched, clipped = [], []
        for path in self.files.by_id.values():
            with suppress(DataError):  # it is skipped, and told as such
                if path not in self._extents:
                    self._read_values(path)
                found = self._extents[path]
                if found.size != self.grid_shape:
                    stretched.append(f"{path.name} of {times(found.size)}")
                if found.low < low or found.high > high:
                    clipped.append(f"{path.name}, which has {found.low:g} to {found.high:g}")
        changes = []
        if stretched:
            changes.append(
                f"{counted(len(stretched), 'array is', 'arrays are')} stretched to "
                f"{times(self.grid_shape)}, such as {stretched[0]}"
            )
        if clipped:
            changes.append(
                f"{counted(len(clipped), 'array is', 'arrays are')} clipped to {low:g} to "
                f"{high:g}, such as {clipped[0]}"
            )
        return changes

    def _read_file(self, path: Path) -> Tensor:
        values = self._read_values(path)
        return to_signal(values, self.grid_shape, self.channels, self.value_range, str(path))

    def _read_values(self, path: Path) -> Array:
        values = read_array(path, len(self.grid_shape))
        self._extents[path] = Extent(values.shape[:-1], float(values.min()), float(values.max()))
        return values
