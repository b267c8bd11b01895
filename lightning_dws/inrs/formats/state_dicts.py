"""Anybody's INRs: a folder of state dicts, ``<split>/<class>/*.{pth,pt,safetensors}``."""

import re
from typing import Any

import torch

from lightning_dws.errors import DataError
from lightning_dws.inrs.formats.layouts import INRName, PathNamer, WritableLayout
from lightning_dws.inrs.formats.listing import FoundObject, Listing, finish_listing
from lightning_dws.inrs.formats.source import BadFile, Source, natural_key
from lightning_dws.inrs.signals import SPLITS
from lightning_dws.inrs.signals.splits import stratified_order
from lightning_dws.inrs.store import INRStore

_MAX_CLASSES = 100_000


class StateDicts(WritableLayout):
    """``<split>/<class>/<name>.{pth,pt,safetensors}``, weights and biases under any names.

    Names that end in ``_view<k>`` are views of one object. ``classes.json``, if there is one,
    is the list of the classes' folders and names in the order of their labels; otherwise they
    are the folders in natural order.
    """

    name = "state-dicts"
    example = "train/CLASS/0.pth, also .pt or .safetensors; beside train/ val/ and test/"
    output_offset = 0.0
    has_views = True
    classes_name = "classes.json"
    suffixes = (".pth", ".pt", ".safetensors")
    _stem = re.compile(r"(.*?)(?:_view([0-9]{1,4}))?")

    def list_source(self, source: Source) -> Listing:
        splits = [name for name in SPLITS if name in source.folders()]
        present = {name for split in splits for name in source.folders(split)}
        classes = self._read_classes(source) or {
            name: name for name in sorted(present, key=natural_key)
        }
        labels = {folder: label for label, folder in enumerate(classes)}
        bad: list[BadFile] = []
        found: dict[tuple[str, str], FoundObject] = {}
        for split in splits:
            for folder in source.folders(split):
                if folder not in labels:
                    bad.append(BadFile(f"{split}/{folder}", f"not in {self.classes_name}"))
                    continue
                for name in source.files(f"{split}/{folder}"):
                    path = f"{split}/{folder}/{name}"
                    if not name.endswith(self.suffixes):
                        continue
                    stem = name.rsplit(".", 1)[0]
                    match = self._stem.fullmatch(stem)
                    own, view = (match[1], int(match[2] or 0)) if match else (stem, 0)
                    new = FoundObject(split, "", f"{split}/{folder}/{own}", labels[folder])
                    known = found.setdefault((path.rsplit("/", 1)[0], own), new)
                    if view in known.paths:
                        bad.append(BadFile(path, f"view {view} of its object is listed already"))
                    else:
                        known.paths[view] = path
        return finish_listing(
            source, interleave(list(found.values())), tuple(classes.values()), bad
        )

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
