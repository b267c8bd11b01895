"""A folder of image files by class: which files, in which order, of which class and split."""

import hashlib
import os
import unicodedata
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from lightning_dws.errors import DataError
from lightning_dws.inrs.image_files import is_image_name

_POOL = "all"
_VAL_FOLDERS = ("val", "valid")
_SPLIT_FOLDERS = {"train", "test", *_VAL_FOLDERS}
_IGNORED = {"__MACOSX"}
_SAMPLED_BYTES = 2**15  # at either end of a file


@dataclass(frozen=True, eq=False)
class ImageListing:
    """The image files of a folder; a file's position is its object id.

    Attributes:
        root: The folder.
        classes: Their names, sorted.
        parts: The files (path, label) of each given split, train before val before test, or of
            ``"all"`` where none are given; sorted by class, then by name.
    """

    root: Path
    classes: tuple[str, ...]
    parts: dict[str, list[tuple[Path, int]]]

    @property
    def has_splits(self) -> bool:
        return _POOL not in self.parts

    @cached_property
    def paths(self) -> list[Path]:
        return [path for files in self.parts.values() for path, _ in files]

    @cached_property
    def label(self) -> Tensor:
        """(n,) int64, by object id."""
        return torch.tensor([label for files in self.parts.values() for _, label in files])

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of all files' places, sizes and first and last 32 KiB, wherever the folder is.

        Places and sizes alone would not do: uncompressed images all have the same size.
        """
        digest = hashlib.sha256()
        for path in self.paths:
            place = "/".join(map(_normalised, path.relative_to(self.root).parts))
            try:
                with open(path, "rb") as file:
                    size = os.fstat(file.fileno()).st_size
                    sample = file.read(_SAMPLED_BYTES)
                    file.seek(max(len(sample), size - _SAMPLED_BYTES))
                    sample += file.read(_SAMPLED_BYTES)
            except OSError as error:
                raise DataError(f"{path}: cannot be read ({error.strerror})") from error
            digest.update(f"{place}\0{size}\0".encode(errors="surrogateescape"))
            digest.update(hashlib.sha256(sample).digest())
        return digest.hexdigest()


def list_images(root: Path) -> ImageListing:
    """List ``root/CLASS/*`` or ``root/{train,test[,val|valid]}/CLASS/*``.

    Hidden files and folders, and files without an image's extension, are left out. The order is
    that of the names, whatever the file system's.

    Raises:
        DataError: There is no such folder, its layout is another, a class has no images, or a
            link leaves the folder.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; expected one with images by class")
    folders = {_normalised(path.name): path for path in _list_folders(root, root)}
    splits = _find_splits(root, folders)
    if splits is None:
        classes, files = _list_classes(root, root)
        return ImageListing(root, classes, {_POOL: files})
    classes, parts = (), {}
    for split, folder in splits.items():
        found, parts[split] = _list_classes(folder, root, classes)
        classes = classes or found
    return ImageListing(root, classes, parts)


def _find_splits(root: Path, folders: dict[str, Path]) -> dict[str, Path] | None:
    """Find the folders of the splits, None where the folders are the classes themselves."""
    given = folders.keys() & _SPLIT_FOLDERS
    others = sorted(folders.keys() - given)
    if "train" not in given or (others and "test" not in given):
        return None
    if others:
        raise DataError(
            f"{root}: train/ and test/ beside {others[0]}/; expected either classes or splits"
        )
    if "test" not in given:
        raise DataError(f"{root}: train/ without test/; expected both, or classes alone")
    if given >= set(_VAL_FOLDERS):
        raise DataError(f"{root}: both val/ and valid/; expected one of them")
    names = {"train": "train", "val": "valid" if "valid" in given else "val", "test": "test"}
    return {split: folders[name] for split, name in names.items() if name in given}


def _list_classes(
    place: Path, root: Path, known: tuple[str, ...] = ()
) -> tuple[tuple[str, ...], list[tuple[Path, int]]]:
    """List the class folders of a place: the classes, and the files with their labels.

    Args:
        place: The root, or the folder of a split.
        root: What links must not leave.
        known: The classes, if they are known; there may be no others.
    """
    folders = _list_folders(place, root)
    if not folders:
        raise DataError(f"{place}: no folders of classes; expected {place}/CLASS/IMAGE")
    by_class = {_normalised(folder.name): folder for folder in folders}
    if len(by_class) < len(folders):
        raise DataError(f"{place}: two folders have the same name, with accents spelt in two ways")
    classes = known or tuple(by_class)
    files = []
    for name, folder in by_class.items():
        if name not in classes:
            raise DataError(f"{folder}: a class that train/ does not have")
        images = [path for path in _list_entries(folder, root) if is_image_name(path.name)]
        images = [path for path in images if path.is_file()]
        if not images:
            raise DataError(f"{folder}: no images in it; expected {folder}/IMAGE")
        files += [(path, classes.index(name)) for path in images]
    return classes, sorted(files, key=lambda file: file[1])


def _list_folders(folder: Path, root: Path) -> list[Path]:
    return [path for path in _list_entries(folder, root) if path.is_dir()]


def _list_entries(folder: Path, root: Path) -> list[Path]:
    """List what is not hidden, by name; a link must lead to something in the root."""
    try:
        names = [name for name in os.listdir(folder) if not name.startswith(".")]
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror})") from error
    paths = [folder / name for name in names if name not in _IGNORED]
    for path in paths:
        if path.is_symlink() and not _stays_inside(path, root):
            raise DataError(f"{path}: a link to nothing inside {root}; only those are followed")
    return sorted(paths, key=lambda path: (_normalised(path.name), path.name))


def _stays_inside(link: Path, root: Path) -> bool:
    target = Path(os.path.realpath(link))
    return target.exists() and target.is_relative_to(os.path.realpath(root))


def _normalised(name: str) -> str:
    """Give a name in one spelling: file systems differ in how they write accents."""
    return unicodedata.normalize("NFC", name)
