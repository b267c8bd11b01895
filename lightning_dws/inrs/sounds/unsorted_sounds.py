"""WAV files that nobody sorted by class, prepared as those that a network was trained on."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from lightning_dws.inrs.signals.file_listing import name_dataset
from lightning_dws.inrs.signals.unsorted_files import UnsortedFiles, UnsortedSignals
from lightning_dws.inrs.sounds.base import SoundSignals
from lightning_dws.inrs.sounds.wav_files import read_sound


class UnsortedSounds(UnsortedSignals, SoundSignals):
    """WAV files without classes, all of them in the split ``test``, read as an ``AudioFolder``'s.

    Args:
        root: What the files' names are relative to; it names the dataset.
        paths: The files.
        num_samples: Of the signals.
        rate: Samples in a second.
        normalise: Whether each signal's peak is made 1.
    """

    def __init__(
        self, root: str | Path, paths: Sequence[Path], num_samples: int, rate: int, normalise: bool
    ) -> None:
        self.grid_shape = (num_samples,)
        self.rate = rate
        self.normalise = normalise
        preparation = {"samples": num_samples, **self.preparation}
        self.files = UnsortedFiles(Path(root), paths, preparation)

    @cached_property
    def name(self) -> str:  # type: ignore[override]
        return name_dataset(None, self.files.root, "sounds", self.files.identity)

    def values(self, object_id: Tensor) -> Tensor:
        signals = torch.empty(len(object_id), *self.grid_shape, 1)
        for row, index in enumerate(object_id.tolist()):
            signals[row, :, 0] = self._read(index)
        return signals

    def _read_file(self, path: Path) -> Tensor:
        return read_sound(path, self.rate, self.grid_shape[0], self.normalise)
