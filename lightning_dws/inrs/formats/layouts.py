"""The published layouts: where each keeps its INRs, and how it names them."""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import torch

from lightning_dws.errors import DataError
from lightning_dws.inrs.cifar import CIFAR10
from lightning_dws.inrs.convention import DEFAULT, ImageConvention
from lightning_dws.inrs.formats.layers import SourceLayer, find_layers
from lightning_dws.inrs.formats.listing import (
    FoundObject,
    Listing,
    complete_views,
    number_objects,
)
from lightning_dws.inrs.formats.source import BadFile, Source, natural_key
from lightning_dws.inrs.formats.split_files import SplitPath, read_splits
from lightning_dws.inrs.formats.state_files import parse_state_dict
from lightning_dws.inrs.images import FashionMNIST
from lightning_dws.inrs.store import INRStore

DIGITS = tuple("0123456789")


@dataclass(frozen=True)
class FoundINR:
    """What a file holds.

    Attributes:
        layers: In the order in which they are applied.
        label: None where the file does not tell.
        frequencies: Numbers in the file that are named as frequencies are.
        is_reordered: Whether its entries are in another order than its layers' numbers.
    """

    layers: tuple[SourceLayer, ...]
    label: int | None
    frequencies: Mapping[str, float] = field(default_factory=dict)
    is_reordered: bool = False

    @property
    def widths(self) -> tuple[int, ...]:
        return (self.layers[0].weight.shape[1], *(len(layer.bias) for layer in self.layers))


@dataclass(frozen=True)
class INRName:
    """Where an INR stands in its store.

    Attributes:
        split: Of the store.
        position: In its split's order.
        object_id: Of its object.
        label: Its class.
        view: Which neural view.
    """

    split: str
    position: int
    object_id: int
    label: int
    view: int


class Layout(ABC):
    """A published layout, for import.

    Attributes:
        name: On the command line.
        example: What its folder holds, for whoever has another one.
        w0: Frequency of its SIRENs.
        output_offset: What its INRs add to their last layer.
        convention: How its images were given to the INRs.
    """

    name: str
    example: str
    w0 = 30.0
    output_offset = 0.5
    convention: ImageConvention = DEFAULT

    @abstractmethod
    def list_source(self, source: Source) -> Listing:
        """List the objects of a folder."""

    def read(self, source: Source, path: str) -> FoundINR:
        """Read one file.

        Raises:
            DataError: It is damaged, or holds something else.
        """
        content = source.read_bytes(path)
        state = parse_state_dict(content, path.endswith(".safetensors"))
        layers, is_reordered = find_layers(state.tensors, state.is_ordered)
        return FoundINR(layers, state.label, state.frequencies, is_reordered)


class WritableLayout(Layout):
    """A published layout, for export as well.

    Attributes:
        label_inside: Whether the label is an entry of each file.
        has_views: Whether there is room for several views.
    """

    label_inside = False
    has_views = False

    def layer_names(self, num_layers: int) -> list[str]:
        """Name the layers, as the files' keys do."""
        return [f"seq.{layer}" for layer in range(num_layers)]

    def check_store(self, store: INRStore) -> None:
        """Refuse a store for which the layout has no room."""
        views = max(store.num_views(split) for split in store.splits)
        if views > 1 and not self.has_views:
            raise DataError(
                f"{store.directory}: {views} views, {self.name} has room for one; "
                "multiview, nfn and state-dicts have room for several"
            )

    @abstractmethod
    def paths(self, store: INRStore) -> "PathNamer":
        """Decide how a store's files will be named."""


class PathNamer(ABC):
    """Name the files of an export; most layouts name them by object id.

    Args:
        store: What is exported.
        layout: Only the offsets that an import into this layout's store added are taken off.
    """

    def __init__(self, store: INRStore, layout: WritableLayout) -> None:
        notes = store.header.recipe
        own = notes.get("imported") == layout.name
        offsets = notes.get("id_offsets") if own else None
        self.offsets: dict[str, Any] = offsets if isinstance(offsets, dict) else {}
        self.store = store

    def number(self, name: INRName, folder: str) -> int:
        """Give the number that tells an object from the others of its folder."""
        offset = self.offsets.get(folder, 0)
        return name.object_id - (offset if isinstance(offset, int) else 0)

    @abstractmethod
    def path(self, name: INRName) -> str:
        """Name an INR's file, relative to the exported folder."""

    def folder_files(self, root: str, names: list[tuple[INRName, str]]) -> dict[str, Any]:
        """Give the json files of the folder, by name; ``names`` are all INRs with their paths."""
        return {}


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
        views = self.store.header.recipe.get("views")
        own = self.store.header.recipe.get("imported") == Multiview.name
        known = own and isinstance(views, list) and name.view < len(views)
        view = str(views[name.view]) if known and views else f"view_{name.view}"
        return f"{view}/{super().path(name)}"


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


_NFN_SPLITS = {"train": (0, 45_000), "val": (45_000, 50_000), "test": (50_000, 2**40)}


class _NFNNamer(PathNamer):
    """Number by object id where that says the split, else by the position in each split."""

    def __init__(self, store: INRStore, layout: WritableLayout) -> None:
        super().__init__(store, layout)
        self._by_id = all(self._ids_tell(split) for split in store.splits)
        if not self._by_id:
            for split in store.splits:
                start, stop = _NFN_SPLITS[split]
                if store.num_objects(split) > stop - start:
                    raise DataError(
                        f"{store.directory}: {store.num_objects(split)} objects in split "
                        f"{split!r}, nfn has room for {stop - start}"
                    )

    def _ids_tell(self, split: str) -> bool:
        start, stop = _NFN_SPLITS[split]
        last = start - 1
        for batch, _ in self.store.parts(split, views=1):
            ids = torch.cat([torch.tensor([last]), batch.object_id])
            last = int(ids[-1])
            # in another order than by id, an import would not give the same order again
            if last >= stop or (ids[1:] <= ids[:-1]).any():
                return False
        return True

    def path(self, name: INRName) -> str:
        views = self.store.header.recipe.get("views")
        own = self.store.header.recipe.get("imported") == NFN.name
        known = own and isinstance(views, list) and name.view < len(views)
        view = views[name.view] if known and views else (f"aug{name.view - 1}" if name.view else "")
        index = name.object_id if self._by_id else _NFN_SPLITS[name.split][0] + name.position
        prefix = f"randinit_smaller_{view}_" if view else "randinit_smaller_"
        return f"{prefix}{name.label}s/net{index}.pth"


class NFN(WritableLayout):
    """``randinit_smaller_<label>s/net<idx>.pth``, views in ``randinit_smaller_aug<i>_<label>s``.

    The first 45,000 indices are for training, the next 5,000 for validation, the rest for test.
    """

    name = "nfn"
    example = "randinit_smaller_5s/net0.pth (the label and the number)"
    output_offset = 0.0
    convention = ImageConvention("ij", (-1.0, 1.0))
    has_views = True
    _folder = re.compile(r"randinit_smaller_(?:aug([0-9]{1,6})_)?([0-9]{1,6})s")
    _file = re.compile(r"net([0-9]{1,12})\.pth")

    def list_source(self, source: Source) -> Listing:
        folders = [m for m in map(self._folder.fullmatch, source.folders()) if m]
        augmented = sorted({int(m[1]) for m in folders if m[1] is not None})
        numbers: list[int | None] = [None, *augmented]
        found: dict[int, FoundObject] = {}
        bad: list[BadFile] = []
        for folder in folders:
            view = numbers.index(None if folder[1] is None else int(folder[1]))
            for name in source.files(folder[0]):
                match = self._file.fullmatch(name)
                path = f"{folder[0]}/{name}"
                if match is None:
                    continue
                index, label = int(match[1]), int(folder[2])
                new = FoundObject(_nfn_split(index), "", f"net{index}", label)
                known = found.setdefault(index, new)
                if known.label != label or view in known.paths:
                    bad.append(BadFile(path, f"object {index} has another label or file as well"))
                else:
                    known.paths[view] = path
        ordered = [found[index] for index in sorted(found)]
        listing = finish_listing(source, ordered, _nfn_classes(source.name), bad)
        listing.notes["views"] = ["", *(f"aug{number}" for number in augmented)]
        return listing

    def layer_names(self, num_layers: int) -> list[str]:
        hidden = [f"net.{layer}.linear" for layer in range(num_layers - 1)]
        return [*hidden, f"net.{num_layers - 1}"]

    def paths(self, store: INRStore) -> PathNamer:
        return _NFNNamer(store, self)


def _nfn_split(index: int) -> str:
    return next(split for split, (_, stop) in _NFN_SPLITS.items() if index < stop)


def _nfn_classes(folder: str) -> tuple[str, ...]:
    if "fashion" in folder:
        return FashionMNIST.classes
    return CIFAR10.classes if "cifar" in folder else DIGITS


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


def finish_listing(
    source: Source,
    found: Iterable[FoundObject],
    classes: tuple[str, ...],
    bad: list[BadFile],
) -> Listing:
    """Number the objects that were found, and leave out those without a file in every view."""
    found = list(found)
    listed = {path for item in found for path in item.paths.values()}
    told = listed.union(item.path for item in bad)
    # as deep as those that are listed: statistics and the like lie elsewhere
    present = source.weight_files({path.count("/") for path in listed})
    passed_over = [path for path in present if path not in told]
    ids, offsets = number_objects([(item.folder, item.name) for item in found])
    objects, incomplete = complete_views(found, ids)
    notes = {"id_offsets": offsets} if any(offsets.values()) else {}
    return Listing(objects, classes, bad + incomplete, passed_over, notes)
