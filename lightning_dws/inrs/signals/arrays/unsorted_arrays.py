"""Arrays that nobody sorted by class, prepared as those that a network was trained on."""

from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path

from torch import Tensor

from lightning_dws.errors import DataError
from lightning_dws.inrs.signals.arrays.array_files import read_array
from lightning_dws.inrs.signals.arrays.base import ArraySignals, ValueRange, times
from lightning_dws.inrs.signals.file_listing import name_dataset
from lightning_dws.inrs.signals.unsorted_files import UnsortedFiles, UnsortedSignals


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

    @cached_property
    def name(self) -> str:  # type: ignore[override]
        return name_dataset(None, self.files.root, "arrays", self.files.identity)

    def describe_changes(self) -> list[str]:
        """Tell which arrays had another size or values out of range, a line each."""
        low, high = self.value_range
        stretched, clipped = [], []
        for path in self.files.by_id.values():
            with suppress(DataError):  # it is skipped, and told as such
                values = read_array(path, len(self.grid_shape))
                if values.shape[:-1] != self.grid_shape:
                    stretched.append(f"{path.name} of {times(values.shape[:-1])}")
                if values.min() < low or values.max() > high:
                    reach = f"{values.min():g} to {values.max():g}"
                    clipped.append(f"{path.name}, which has {reach}")
        changes = []
        if stretched:
            changes.append(
                f"{len(stretched)} arrays are stretched to {times(self.grid_shape)}, such as "
                f"{stretched[0]}"
            )
        if clipped:
            changes.append(
                f"{len(clipped)} arrays are clipped to {low:g} to {high:g}, such as {clipped[0]}"
            )
        return changes

    def _read(self, object_id: int) -> Tensor:
        return self._read_signal(self.files.by_id[object_id])
