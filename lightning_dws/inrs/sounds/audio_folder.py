"""Any folder of WAV files by class as signals."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightning_dws.inrs.signals.class_folders import FileKind
from lightning_dws.inrs.signals.files_by_class import FilesByClass
from lightning_dws.inrs.sounds.base import SoundSignals
from lightning_dws.inrs.sounds.wav_files import is_wav_name, read_sound


class AudioFolder(FilesByClass, SoundSignals):
    """WAV files in ``root/CLASS/*``, or in ``root/{train,test[,val|valid]}/CLASS/*``.

    Splits, classes, object ids and damaged files are as in ``ImageFolder``. Of every file the
    beginning is taken: its channels averaged, resampled, with silence behind its end where it is
    shorter, and its peak made 1, as Sitzmann et al. (2020) do.

    Args:
        root: The folder. Links that leave it are refused.
        seconds: Length of the signals.
        rate: Samples in a second. An INR has that many points times ``seconds`` to learn.
        normalise: Whether to make each signal's peak 1. Else a file's full scale is 1, and quiet
            sounds have quiet INRs, of a lower signal-to-noise ratio.
        val_share: As in ``ImageFolder``.
        test_share: Likewise.
        name: Likewise.
        labels: Likewise.

    Raises:
        ValueError: An argument out of its range.
        DataError: Not from the constructor, but once data is asked for: the folder has another
            layout, or a class has too few files for the split.
    """

    kind = FileKind("sound", is_wav_name)

    def __init__(
        self,
        root: str,
        seconds: float = 0.5,
        rate: int = 8000,
        normalise: bool = True,
        val_share: float = 0.1,
        test_share: float = 0.1,
        name: str | None = None,
        labels: str | None = None,
    ) -> None:
        if rate < 1 or not 1 <= seconds * rate < 2**22:
            raise ValueError(
                f"seconds times rate must be from 1 to {2**22} samples, got {seconds} and {rate}"
            )
        super().__init__(root, val_share, test_share, name, labels)
        self.rate = rate
        self.normalise = normalise
        self.grid_shape = (round(seconds * rate),)

    @property
    def _options(self) -> dict[str, Any]:
        return {"samples": self.grid_shape[0], "rate": self.rate, "normalise": self.normalise}

    def values(self, object_id: Tensor) -> Tensor:
        signals = torch.empty(len(object_id), *self.grid_shape, 1)
        for row, index in enumerate(object_id.tolist()):
            signals[row, :, 0] = self._read(index)
        return signals

    def _read_file(self, path: Path) -> Tensor:
        return read_sound(path, self.rate, self.grid_shape[0], self.normalise)
