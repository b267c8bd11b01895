"""A folder of files by class: which files, in which order, of which class and split."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lightning_dws.counting import counted
from lightning_dws.errors import DataError
from lightning_dws.inrs.signals.file_listing import (
    POOL,
    VAL_FOLDERS,
    FileListing,
    list_entries,
    list_folders,
    normalised,
)

_SPLIT_FOLDERS = {"train", "test", *VAL_FOLDERS}


@dataclass(frozen=True)
class FileKind:
    """A kind of files, such as images.

    Attributes:
        name: Of one, in lower case.
        has: Tells by a file's name whether it is one.
    """

    name: str
    has: Callable[[str], bool]

    @property
    def plural(self) -> str:
        return f"{self.name}es" if self.name.endswith("sh") else f"{self.name}s"

    def count(self, number: int) -> str:
        """Write so many files of the kind: ``1 image``, ``2 meshes``."""
        return counted(number, self.name, self.plural)


def list_class_folders(root: Path, kind: FileKind) -> FileListing:
    """List ``root/CLASS/*`` or ``root/{train,test[,val|valid]}/CLASS/*``.

    Hidden files and folders, and files of another kind, are left out; so are those of the kind
    beside the folders of classes or deeper, which is told. The order is that of the names,
    whatever the file system's.

    Raises:
        DataError: There is no such folder, its layout is another, a class has no files of the
            kind, or a link leaves the folder.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; expected one with {kind.plural} by class")
    folders = {normalised(path.name): path for path in list_folders(root, root)}
    splits = _find_splits(root, folders)
    beside = [path for path in list_entries(root, root) if kind.has(path.name) and path.is_file()]
    left_out: tuple[str, ...] = ()
    if beside:
        left_out = (
            f"{kind.count(len(beside))} beside the folders of classes, such as {beside[0].name}",
        )
    places = [root] if splits is None else list(splits.values())
    if nested := [path for place in places for path in _find_nested(place, root, kind)]:
        left_out += (
            f"{kind.count(len(nested))} in folders below those of classes, such as "
            f"{nested[0].relative_to(root)}",
        )
    if splits is None:
        classes, files = _list_classes(kind, root, root)
        return FileListing(root, classes, {POOL: files}, left_out)
    classes, parts = (), {}
    for split, folder in splits.items():
        found, parts[split] = _list_classes(kind, folder, root, classes)
        classes = classes or found
    return FileListing(root, classes, parts, left_out)


def _find_nested(place: Path, root: Path, kind: FileKind) -> list[Path]:
    """Find the files of the kind that lie deeper than in the folder of their class."""
    classes = list_folders(place, root)
    inner = [folder for own in classes for folder in list_folders(own, root)]
    return [
        Path(folder, name)
        for top in inner
        for folder, _, names in os.walk(top)
        for name in sorted(names)
        if kind.has(name)
    ]


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
    if given >= set(VAL_FOLDERS):
        raise DataError(f"{root}: both val/ and valid/; expected one of them")
    names = {"train": "train", "val": "valid" if "valid" in given else "val", "test": "test"}
    return {split: folders[name] for split, name in names.items() if name in given}


def _list_classes(
    kind: FileKind, place: Path, root: Path, known: tuple[str, ...] = ()
) -> tuple[tuple[str, ...], list[tuple[Path, int]]]:
    """List the class folders of a place: the classes, and the files with their labels.

    Args:
        kind: Of the files.
        place: The root, or the folder of a split.
        root: What links must not leave.
        known: The classes, if they are known; there may be no others.
    """
    folders, one = list_folders(place, root), kind.name.upper()
    if not folders:
        raise DataError(
            f"{place}: no folders of classes; expected {place}/CLASS/{one}, or a CSV of files and "
            "classes as the option labels"
        )
    by_class = {normalised(folder.name): folder for folder in folders}
    if len(by_class) < len(folders):
        raise DataError(f"{place}: two folders have the same name, with accents spelt in two ways")
    classes = known or tuple(by_class)
    files = []
    for name, folder in by_class.items():
        if name not in classes:
            raise DataError(f"{folder}: a class that train/ does not have")
        found = [path for path in list_entries(folder, root) if kind.has(path.name)]
        found = [path for path in found if path.is_file()]
        if not found:
            raise DataError(f"{folder}: no {kind.plural} in it; expected {folder}/{one}")
        files += [(path, classes.index(name)) for path in found]
    return classes, sorted(files, key=lambda file: file[1])
