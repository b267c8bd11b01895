"""What a published dataset lists: objects of each split, with the files of their views."""

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch

from lightning_dws.counting import counted
from lightning_dws.errors import DataError
from lightning_dws.inrs.formats.source import BadFile, Source, last_number
from lightning_dws.inrs.signals import SPLITS
from lightning_dws.inrs.signals.splits import stratified_order

_ID_STEP = 60_000  # training images of MNIST and Fashion-MNIST, behind which tests are counted


@dataclass(frozen=True, slots=True)
class ListedObject:
    """An object, and the files of its views.

    Attributes:
        object_id: Unique over all splits.
        label: None where it stands in the files alone.
        paths: One a view, relative to the source folder.
    """

    object_id: int
    label: int | None
    paths: tuple[str, ...]


@dataclass
class Listing:
    """All that a source lists, before any of its INRs is read.

    Attributes:
        objects: Per split, in their order; all of a split have the same number of paths.
        classes: Their names, in the order of the labels.
        bad: What is listed but cannot be imported.
        passed_over: Files of weights that are not listed, as far as they are looked for.
        left_out: What else is there and is not taken, each a line for people.
        notes: What an export needs to give the same names again, as plain data.
    """

    objects: dict[str, list[ListedObject]]
    classes: tuple[str, ...]
    bad: list[BadFile] = field(default_factory=list)
    passed_over: list[str] = field(default_factory=list)
    left_out: tuple[str, ...] = ()
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def num_files(self) -> int:
        return sum(len(listed.paths) for part in self.objects.values() for listed in part)

    @property
    def sha256(self) -> str:
        """Of what is listed, in its order."""
        digest = hashlib.sha256()
        for split in SPLITS:
            for listed in self.objects.get(split, []):
                line = [split, listed.object_id, listed.label, listed.paths]
                digest.update(json.dumps(line).encode())
        return digest.hexdigest()

    def hold_out(self, count: int, read_label: Callable[[ListedObject], int]) -> None:
        """Move so many training objects to an empty validation split, stratified.

        Args:
            count: How many.
            read_label: Gives the label of an object whose name does not.

        Raises:
            DataError: There is a validation split, or too few objects.
        """
        train = self.objects.get("train", [])
        if self.objects.get("val") or count >= len(train):
            raise DataError(
                f"num_val {count}: the source has {counted(len(train), 'training object')}, "
                f"{len(self.objects.get('val', []))} for validation"
            )
        labels = [read_label(one) if one.label is None else one.label for one in train]
        order = stratified_order(torch.tensor(labels), 0)
        chosen = set(order[len(train) - count :].tolist())
        self.objects["val"] = [listed for i, listed in enumerate(train) if i in chosen]
        self.objects["train"] = [listed for i, listed in enumerate(train) if i not in chosen]


@dataclass
class FoundObject:
    """An object of a split while its files are being collected."""

    split: str
    folder: str
    name: str
    label: int | None
    paths: dict[int, str] = field(default_factory=dict)


def complete_views(
    found: Iterable[FoundObject], object_ids: dict[tuple[str, str], int]
) -> tuple[dict[str, list[ListedObject]], list[BadFile]]:
    """Keep the objects that have a file in every view of their split.

    Args:
        found: In their order.
        object_ids: By folder and name.
    """
    found = list(found)
    views: dict[str, int] = {}
    for item in found:
        views[item.split] = max(views.get(item.split, 0), 1 + max(item.paths))
    objects: dict[str, list[ListedObject]] = {}
    bad = []
    for item in found:
        missing = next((v for v in range(views[item.split]) if v not in item.paths), None)
        if missing is not None:
            reason = f"no file of view {missing}, so it is left out of every view"
            bad.append(BadFile(next(iter(item.paths.values())), reason))
            continue
        paths = tuple(item.paths[view] for view in range(views[item.split]))
        object_id = object_ids[item.folder, item.name]
        objects.setdefault(item.split, []).append(ListedObject(object_id, item.label, paths))
    return objects, bad


def number_objects(
    keys: list[tuple[str, str]],
) -> tuple[dict[tuple[str, str], int], dict[str, int]]:
    """Give every (folder, name) an object id: the number in its name, if that can be unique.

    Folders whose numbers overlap (a training and a test set, each counted from 0) are told apart
    by an offset.

    Returns:
        The ids, and each folder's offset; without offsets if the names tell no unique numbers.
    """
    numbers = {key: last_number(key[1]) for key in keys}
    known = [number for number in numbers.values() if number is not None]
    unique_in_folder = len({(key[0], n) for key, n in numbers.items()}) == len(numbers)
    if len(known) < len(numbers) or not unique_in_folder:
        return {key: position for position, key in enumerate(numbers)}, {}
    folders = sorted({folder for folder, _ in keys}, key=lambda name: ("train" not in name, name))
    overlap = len(set(known)) < len(known)
    step = max(_ID_STEP, 1 + max(known, default=0)) if overlap else 0
    offsets = {folder: step * position for position, folder in enumerate(folders)}
    ids = {key: offsets[key[0]] + number for key, number in numbers.items() if number is not None}
    return ids, offsets


def finish_listing(
    source: Source, found: Iterable[FoundObject], classes: tuple[str, ...], bad: list[BadFile]
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
    return Listing(objects, classes, bad + incomplete, passed_over, notes=notes)
