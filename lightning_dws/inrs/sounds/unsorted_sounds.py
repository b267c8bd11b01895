"""WAV files that nobody sorted by class, prepared as those that a network was trained on."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from lightning_dws.inrs.signals import SplitOrder
from lightning_dws.inrs.signals.file_listing import name_dataset
from lightning_dws.inrs.signals.unsorted_files import BY_CONTENT, UnsortedFiles
from lightning_dws.inrs.signals.usable import UsableObjects, examine_files
from lightning_dws.inrs.sounds.base import SoundSignals
from lightning_dws.inrs.sounds.wav_files import read_sound


class UnsortedSounds(SoundSignals):
    """WAV files without classes, all of them in the split ``test``, read as an ``AudioFolder``'s.

    Args:
        root: What the files' names are relative to; it names the dataset.
        paths: The files.
        num_samples: Of the signals.
        rate: Samples in a second.
        normalise: Whether each signal's peak is made 1.
    """

    is_named_by_content = True

    def __init__(
        self, root: str | Path, paths: Sequence[Path], num_samples: int, rate: int, normalise: bool
    ) -> None:
        self.grid_shape = (num_samples,)
        self.rate = rate
        self.normalise = normalise
        preparation = {"kind": "sound", "samples": num_samples, **self.preparation}
        self.files = UnsortedFiles(Path(root), paths, preparation)

    @cached_property
    def name(self) -> str:  # type: ignore[override]
        return name_dataset(None, self.files.root, "sounds", self.files.identity)

    def identity_without(self, names: Collection[str]) -> str:
        return BY_CONTENT

    @cached_property
    def usable(self) -> UsableObjects:
        return UsableObjects(self.files.split, self._examine, self.files.describe)

    def prepare(self, num_objects: Mapping[str, int | None], show_progress: bool) -> None:
        super().prepare(num_objects, show_progress)
        self.files.check_usable(self.usable.reasons)

    def recall(self, usable: Iterable[int], skipped: Mapping[str, str]) -> None:
        """Take over what was usable: by content, whereas names may have changed since."""
        self.usable.recall(usable, {})

    def split(self, name: str) -> SplitOrder:
        return self.usable.first(name, None)

    def values(self, object_id: Tensor) -> Tensor:
        signals = torch.empty(len(object_id), *self.grid_shape, 1)
        for row, index in enumerate(object_id.tolist()):
            signals[row, :, 0] = self._read(index)
        return signals

    def _read(self, object_id: int) -> Tensor:
        path = self.files.by_id[object_id]
        return read_sound(path, self.rate, self.grid_shape[0], self.normalise)

    def _examine(self, object_ids: list[int], show_progress: bool) -> dict[int, str | None]:
        return examine_files(object_ids, self._read, self.files.by_id)
