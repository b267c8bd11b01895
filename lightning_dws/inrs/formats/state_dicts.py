"""Anybody's INRs: a folder of state dicts, by class, or with a table of their classes."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from lightning_dws.errors import DataError
from lightning_dws.inrs.formats.layouts import INRName, PathNamer, WritableLayout
from lightning_dws.inrs.formats.listing import FoundObject, Listing, finish_listing
from lightning_dws.inrs.formats.source import BadFile, Source, natural_key
from lightning_dws.inrs.signals import SPLITS
from lightning_dws.inrs.signals.class_folders import FileKind
from lightning_dws.inrs.signals.class_table import list_by_table
from lightning_dws.inrs.signals.file_listing import check_folder_options
from lightning_dws.inrs.signals.files_by_class import cut_listing
from lightning_dws.inrs.signals.splits import stratified_order
from lightning_dws.inrs.store import INRStore

_MAX_CLASSES = 100_000


class StateDicts(WritableLayout):
    """``<split>/<class>/<name>.{pth,pt,safetensors}``, weights and biases under any names.

    Names that end in ``_view<k>`` are views of one object. ``classes.json``, if there is one,
    is the list of the classes' folders and names in the order of their labels; otherwise they
    are the folders in natural order.

    With a table of classes the files lie anywhere in the folder. Where it has no splits, they are
    made as those of images: the objects are one pool, split by a stratified seeded order.

    Args:
        labels: A CSV with a line for each file, as ``ImageFolder`` takes it. Default: folders are
            the splits and classes.
        val_share: With a table, the share for validation: of the pool, or of training where the
            table has splits and none for validation.
        test_share: With a table, the share of the pool for test.

    Raises:
        ValueError: Shares that leave nothing for training.
    """

    name = "state-dicts"
    example = (
        "train/CLASS/0.pth, also .pt or .safetensors; beside train/ val/ and test/; or such files "
        "anywhere, and a CSV of files and classes as the option labels"
    )
    output_offset = 0.0
    has_views = True
    is_anybodys = True
    classes_name = "classes.json"
    suffixes = (".pth", ".pt", ".safetensors")
    _stem = re.compile(r"(.*?)(?:_view([0-9]{1,4}))?", re.DOTALL)

    def __init__(
        self, labels: str | None = None, val_share: float = 0.1, test_share: float = 0.1
    ) -> None:
        check_folder_options(val_share, test_share, name=None)
        self.labels = labels
        self.val_share = val_share
        self.test_share = test_share

    def list_source(self, source: Source) -> Listing:
        return self._list_folders(source) if self.labels is None else self._list_table(source)

    def _list_folders(self, source: Source) -> Listing:
        splits = [name for name in SPLITS if name in source.folders()]
        present = {name for split in splits for name in source.folders(split)}
        classes = self._read_classes(source) or {
            name: name for name in sorted(present, key=natural_key)
        }
        labels = {folder: label for label, folder in enumerate(classes)}
        bad: list[BadFile] = []
        found: dict[str, FoundObject] = {}
        for split in splits:
            for folder in source.folders(split):
                if folder not in labels:
                    bad.append(BadFile(f"{split}/{folder}", f"not in {self.classes_name}"))
                    continue
                for name in source.files(f"{split}/{folder}"):
                    path = f"{split}/{folder}/{name}"
                    if name.endswith(self.suffixes):
                        own, view = self._find_view(path)
                        new = FoundObject(split, "", own, labels[folder])
                        _add_view(found.setdefault(own, new), view, path, bad)
        return finish_listing(
            source, interleave(list(found.values())), tuple(classes.values()), bad
        )

    def _list_table(self, source: Source) -> Listing:
        assert self.labels is not None
        kind = FileKind("state dict", lambda name: name.endswith(self.suffixes))
        files = list_by_table(source.directory, kind, self.labels)
        bad: list[BadFile] = []
        found: dict[str, FoundObject] = {}
        first_files: dict[str, list[tuple[Path, int]]] = {part: [] for part in files.parts}
        for part, listed in files.parts.items():
            for file, label in listed:
                path = file.relative_to(source.directory).as_posix()
                own, view = self._find_view(path)
                if own not in found:
                    found[own] = FoundObject(part, "", own, label)
                    first_files[part].append((file, label))
                known = found[own]
                if (known.split, known.label) != (part, label):
                    raise DataError(
                        f"{self.labels}: {path!r} is a view of the same object as "
                        f"{next(iter(known.paths.values()))!r}, but of another class or split"
                    )
                _add_view(known, view, path, bad)
        splits = cut_listing(
            replace(files, parts=first_files), kind, self.val_share, self.test_share
        )
        objects = list(found.values())
        ordered = [
            replace(objects[position], split=split)
            for split, part in splits.items()
            for position in part.object_id.tolist()
        ]
        listing = finish_listing(source, ordered, files.classes, bad)
        listing.left_out = files.left_out
        listing.passed_over = [path for path in listing.passed_over if not kind.has(path)]
        return listing

    def _find_view(self, path: str) -> tuple[str, int]:
        """Split a file's path into that of its object, without an extension, and its view."""
        stem = path.rsplit(".", 1)[0]
        match = self._stem.fullmatch(stem)
        return (match[1], int(match[2] or 0)) if match else (stem, 0)

    def paths(self, store: INRStore) -> PathNamer:
        return _StateDictNamer(store, self)

    def _read_classes(self, source: Source) -> dict[str, str]:
        where = source.directory / self.classes_name
        if not source.has(self.classes_name):
            return {}
        content = source.read_json(self.classes_name)
        if (
            not isinstance(content, dict)
            or not 0 < len(content) < _MAX_CLASSES
            or not all(isinstance(name, str) for name in content.values())
        ):
            raise DataError(f"{where}: expected {{folder: name}} in the order of the labels")
        return content


def _add_view(known: FoundObject, view: int, path: str, bad: list[BadFile]) -> None:
    if view in known.paths:
        bad.append(BadFile(path, f"view {view} of its object is listed already"))
    else:
        known.paths[view] = path


def interleave(found: list[FoundObject]) -> list[FoundObject]:
    """Mix the classes of each split, so that the first n objects hold all of them."""
    ordered = []
    for split in SPLITS:
        part = [item for item in found if item.split == split]
        labels = torch.tensor([item.label or 0 for item in part], dtype=torch.int64)
        ordered += [part[position] for position in stratified_order(labels, 0).tolist()]
    return ordered


class _StateDictNamer(PathNamer):
    def __init__(self, store: INRStore, layout: WritableLayout) -> None:
        super().__init__(store, layout)
        self.folders: list[str] = []
        for label, name in enumerate(store.classes):
            # class names are anybody's text, folder names must be safe
            folder = re.sub(r"[^\w +-]", "_", name)[:80].strip()
            taken = not folder or folder in self.folders
            self.folders.append(f"{folder}_{label}" if taken else folder)

    def path(self, name: INRName) -> str:
        number = self.number(name, "")
        return f"{name.split}/{self.folders[name.label]}/{number}_view{name.view}.pth"

    def folder_files(self, root: str, names: list[tuple[INRName, str]]) -> dict[str, Any]:
        return {StateDicts.classes_name: dict(zip(self.folders, self.store.classes, strict=True))}
