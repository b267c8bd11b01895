"""INRs of whatever a name on the command line leads to, each with the name it is predicted under.

A split of the store that a network was trained on, a store, and files: weights, which are read, or
images, meshes, sounds or arrays, to which INRs are fitted as the network's were.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from lightning_dws import weight_space
from lightning_dws.counting import counted
from lightning_dws.errors import DataError
from lightning_dws.inrs import INRStore, Wanted, prepare_store
from lightning_dws.inrs.preparation.fitting_record import (
    ARRAYS,
    IMAGES,
    MESHES,
    SOUNDS,
    FittingRecord,
)
from lightning_dws.inrs.preparation.skipped import read_report
from lightning_dws.inrs.shapes.mesh_files import is_mesh_name
from lightning_dws.inrs.shapes.unsorted_meshes import UnsortedMeshes
from lightning_dws.inrs.signals import SPLITS
from lightning_dws.inrs.signals.arrays.array_files import is_array_name
from lightning_dws.inrs.signals.class_table import ClassTable
from lightning_dws.inrs.signals.file_listing import normalised
from lightning_dws.inrs.signals.image_files import is_image_name
from lightning_dws.inrs.signals.unsorted_files import UnsortedSignals, find_files
from lightning_dws.inrs.sounds.wav_files import is_wav_name
from lightning_dws.inrs.store import is_address
from lightning_dws.inrs.store.shards import INDEX_NAME
from lightning_dws.inrs.store.verification import describe_low
from lightning_dws.prediction.weight_files import WEIGHT_SUFFIXES, read_weights
from lightning_dws.weight_space import (
    Architecture,
    INRArchitecture,
    WeightBatch,
    require_inrs,
)

_SHARDS = "*-view[0-9]*-[0-9]*-[0-9]*.safetensors"
_FEW = 0.05  # of the INRs may be fitted badly without a word
STORES_FOLDER = "inrs"  # of the stores of folders, under the folder of all stores


@dataclass(frozen=True)
class Inputs:
    """INRs that are to be classified.

    Attributes:
        names: Of each: its file's, or its split and object's.
        batch: B INRs.
        psnr: (B,) dB; None where it is not known.
        labels: The name of each one's class, None where it is not known.
        notes: What is worth telling, a line each.
    """

    names: Sequence[str]
    batch: WeightBatch
    psnr: Tensor | None
    labels: Sequence[str | None]
    notes: list[str] = field(default_factory=list)

    @classmethod
    def unnamed(cls, batch: WeightBatch, psnr: Tensor | None = None) -> "Inputs":
        """Take INRs that are known by their position alone."""
        names = [str(number) for number in range(len(batch))]
        return cls(names, batch, psnr, [None] * len(batch))


@dataclass(frozen=True)
class Reader:
    """Reads INRs for a trained network.

    Attributes:
        architecture: Of the INRs that the network reads.
        classes: Of the network.
        find_record: Tells how the network's own INRs were made, or raises ``DataError``.
        root: Folder of all stores.
        device: Where INRs are fitted.
        w0: Frequency of state dicts, or one for each hidden layer. Default: the network's.
        show_progress: Whether to show how far fitting has come.
        class_table: The classes of files, to compare with. Default: folders that are called so.
    """

    architecture: Architecture
    classes: tuple[str, ...]
    find_record: Callable[[], FittingRecord]
    root: Path
    device: torch.device
    w0: Sequence[float] | None = None
    show_progress: bool = True
    class_table: ClassTable | None = None

    @cached_property
    def _kind(self) -> str:
        """What the network's INRs encode; where that is not known, what such mostly do."""
        guessed = {1: SOUNDS, 3: MESHES}.get(self._inrs.in_features, IMAGES)
        with suppress(DataError):  # told where files are to be fitted
            record = self.find_record()
            if record.kind in _IS_KIND:
                return record.kind
            return ARRAYS if record.header.convention.is_volume else guessed
        return guessed

    @property
    def _inrs(self) -> INRArchitecture:
        return require_inrs(self.architecture, "files, where no store is given")

    def read(self, data: str | Path) -> Inputs:
        """Read, or fit, the INRs of a split, a store, a folder or a file.

        Raises:
            DataError: There is nothing that the network could classify; the message says why.
        """
        place = Path(data)
        if self.class_table is not None and not self._are_files(data):
            raise DataError(
                f"{self.class_table.path}: classes of files, whereas {data} has its own"
            )
        if str(data) in SPLITS and not place.exists():
            return self._read_split(str(data))
        if self._is_store(data):
            store = INRStore(data)  # which says so where it is unfinished
            return self._read_store(store, store.splits)
        return self._read_files(place)

    def _read_split(self, split: str) -> Inputs:
        store = self.find_record().store
        if store is None:
            raise DataError("the checkpoint does not say which store it was trained on; name one")
        if is_address(store):
            return self._read_store(INRStore(store), (split,))
        recorded = Path(store)
        places = [recorded, self.root / recorded.name]
        found = next((place for place in places if (place / INDEX_NAME).exists()), None)
        if found is None:
            raise DataError(
                f"{' and '.join(map(str, dict.fromkeys(places)))}: the store that the network was "
                "trained on is not there; give the folder that stores live in as --root, or leave "
                "--data out, which fits it again"
            )
        return self._read_store(INRStore(found), (split,))

    def _read_store(self, store: INRStore, splits: Sequence[str]) -> Inputs:
        batches, psnr, names, labels = [], [], [], []
        known = store.classes == self.classes
        for split in splits:
            batch = store.split(split)
            batches.append(batch)
            psnr.append(store.psnr(split))
            several = store.num_views(split) > 1
            for object_id, view in zip(batch.object_id.tolist(), batch.view.tolist(), strict=True):
                names.append(f"{split}/{object_id}" + (f"/view {view}" if several else ""))
            labels += [self.classes[label] if known else None for label in batch.label.tolist()]
        notes = []
        if store.classes and not known:
            notes.append(
                f"{store.directory}: has other classes than the network ("
                f"{', '.join(store.classes[:3])}, ...): its labels are not compared"
            )
        values = torch.cat(psnr)
        known_psnr = None if values.isnan().all() else values
        return Inputs(names, weight_space.cat(batches), known_psnr, labels, notes)

    def _read_files(self, place: Path) -> Inputs:
        """Find out which files are meant: weights, or what the network's INRs encode."""
        weights = find_files(place, _is_weights)
        signals = find_files(place, self._is_signal)
        if weights and signals:
            raise DataError(
                f"{place}: holds {counted(len(weights), 'file')} of weights (such as "
                f"{weights[0].name}) and {_counted(len(signals), self._kind)} (such as "
                f"{signals[0].name}); which are meant?"
            )
        if weights:
            return self._read_weights(place, weights)
        if not signals:
            raise self._nothing_found(place)
        return self._fit(place, signals)

    def _is_signal(self, name: str) -> bool:
        return _IS_KIND[self._kind](name)

    def _nothing_found(self, place: Path) -> DataError:
        others = find_files(place, lambda name: True)
        kinds = [_kind_of(path.name) for path in others]
        counts = {kind: kinds.count(kind) for kind in _IS_KIND if kind in kinds}
        found = "no file"
        if others:
            found = f"{counted(len(others), 'other file')}, such as {others[0].name}"
        if counts:
            found = ", ".join(_counted(count, kind) for kind, count in counts.items())
        return DataError(
            f"{place}: found {found}; expected {self._kind}, state dicts "
            f"({', '.join(WEIGHT_SUFFIXES)}) or a store"
        )

    def _read_weights(self, place: Path, paths: Sequence[Path]) -> Inputs:
        found = read_weights(place, paths, self._inrs, self.w0)
        names = [name for name, _ in found.labels]
        labels = [
            self.classes[label] if label is not None and 0 <= label < len(self.classes) else None
            for _, label in found.labels
        ]
        known, notes = self._labels_of(names)
        labels = [own or label for own, label in zip(labels, known, strict=True)]
        return Inputs(names, found.batch, None, labels, [*found.notes, *notes])

    def _labels_of(self, names: Sequence[str]) -> tuple[list[str | None], list[str]]:
        """Give the classes of files that the network knows, and what is worth telling.

        They are those of the table, else those whose names the files' folders have.
        """
        if self.class_table is None:
            folders = [normalised(Path(name).parent.name) for name in names]
            return [folder if folder in self.classes else None for folder in folders], []
        rows = self.class_table.match(names)
        found = [rows[name].class_name if name in rows else "" for name in names]
        notes = []
        if missing := [name for name in names if name not in rows]:
            notes.append(
                f"{self.class_table.path}: names {len(missing)} of {counted(len(names), 'file')} "
                f"not, such as {missing[0]}"
            )
        if unknown := sorted(set(found) - {"", *self.classes}):
            notes.append(
                f"{self.class_table.path}: class {unknown[0]!r}, which the network does not know, "
                "is not compared"
            )
        return [name if name in self.classes else None for name in found], notes

    def _are_files(self, data: str | Path) -> bool:
        if str(data) in SPLITS and not Path(data).exists():
            return False
        return not self._is_store(data)

    @staticmethod
    def _is_store(data: str | Path) -> bool:
        place = Path(data)
        return is_address(data) or (place / INDEX_NAME).exists() or any(place.glob(_SHARDS))

    def _fit(self, place: Path, paths: Sequence[Path]) -> Inputs:
        """Fit INRs to files, as far as a store of them is not there yet."""
        record = self.find_record()
        spec = record.spec(place, paths)
        signals = spec.signals
        assert isinstance(signals, (UnsortedSignals, UnsortedMeshes))
        directory = self.root / STORES_FOLDER / spec.store_name
        told = read_report(directory)
        store = prepare_store(
            directory,
            spec,
            Wanted({"test": None}, {}),
            device=self.device,
            show_progress=self.show_progress,
        )
        batch, psnr = store.split("test"), store.psnr("test")
        rows = {index: row for row, index in enumerate(batch.object_id.tolist())}
        chosen = {name: rows[index] for name, index in signals.files.ids.items() if index in rows}
        order = torch.tensor(list(chosen.values()))
        skipped = signals.skipped({"test": None})
        notes = [f"skipped: {name}: {skipped[name]}" for name in skipped if name in told]
        notes += signals.describe_changes() if isinstance(signals, UnsortedSignals) else []
        notes += [*describe_low(store), *_compare(psnr, record.lowest_psnr)]
        if record.preparation and record.preparation.get("assumed"):
            hint = f"; {record.how_to_tell}" if record.kind == MESHES else ""
            notes.append(
                f"{record.store}: does not say how its {record.kind} were prepared; they are taken "
                f"for some of the default{hint}"
            )
        labels, about_labels = self._labels_of(list(chosen))
        notes += about_labels
        return Inputs(list(chosen), batch[order], psnr[order], labels, notes)


def _compare(psnr: Tensor, lowest: float | None) -> list[str]:
    """Tell if INRs are fitted worse than those that the network knows."""
    low = int((psnr < lowest).sum()) if lowest is not None else 0
    if low <= _FEW * len(psnr):
        return []
    inrs = counted(len(psnr), "INR")
    return [
        f"{counted(low, f'of {inrs} is', f'of {inrs} are')} fitted worse than 99 % of those that "
        f"were trained on ({lowest:.1f} dB): they encode something else, and predictions may mean "
        "little"
    ]


def _is_weights(name: str) -> bool:
    return name.lower().endswith(WEIGHT_SUFFIXES)


_IS_KIND = {
    MESHES: is_mesh_name,
    IMAGES: is_image_name,
    SOUNDS: is_wav_name,
    ARRAYS: is_array_name,
}


def _counted(number: int, kind: str) -> str:
    """Write so many files of a kind: ``1 mesh``, ``2 images``."""
    return counted(number, "mesh" if kind == MESHES else kind.removesuffix("s"), kind)


def _kind_of(name: str) -> str | None:
    """Tell what a file holds by its name; a TIFF file counts as an image."""
    return next((kind for kind, has in _IS_KIND.items() if has(name)), None)
