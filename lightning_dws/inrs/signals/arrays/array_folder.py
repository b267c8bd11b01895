"""Any folder of arrays by class as signals."""

import math
import sys
from collections import Counter
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from lightning_dws.counting import counted
from lightning_dws.errors import DataError
from lightning_dws.inrs.signals.arrays.array_files import (
    ArrayProperties,
    is_array_name,
    read_array,
    read_array_properties,
)
from lightning_dws.inrs.signals.arrays.base import ArraySignals, ValueRange, times
from lightning_dws.inrs.signals.arrays.value_ranges import keep_range, range_key, recall_range
from lightning_dws.inrs.signals.class_folders import FileKind
from lightning_dws.inrs.signals.files_by_class import FilesByClass


class ArrayFolder(FilesByClass, ArraySignals):
    """Arrays in ``root/CLASS/*``, or in ``root/{train,test[,val|valid]}/CLASS/*``.

    Files are ``.npy``, or TIFF whose pages are the first of three axes. An array has the shape of
    its grid, or one axis more for the channels. Splits, classes, object ids and damaged files are
    as in ``ImageFolder``. Arrays are stretched to one size, averaged where they shrink and
    interpolated linearly where they grow. One with other channels than most is left out, and so is
    one with values that are not finite.

    Args:
        root: The folder. Links that leave it are refused.
        num_axes: Of the grid: 1 (points), 2 (height, width) or 3 (depth, height, width): the inputs
            of an INR.
        size: Of the grid. Default: the most common size of the files.
        value_range: What of the files' values becomes 0, and what 1; what lies beyond is clipped.
            Default: the smallest and the greatest value of all files, each of which is read once to
            find them; they are kept in the user's cache until a file is changed.
        val_share: As in ``ImageFolder``.
        test_share: Likewise.
        name: Likewise.
        labels: Likewise.

    Raises:
        ValueError: An argument out of its range.
        DataError: Not from the constructor, but once data is asked for: the folder has another
            layout, no file can be read, all values are equal, or a class has too few files for the
            split.
    """

    kind = FileKind("array", is_array_name)

    def __init__(
        self,
        root: str,
        num_axes: int = 3,
        size: tuple[int, ...] | None = None,
        value_range: tuple[float, float] | None = None,
        val_share: float = 0.1,
        test_share: float = 0.1,
        name: str | None = None,
        labels: str | None = None,
    ) -> None:
        if num_axes not in (1, 2, 3):
            raise ValueError(f"num_axes must be 1, 2 or 3, got {num_axes}")
        if size is not None and (len(size) != num_axes or min(size) < 1):
            raise ValueError(f"size must be {num_axes} numbers of at least 1, got {size}")
        if value_range is not None:
            low, high = value_range
            if not (low < high and math.isfinite(high - low)):
                raise ValueError(f"value_range must be finite and ascending, got {value_range}")
        super().__init__(root, val_share, test_share, name, labels)
        self.num_axes = num_axes
        self._size = size
        self._value_range = value_range

    @property
    def _options(self) -> dict[str, Any]:
        return {
            "grid_shape": self.grid_shape,
            "channels": self.channels,
            "value_range": self.value_range,
        }

    @cached_property
    def grid_shape(self) -> tuple[int, ...]:  # type: ignore[override]
        if self._size is not None:
            return tuple(self._size)
        counts = Counter(properties.size for properties in self._properties.values())
        common = max(counts, key=lambda size: (counts[size], size))
        if counts[common] == 1 < len(counts):
            raise DataError(f"{self.root}: no two arrays have the same size; give the size")
        return common

    @cached_property
    def channels(self) -> int:  # type: ignore[override]
        counts = Counter(properties.channels for properties in self._properties.values())
        return max(counts, key=lambda channels: (counts[channels], channels))

    @cached_property
    def value_range(self) -> ValueRange:  # type: ignore[override]
        if self._value_range is not None:
            low, high = self._value_range
            return float(low), float(high)
        key = range_key(self._listing, self.num_axes)
        known = recall_range(key)
        if known is None:
            known = self._find_range()
            keep_range(key, known)
        return known

    def _find_range(self) -> ValueRange:
        """Read all files.

        Raises:
            DataError: None can be read, or all values are equal.
        """
        low, high, reason = math.inf, -math.inf, ""
        for path in self._properties:
            try:
                values = read_array(path, self.num_axes)
            except DataError as error:
                reason = reason or str(error)
                continue
            if values.shape[-1] == self.channels:
                low, high = min(low, float(values.min())), max(high, float(values.max()))
        if low > high:
            raise DataError(f"{self.root}: no array can be read, first {reason}")
        if not 0 < high - low < math.inf:
            raise DataError(f"{self.root}: values from {low:g} to {high:g}; give a value_range")
        return low, high

    def prepare(self, num_objects: Mapping[str, int | None], show_progress: bool) -> None:
        """Tell which arrays are stretched: one that was meant with other axes is seen by it."""
        super().prepare(num_objects, show_progress)
        sizes = [properties.size for properties in self._properties.values()]
        others = [size for size in sizes if size != self.grid_shape]
        if others and show_progress:
            arrays = counted(len(sizes), "array")
            stretched = counted(len(others), f"of {arrays} is", f"of {arrays} are")
            sys.stderr.write(
                f"{self.name}: {stretched} stretched to "
                f"{times(self.grid_shape)}, such as one of {times(others[0])}\n"
            )

    def _read_file(self, path: Path) -> Tensor:
        return self._read_signal(path)

    @cached_property
    def _properties(self) -> dict[Path, ArrayProperties]:
        """What the headers of the files say that have readable ones."""
        found, unreadable = {}, []
        for path in self._listing.paths:
            try:
                found[path] = read_array_properties(path, self.num_axes)
            except DataError as error:
                unreadable.append(str(error))
        if not found:
            raise DataError(f"{self.root}: no array can be read, first {unreadable[0]}")
        return found
