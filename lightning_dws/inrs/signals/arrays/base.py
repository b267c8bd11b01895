"""Arrays as signals: values on a grid of one, two or three axes, of any number of channels."""

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_dws.errors import DataError
from lightning_dws.inrs.signals.arrays.array_files import Array, read_array
from lightning_dws.inrs.signals.arrays.resampling import resample
from lightning_dws.inrs.signals.base import SignalDataset, grid_coordinates

ValueRange = tuple[float, float]
_BYTES_AT_ONCE = 2**28  # of signals in memory


class ArraySignals(SignalDataset):
    """Arrays of one size; subclasses say which.

    Every axis of the grid runs from -1 to 1, and the last one is the INR's first input, x, as of
    images. Signals are in [0, 1]: 0 and 1 are the ends of ``value_range``.

    Attributes:
        channels: Values at each point: the outputs of an INR.
        value_range: What of the files' values becomes 0, and what 1; what lies beyond is clipped.
    """

    channels: int
    value_range: ValueRange

    @property
    def preparation(self) -> dict[str, Any]:
        return {"kind": "arrays", "value_range": list(self.value_range)}

    @property
    def is_volume(self) -> bool:  # type: ignore[override]
        return len(self.grid_shape) == 3

    @property
    def objects_at_once(self) -> int:  # type: ignore[override]
        return max(1, _BYTES_AT_ONCE // (4 * self.channels * len(self.coordinates)))

    @property
    def coordinates(self) -> Tensor:
        return grid_coordinates(self.grid_shape)

    def values(self, object_id: Tensor) -> Tensor:
        signals = torch.empty(len(object_id), *self.grid_shape, self.channels)
        for row, index in enumerate(object_id.tolist()):
            signals[row] = self._read(index)
        return signals.reshape(len(object_id), len(self.coordinates), self.channels)

    @abstractmethod
    def _read(self, object_id: int) -> Tensor:
        """Read an object's signal (*grid_shape, channels).

        Raises:
            DataError: It cannot be read.
        """

    def _read_signal(self, path: Path) -> Tensor:
        """Read a file as a signal of the size and channels wanted, in [0, 1].

        Raises:
            DataError: See ``read_array``, or it has other channels.
        """
        values = read_array(path, len(self.grid_shape))
        return to_signal(values, self.grid_shape, self.channels, self.value_range, str(path))


def to_signal(
    values: Array, size: Sequence[int], channels: int, value_range: ValueRange, where: str
) -> Tensor:
    """Make an array (*any size, channels) a signal (*size, channels) in [0, 1].

    Raises:
        DataError: It has other channels; ``where`` names it.
    """
    if values.shape[-1] != channels:
        raise DataError(f"{where}: number of channels {values.shape[-1]}, expected {channels}")
    low, high = value_range
    scaled = (resample(values, size) - low) / (high - low)
    return torch.from_numpy(scaled.clip(0, 1).astype(np.float32))


def times(size: Sequence[int]) -> str:
    """Write a size for people: 32x32x32."""
    return "x".join(map(str, size))
