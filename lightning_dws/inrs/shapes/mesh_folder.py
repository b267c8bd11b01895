"""A folder of meshes by class."""

import sys
from collections.abc import Collection, Mapping
from functools import cached_property
from pathlib import Path

from lightning_dws.errors import DataError
from lightning_dws.files import json_sha256
from lightning_dws.inrs.shapes.base import ShapeSignals
from lightning_dws.inrs.shapes.mesh_files import READING_VERSION, is_mesh_name
from lightning_dws.inrs.shapes.mesh_listing import list_meshes
from lightning_dws.inrs.shapes.meshes import Mesh, clean, orient, read_mesh
from lightning_dws.inrs.shapes.samples import Sampling
from lightning_dws.inrs.signals import SPLITS, SplitOrder
from lightning_dws.inrs.signals.class_folders import FileKind
from lightning_dws.inrs.signals.class_table import list_by_table
from lightning_dws.inrs.signals.file_listing import (
    POOL,
    FileListing,
    check_folder_options,
    name_dataset,
)
from lightning_dws.inrs.signals.splits import cut_stratified

_MESHES = FileKind("mesh", is_mesh_name)


class MeshFolder(ShapeSignals):
    """Meshes in ``root/CLASS/{train,test[,val|valid]}/*`` (as ModelNet's) or ``root/CLASS/*``.

    Without folders of splits, the meshes are one pool, split by a stratified seeded order. With
    them, the splits are as given; validation is cut from training where it is not given. Classes
    are sorted by name, files by class and name; a file's place in that order (training before
    validation before test where they are given) is its object id.

    OFF, OBJ, PLY, STL, GLB and glTF files count, by their extension. Polygons of any size and
    shape are cut into triangles, all parts of a file are one mesh, equal vertices are merged,
    triangles without area and repeated ones dropped, and surfaces that are inside out turned: see
    ``clean`` and ``orient``. What cannot be used (unreadable, empty, not finite, degenerate,
    enclosing nothing) is skipped and told; so are files and folders that the layout does not have.

    Args:
        root: The folder. Links that leave it are refused.
        val_share: As in ``ImageFolder``.
        test_share: Likewise.
        name: Likewise; behind it comes also how meshes are read.
        sampling: As in ``ShapeSignals``.
        cache: Likewise.
        num_processes: Likewise.
        labels: As in ``ImageFolder``.

    Raises:
        ValueError: An argument out of its range.
        DataError: Not from the constructor, but once data is asked for: the folder has another
            layout.
    """

    def __init__(
        self,
        root: str,
        val_share: float = 0.1,
        test_share: float = 0.1,
        name: str | None = None,
        sampling: Sampling | None = None,
        cache: str | None = None,
        num_processes: int | None = None,
        labels: str | None = None,
    ) -> None:
        super().__init__(sampling, cache, num_processes)
        check_folder_options(val_share, test_share, name)
        self.root: str | None = root
        self.val_share = val_share
        self.test_share = test_share
        self.labels = labels
        self._readable_name = name

    def find_folder(self) -> Path:
        """Give the folder with the meshes."""
        assert self.root is not None
        return Path(self.root)

    @cached_property
    def name(self) -> str:  # type: ignore[override]
        identity = self._identify(self._listing.fingerprint)
        return name_dataset(self._readable_name, self._listing.root, "meshes", identity)

    def identity_without(self, names: Collection[str]) -> str:
        return self._identify(self._listing.fingerprint_without(names))

    def _identify(self, files: str) -> str:
        parts = self._listing.parts
        options = {
            "sampling": self.sampling.fingerprint,
            "val_share": None if "val" in parts else self.val_share,
            "test_share": self.test_share if POOL in parts else None,
            "reading": READING_VERSION,
        }
        return json_sha256([files, options])

    @cached_property
    def classes(self) -> tuple[str, ...]:  # type: ignore[override]
        return self._listing.classes

    def candidates(self, split: str) -> SplitOrder:
        return self._candidates[split]

    def prepare(self, num_objects: Mapping[str, int | None], show_progress: bool) -> None:
        for line in self._listing.left_out:
            sys.stderr.write(f"left out of {self._listing.root}: {line}\n")
        super().prepare(num_objects, show_progress)

    def load_mesh(self, object_id: int) -> Mesh:
        return orient(clean(read_mesh(self._listing.paths[object_id])))

    def describe(self, object_id: int) -> str:
        return self._listing.describe(object_id)

    @cached_property
    def _listing(self) -> FileListing:
        if self.labels is not None:
            return list_by_table(self.find_folder(), _MESHES, self.labels)
        return list_meshes(self.find_folder())

    @cached_property
    def _candidates(self) -> dict[str, SplitOrder]:
        splits: dict[str, SplitOrder] = {}
        for first, label, sizes in self._listing.cut(self.val_share, self.test_share, least=0):
            empty = [split for split, size in sizes.items() if size < 1]
            if empty:
                raise DataError(
                    f"{self._listing.root}: {_MESHES.count(len(label))}, too few: no {empty[0]} "
                    "split"
                )
            splits |= cut_stratified(label, first, sizes)
        return {name: splits[name] for name in SPLITS}
