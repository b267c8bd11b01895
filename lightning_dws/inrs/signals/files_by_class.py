"""What signals of files in folders by class share: names, ids, splits, and damaged ones."""

import sys
from abc import abstractmethod
from collections.abc import Collection, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from lightning_dws.errors import DataError
from lightning_dws.files import json_sha256
from lightning_dws.inrs.signals.base import SignalDataset
from lightning_dws.inrs.signals.class_folders import FileKind
from lightning_dws.inrs.signals.class_table import list_files
from lightning_dws.inrs.signals.file_listing import FileListing, check_folder_options, name_dataset
from lightning_dws.inrs.signals.kept_signals import KeptSignals
from lightning_dws.inrs.signals.splits import SPLITS, SplitOrder, cut_stratified
from lightning_dws.inrs.signals.usable import UsableObjects, examine_files


class FilesByClass(SignalDataset):
    """Files in ``root/CLASS/*``, or in ``root/{train,test[,val|valid]}/CLASS/*``; one is an object.

    Or files anywhere in ``root``, and a table of their classes.

    A subclass reads one file, and says what its options are.

    Args:
        root: The folder. Links that leave it are refused.
        val_share: Share for validation: of the pool, or of training where validation is not given.
        test_share: Share of the pool for test; of no effect where splits are given.
        name: The readable part of the dataset's name; default: the folder's.
        labels: A CSV that says of which class each file is, where folders do not.
    """

    kind: ClassVar[FileKind]

    def __init__(
        self,
        root: str,
        val_share: float = 0.1,
        test_share: float = 0.1,
        name: str | None = None,
        labels: str | None = None,
    ) -> None:
        check_folder_options(val_share, test_share, name)
        self.root = Path(root)
        self.val_share = val_share
        self.test_share = test_share
        self.labels = labels
        self._readable_name = name

    @property
    @abstractmethod
    def _options(self) -> dict[str, Any]:
        """What of the options makes other signals of the same files."""

    @abstractmethod
    def _read_file(self, path: Path) -> Tensor:
        """Read a file's signal, as it is kept.

        Raises:
            DataError: It cannot be read.
        """

    # The base class declares attributes; here they are known once the folder was listed.
    @cached_property
    def name(self) -> str:  # type: ignore[override]
        identity = self._identify(self._listing.fingerprint)
        return name_dataset(self._readable_name, self.root, f"{self.kind.name}s", identity)

    def identity_without(self, names: Collection[str]) -> str:
        return self._identify(self._listing.fingerprint_without(names))

    def _identify(self, files: str) -> str:
        shares = {
            "val_share": None if "val" in self._listing.parts else self.val_share,
            "test_share": None if self._listing.has_splits else self.test_share,
        }
        return json_sha256([files, {**self._options, **shares}])

    @cached_property
    def classes(self) -> tuple[str, ...]:  # type: ignore[override]
        return self._listing.classes

    @cached_property
    def usable(self) -> UsableObjects:
        return UsableObjects(self._splits.__getitem__, self._examine, self._listing.describe)

    def _examine(self, object_ids: list[int], show_progress: bool) -> dict[int, str | None]:
        """Read files; give the reason why one cannot be, or None, by object id."""
        return examine_files(object_ids, self._read, self._listing.paths)

    def prepare(self, num_objects: Mapping[str, int | None], show_progress: bool) -> None:
        for line in self._listing.left_out:
            sys.stderr.write(f"left out of {self.root}: {line}\n")
        super().prepare(num_objects, show_progress)

    def split(self, name: str) -> SplitOrder:
        return self.usable.first(name, None)

    def _read(self, object_id: int) -> Tensor:
        return self._signals(object_id)

    @cached_property
    def _signals(self) -> KeptSignals:
        return KeptSignals(self._read_anew)

    def _read_anew(self, object_id: int) -> Tensor:
        return self._read_file(self._listing.paths[object_id])

    @cached_property
    def _listing(self) -> FileListing:
        return list_files(self.root, self.kind, self.labels)

    @cached_property
    def _splits(self) -> dict[str, SplitOrder]:
        return cut_listing(self._listing, self.kind, self.val_share, self.test_share)


def cut_listing(
    listing: FileListing, kind: FileKind, val_share: float, test_share: float
) -> dict[str, SplitOrder]:
    """Share the files of a folder out, stratified, where its splits are not given.

    Args:
        listing: The files.
        kind: Of the files.
        val_share: For validation: of the pool, or of training where validation is not given.
        test_share: Of the pool, for test.

    Returns:
        Per split the positions of its files in the listing, and their labels.

    Raises:
        DataError: A split that files are cut into lacks a class.
    """
    splits: dict[str, SplitOrder] = {}
    for first, label, sizes in listing.cut(val_share, test_share, least=1):
        part = cut_stratified(label, first, sizes) if min(sizes.values()) > 0 else {}
        for name in sizes if len(sizes) > 1 else ():
            found = part[name].label if part else label[:0]
            missing = torch.bincount(found, minlength=len(listing.classes)) == 0
            for index in missing.nonzero().flatten().tolist():
                raise DataError(
                    f"{listing.root}: class {listing.classes[index]!r} has "
                    f"{kind.count(int((label == index).sum()))}, too few: its part of split "
                    f"{name!r} is empty (val_share {val_share:g}, test_share {test_share:g})"
                )
        splits |= part
    return {name: splits[name] for name in SPLITS}
