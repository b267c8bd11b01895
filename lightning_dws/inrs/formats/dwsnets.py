"""The datasets of DWSNets: MNIST, Fashion-MNIST, and Fashion-MNIST in several views."""

import re
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any

from lightning_dws.inrs.formats.layouts import DIGITS, INRName, PathNamer, WritableLayout
from lightning_dws.inrs.formats.listing import FoundObject, Listing, finish_listing
from lightning_dws.inrs.formats.source import BadFile, Source, natural_key
from lightning_dws.inrs.formats.split_files import SplitPath, read_splits
from lightning_dws.inrs.signals import FashionMNIST
from lightning_dws.inrs.store import INRStore


def _folder_of(split: str) -> str:
    """Published datasets cut the validation split out of their training folder."""
    return "test" if split == "test" else "train"


class _MNISTNamer(PathNamer):
    def path(self, name: INRName) -> str:
        word = {"train": "training", "test": "testing"}[_folder_of(name.split)]
        number = self.number(name, word)
        return f"mnist_png_{word}_{name.label}_{number}/checkpoints/model_final.pth"

    def folder_files(self, root: str, names: list[tuple[INRName, str]]) -> dict[str, Any]:
        content: dict[str, dict[str, list[str]]] = {}
        for name, path in names:
            columns = content.setdefault(name.split, {"path": [], "label": []})
            columns["path"].append(f"{root}/{path}")
            columns["label"].append(str(name.label))
        return {DWSNetsMNIST.splits_name: content}


class DWSNetsMNIST(WritableLayout):
    """``mnist_png_<word>_<label>_<id>/checkpoints/model_final.pth``.

    The split is the word, unless there is the list that the authors' code makes of the folders to
    cut a validation split out of the training set.
    """

    name = "dwsnets-mnist"
    example = (
        "mnist_png_training_5_0/checkpoints/model_final.pth (the split, the label and the number)"
    )
    splits_name = "mnist_splits.json"
    _folder = re.compile(r"mnist_png_([A-Za-z]+)_([0-9]{1,9})_([0-9]{1,12})")

    def list_source(self, source: Source) -> Listing:
        bad: list[BadFile] = []
        items: list[tuple[str | None, str, int | None]]
        if source.has(self.splits_name):
            listed, bad = read_splits(source, self.splits_name, self.example)
            items = [(item.split, item.path, item.label) for item in listed]
        else:
            folders = (name for name in source.folders() if name.startswith("mnist_png_"))
            items = [(None, f"{name}/checkpoints/model_final.pth", None) for name in folders]
        found: dict[str, FoundObject] = {}
        for split, path, label in items:
            match = self._folder.fullmatch(PurePosixPath(path).parts[0])
            word = match[1] if match else ""
            named = "train" if "train" in word else "val" if "val" in word else "test"
            if match is None or (split is None and named == "test" and "test" not in word):
                bad.append(BadFile(path, "its folder is not mnist_png_<train|test>_<label>_<id>"))
            elif label not in (None, int(match[2])):
                bad.append(BadFile(path, f"label {label} in the list, {match[2]} in its name"))
            elif path in found:
                bad.append(BadFile(path, "listed twice"))
            else:
                name = PurePosixPath(path).parts[0]
                found[path] = FoundObject(split or named, word, name, int(match[2]), {0: path})
        return finish_listing(source, found.values(), DIGITS, bad)

    def paths(self, store: INRStore) -> PathNamer:
        return _MNISTNamer(store, self)


class _SplitsNamer(PathNamer):
    def folder_files(self, root: str, names: list[tuple[INRName, str]]) -> dict[str, Any]:
        content: dict[str, list[str]] = {split: [] for split in self.store.splits}
        for name, path in names:
            content[name.split].append(f"{root}/{path}")
        return {"splits.json": content}


class _FMNISTNamer(_SplitsNamer):
    def path(self, name: INRName) -> str:
        folder = _folder_of(name.split)
        return f"{folder}/model_{self.number(name, folder)}.pth"


class DWSNetsFMNIST(WritableLayout):
    """``{train,test}/model_<id>.pth``, listed in ``splits.json``, with the label inside."""

    name = "dwsnets-fmnist"
    example = (
        'train/model_0.pth, and splits.json that lists it: {"train": ["NAME/train/model_0.pth"]}'
    )
    label_inside = True

    def list_source(self, source: Source) -> Listing:
        listed, bad = read_splits(source, "splits.json", self.example)
        return _list_by_path(source, listed, bad, lambda item: "", self)

    def paths(self, store: INRStore) -> PathNamer:
        return _FMNISTNamer(store, self)


class _MultiviewNamer(_FMNISTNamer):
    def path(self, name: INRName) -> str:
        return f"{self.view_name(name.view, f'view_{name.view}')}/{super().path(name)}"


class Multiview(WritableLayout):
    """``<view>/{train,test}/model_<id>.pth``, listed in ``splits.json``, with the label inside.

    The third last component of a path names the view.
    """

    name = "multiview"
    example = (
        "VIEW/train/model_0.pth, and splits.json that lists it: "
        '{"train": ["NAME/VIEW/train/model_0.pth"]}'
    )
    label_inside = True
    has_views = True

    def list_source(self, source: Source) -> Listing:
        listed, bad = read_splits(source, "splits.json", self.example)
        short = [item for item in listed if len(item.parts) < 3]
        bad += [BadFile(item.path, "its path names no view") for item in short]
        listed = [item for item in listed if len(item.parts) >= 3]
        return _list_by_path(source, listed, bad, lambda item: item.parts[-3], self)

    def paths(self, store: INRStore) -> PathNamer:
        return _MultiviewNamer(store, self)


def _list_by_path(
    source: Source,
    listed: list[SplitPath],
    bad: list[BadFile],
    view_of: Callable[[SplitPath], str],
    layout: WritableLayout,
) -> Listing:
    """Collect files that ``splits.json`` lists: same folder and name, same object."""
    views = sorted({view_of(item) for item in listed}, key=natural_key)
    number = {name: position for position, name in enumerate(views)}
    found: dict[tuple[str, str], FoundObject] = {}
    for item in listed:
        folder, name = (item.parts[-2] if len(item.parts) > 1 else ""), item.parts[-1]
        new = FoundObject(item.split, folder, name, item.label)
        known = found.setdefault((folder, name), new)
        view = number[view_of(item)]
        if known.split != item.split or view in known.paths or known.label != item.label:
            bad.append(BadFile(item.path, "listed twice, or with several splits or labels"))
        else:
            known.paths[view] = item.path
    listing = finish_listing(source, found.values(), FashionMNIST.classes, bad)
    if layout.has_views:
        listing.notes["views"] = views
    return listing
