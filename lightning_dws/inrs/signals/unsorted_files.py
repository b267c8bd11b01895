"""Files that nobody sorted by class: found at any depth, and named by what they hold.

An object's id is the hash of its file's content and of how it is prepared. Its INR, which depends
on the id, is then the same whatever the file is called, wherever it lies, and whatever lies beside
it; equal files are one object; and no id is that of an object that a network was trained on.
"""

import os
from abc import abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightning_dws.counting import counted
from lightning_dws.errors import DataError
from lightning_dws.files import file_sha256, json_sha256
from lightning_dws.inrs.signals.base import SignalDataset
from lightning_dws.inrs.signals.file_listing import list_entries
from lightning_dws.inrs.signals.kept_signals import KeptSignals
from lightning_dws.inrs.signals.splits import SplitOrder
from lightning_dws.inrs.signals.usable import UsableObjects, examine_files
from lightning_dws.randomness import stream_seed

# Of all datasets of such files: INRs of equal ids are of equal files, prepared alike.
BY_CONTENT = json_sha256("objects are named by their content")


@dataclass(frozen=True, eq=False)
class UnsortedFiles:
    """Files of one kind, as objects.

    Attributes:
        root: What their names are relative to.
        paths: Each file's path.
        preparation: How they are prepared, as plain data.
    """

    root: Path
    paths: Sequence[Path]
    preparation: Mapping[str, Any]

    @cached_property
    def ids(self) -> dict[str, int]:
        """The object id of each file, by its name."""
        return {self._name(path): self._identify(path) for path in self.paths}

    @cached_property
    def by_id(self) -> dict[int, Path]:
        """The file of each object, of equal ones the first."""
        found: dict[int, Path] = {}
        for path in self.paths:
            found.setdefault(self.ids[self._name(path)], path)
        return found

    @property
    def identity(self) -> str:
        """SHA-256 of what the files hold, and of how they are prepared."""
        return json_sha256(sorted(self.by_id))

    def describe(self, object_id: int) -> str:
        """Name an object by its file."""
        return self._name(self.by_id[object_id])

    def split(self, name: str) -> SplitOrder:
        """Give all objects as those of ``test``, in the order of their ids."""
        object_id = torch.tensor(sorted(self.by_id) if name == "test" else [], dtype=torch.int64)
        return SplitOrder(object_id, torch.zeros_like(object_id))

    def check_usable(self, reasons: Mapping[int, str | None]) -> None:
        """Raise ``DataError`` where no object can be used, given the reason of each."""
        if self.by_id and all(reasons.get(index) is not None for index in self.by_id):
            index = next(iter(self.by_id))
            raise DataError(
                f"{self.root}: none of {counted(len(self.paths), 'file')} can be used, first "
                f"{self.describe(index)}: {reasons[index]}"
            )

    def _name(self, path: Path) -> str:
        return path.name if path == self.root else str(path.relative_to(self.root))

    def _identify(self, path: Path) -> int:
        try:
            content = file_sha256(path)
        except DataError:  # it will be skipped, under this name
            content = f"unreadable: {self._name(path)}"
        return stream_seed(content, json_sha256(dict(self.preparation)))


class UnsortedSignals(SignalDataset):
    """Signals of files without classes, each read by itself, all of them in the split ``test``.

    A subclass says what a file is read as. One that cannot be read is left out, told and noted.
    """

    is_named_by_content = True
    files: UnsortedFiles

    @abstractmethod
    def _read_file(self, path: Path) -> Tensor:
        """Read a file's signal, as it is kept.

        Raises:
            DataError: It cannot be read.
        """

    def _read(self, object_id: int) -> Tensor:
        return self._signals(object_id)

    @cached_property
    def _signals(self) -> KeptSignals:
        return KeptSignals(self._read_anew)

    def _read_anew(self, object_id: int) -> Tensor:
        return self._read_file(self.files.by_id[object_id])

    def describe_changes(self) -> list[str]:
        """Tell which files were changed to become such signals, a line for each kind of change."""
        return []

    def identity_without(self, names: Collection[str]) -> str:
        return BY_CONTENT

    @cached_property
    def usable(self) -> UsableObjects:
        return UsableObjects(self.files.split, self._examine, self.files.describe)

    def _examine(self, object_ids: list[int], show_progress: bool) -> dict[int, str | None]:
        return examine_files(object_ids, self._read, self.files.by_id)

    def prepare(self, num_objects: Mapping[str, int | None], show_progress: bool) -> None:
        super().prepare(num_objects, show_progress)
        self.files.check_usable(self.usable.reasons)

    def recall(self, usable: Iterable[int], skipped: Mapping[str, str]) -> None:
        """Take over what was usable: by content, whereas names may have changed since."""
        self.usable.recall(usable, {})

    def split(self, name: str) -> SplitOrder:
        return self.usable.first(name, None)


def find_files(place: Path, is_wanted: Callable[[str], bool]) -> list[Path]:
    """Find files by their names: one file, or those of a folder at any depth, in order.

    Hidden files and folders are left out; links to folders are not followed.

    Raises:
        DataError: There is nothing of that name, or a link leaves the folder.
    """
    if not place.is_dir():
        if not place.exists():
            raise DataError(f"{place}: no such file or folder")
        return [place] if is_wanted(place.name) else []
    found: list[Path] = []
    todo = [place]
    while todo:
        entries = list_entries(todo.pop(), place, may_be_missing=True)
        found += [path for path in entries if is_wanted(path.name) and not path.is_dir()]
        todo += [path for path in reversed(entries) if path.is_dir() and not os.path.islink(path)]
    return found
