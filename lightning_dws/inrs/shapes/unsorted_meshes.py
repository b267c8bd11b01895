"""Meshes that nobody sorted by class, sampled as those that a network was trained on."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path

from lightning_dws.inrs.shapes.base import ShapeSignals
from lightning_dws.inrs.shapes.cache import SampleCache
from lightning_dws.inrs.shapes.mesh_files import READING_VERSION
from lightning_dws.inrs.shapes.meshes import Mesh, clean, orient, read_mesh
from lightning_dws.inrs.shapes.samples import Sampling
from lightning_dws.inrs.signals import SplitOrder
from lightning_dws.inrs.signals.file_listing import name_dataset
from lightning_dws.inrs.signals.unsorted_files import BY_CONTENT, UnsortedFiles


class UnsortedMeshes(ShapeSignals):
    """Mesh files without classes, all of them in the split ``test``, read as a ``MeshFolder``'s.

    Args:
        root: What the files' names are relative to; it names the dataset.
        paths: The files.
        sampling: As in ``ShapeSignals``.
        cache: Likewise; samples of equal files are shared by all datasets of such files.
        num_processes: Likewise.
    """

    is_named_by_content = True

    def __init__(
        self,
        root: str | Path,
        paths: Sequence[Path],
        sampling: Sampling | None = None,
        cache: str | None = None,
        num_processes: int | None = None,
    ) -> None:
        super().__init__(sampling, cache, num_processes)
        preparation = {
            "kind": "mesh",
            "sampling": asdict(self.sampling),
            "reading": READING_VERSION,
        }
        self.files = UnsortedFiles(Path(root), paths, preparation)

    @cached_property
    def name(self) -> str:  # type: ignore[override]
        return name_dataset(None, self.files.root, "meshes", self.files.identity)

    def identity_without(self, names: Collection[str]) -> str:
        return BY_CONTENT

    @cached_property
    def _cache(self) -> SampleCache:
        return SampleCache(self.cache_folder / "by_content", self.load_mesh, self.sampling)

    def candidates(self, split: str) -> SplitOrder:
        return self.files.split(split)

    def prepare(self, num_objects: Mapping[str, int | None], show_progress: bool) -> None:
        super().prepare(num_objects, show_progress)
        self.files.check_usable(self.usable.reasons)

    def load_mesh(self, object_id: int) -> Mesh:
        return orient(clean(read_mesh(self.files.by_id[object_id])))

    def describe(self, object_id: int) -> str:
        return self.files.describe(object_id)
