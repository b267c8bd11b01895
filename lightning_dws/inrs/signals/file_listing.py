"""Folders of files by class: which files, in which order, of which class and split."""

import hashlib
import os
import re
import unicodedata
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from lightning_dws.errors import DataError
from lightning_dws.files import check_regular

POOL = "all"
VAL_FOLDERS = ("val", "valid")
_IGNORED = {"__MACOSX"}
_SAMPLED_BYTES = 2**15  # at either end of a file


@dataclass(frozen=True, eq=False)
class FileListing:
    """The files of a folder; a file's position is its object id.

    Attributes:
        root: The folder.
        classes: Their names, sorted.
        parts: The files (path, label) of each given split, train before val before test, or of
            ``"all"`` where none are given; sorted by class, then by name.
        left_out: What else is there and is not taken, each a line for people.
        is_by_table: Whether classes and splits are those of a table, and no folders' names.
    """

    root: Path
    classes: tuple[str, ...]
    parts: dict[str, list[tuple[Path, int]]]
    left_out: tuple[str, ...] = ()
    is_by_table: bool = False

    @property
    def has_splits(self) -> bool:
        return POOL not in self.parts

    @cached_property
    def paths(self) -> list[Path]:
        return [path for files in self.parts.values() for path, _ in files]

    @cached_property
    def label(self) -> Tensor:
        """(n,) int64, by object id."""
        return torch.tensor([label for files in self.parts.values() for _, label in files])

    def cut(
        self, val_share: float, test_share: float, least: int
    ) -> Iterator[tuple[int, Tensor, dict[str, int]]]:
        """Share the files out: the pool, or training where validation is not given.

        Args:
            val_share: For validation.
            test_share: Of the pool, for test.
            least: Files that a share is at least.

        Yields:
            Of each part the first object id, the labels, and the sizes of the splits in it, which
            may be too small.
        """
        start = 0
        for name, files in self.parts.items():
            count = len(files)
            val, test = (max(least, round(share * count)) for share in (val_share, test_share))
            if name == POOL:
                sizes = {"train": count - val - test, "val": val, "test": test}
            elif name == "train" and "val" not in self.parts:
                sizes = {"train": count - val, "val": val}
            else:
                sizes = {name: count}
            yield start, self.label[start : start + count], sizes
            start += count

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of all files' places, sizes and first and last 32 KiB, wherever the folder is.

        Where folders do not tell, also of their classes and splits.

        Places and sizes alone would not do: uncompressed files all have the same size.
        """
        return self.fingerprint_without(())

    def fingerprint_without(self, names: Collection[str]) -> str:
        """Give the fingerprint, but of the files of some names (``describe``) the places alone."""
        digest = hashlib.sha256()
        splits = [split for split, files in self.parts.items() for _ in files]
        for index, path in enumerate(self.paths):
            place = "/".join(map(normalised, path.relative_to(self.root).parts))
            if self.is_by_table:
                place += f"\0{self.classes[int(self.label[index])]}\0{splits[index]}"
            if self.describe(index) in names:
                digest.update(f"{place}\0".encode(errors="surrogateescape"))
                continue
            size, sample = self._contents[index]
            digest.update(f"{place}\0{size}\0".encode(errors="surrogateescape"))
            digest.update(sample)
        return digest.hexdigest()

    def describe(self, index: int) -> str:
        """Name a file by its place in the folder."""
        return str(self.paths[index].relative_to(self.root))

    @cached_property
    def _contents(self) -> list[tuple[int, bytes]]:
        """The size and the SHA-256 of both ends of every file; -1 where it cannot be read."""
        return [_read_ends(path) for path in self.paths]


def check_folder_options(val_share: float, test_share: float, name: str | None) -> None:
    """Check what a dataset of a folder may be given.

    Raises:
        ValueError: Shares that leave nothing for training, or a name that is none for a folder.
    """
    if not (val_share > 0 and test_share > 0 and val_share + test_share < 1):
        raise ValueError(
            f"val_share and test_share must be positive and add up to less than 1, "
            f"got {val_share} and {test_share}"
        )
    if name is not None and not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise ValueError(f"name must consist of letters, digits, - and _, got {name!r}")


def name_dataset(name: str | None, folder: Path, default: str, identity: str) -> str:
    """Give a dataset's name: readable, the folder's where none is given, then its identity."""
    readable = name or re.sub(r"[^A-Za-z0-9]+", "_", folder.resolve().name) or default
    return f"{readable[:40]}-{identity[:12]}"


def _read_ends(path: Path) -> tuple[int, bytes]:
    try:
        check_regular(path)
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            sample = file.read(_SAMPLED_BYTES)
            file.seek(max(len(sample), size - _SAMPLED_BYTES))
            sample += file.read(_SAMPLED_BYTES)
    except (DataError, OSError):  # it will be skipped
        size, sample = -1, b""
    return size, hashlib.sha256(sample).digest()


def list_folders(folder: Path, root: Path) -> list[Path]:
    """List the folders in a folder that are not hidden, by name."""
    return [path for path in list_entries(folder, root) if path.is_dir()]


def list_entries(folder: Path, root: Path, may_be_missing: bool = False) -> list[Path]:
    """List what is not hidden, by name; a link must lead to something in the root.

    Args:
        folder: Of the root, or the root.
        root: That links must not leave.
        may_be_missing: What a link leads to need not be there.
    """
    try:
        names = [name for name in os.listdir(folder) if not name.startswith(".")]
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror})") from error
    paths = [folder / name for name in names if name not in _IGNORED]
    for path in paths:
        if path.is_symlink() and not _stays_inside(path, root, may_be_missing):
            raise DataError(f"{path}: a link to nothing inside {root}; only those are followed")
    return sorted(paths, key=lambda path: (normalised(path.name), path.name))


def _stays_inside(link: Path, root: Path, may_be_missing: bool) -> bool:
    target = Path(os.path.realpath(link))
    return (may_be_missing or target.exists()) and target.is_relative_to(os.path.realpath(root))


def normalised(name: str) -> str:
    """Give a name in one spelling: file systems differ in how they write accents."""
    return unicodedata.normalize("NFC", name)
