"""Shapes as signals: signed distances to meshes, by class, each shape at points of its own."""

import hashlib
import json
import re
import sys
from abc import abstractmethod
from collections.abc import Collection, Mapping
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from lightning_dws.errors import DataError
from lightning_dws.inrs.file_listing import POOL, FileListing
from lightning_dws.inrs.mesh_files import READING_VERSION
from lightning_dws.inrs.mesh_listing import list_meshes
from lightning_dws.inrs.meshes import Mesh, clean, normalise, orient, read_mesh
from lightning_dws.inrs.shape_cache import SampleCache
from lightning_dws.inrs.shape_samples import Sampling, ShapeSample, grid_points
from lightning_dws.inrs.signals import SPLITS, SignalDataset, SplitOrder
from lightning_dws.inrs.signed_distance import SignedDistance
from lightning_dws.inrs.siren import evaluate_field
from lightning_dws.inrs.splits import cut_stratified
from lightning_dws.inrs.usable import UsableObjects
from lightning_dws.parallel import map_in_threads, num_cores
from lightning_dws.weight_space import WeightBatch

_BYTES_AT_ONCE = 2**28  # of samples in memory


class ShapeSignals(SignalDataset):
    """Meshes whose signed distance INRs learn; subclasses know where they come from.

    What an INR is fitted to are points near the surface and in the cube, drawn for each shape by
    (seed, object), sampled once by several processes and kept on disk. An object whose mesh cannot
    be used is left out of its split, told and noted; its id stays unused, so no other's changes.

    Beside the PSNR of every INR its ``sdf_error`` is stored, the mean absolute error at those
    points, and its ``iou``, the intersection over union of the insides on a grid over [-1, 1]^3
    (NaN where neither holds a point of the grid).

    Args:
        sampling: Where the signed distance is sampled. Default: that of ``Sampling``.
        cache: Folder under which samples are kept. Default: one in the user's cache.
        num_processes: That sample at once; None: as many as there are cores, 0: this one.
    """

    measures = ("sdf_error", "iou")

    def __init__(
        self,
        sampling: Sampling | None = None,
        cache: str | None = None,
        num_processes: int | None = None,
    ) -> None:
        if num_processes is not None and num_processes < 0:
            raise ValueError(f"num_processes must not be negative, got {num_processes}")
        self.sampling = sampling or Sampling()
        self.cache_root = cache
        self.num_processes = num_processes
        self.grid_shape = (self.sampling.grid_size,) * 3
        self.objects_at_once = max(1, _BYTES_AT_ONCE // (16 * self.sampling.num_points))

    @abstractmethod
    def candidates(self, split: str) -> SplitOrder:
        """Give the objects of a split, usable or not, in their fixed order."""

    @abstractmethod
    def load_mesh(self, object_id: int) -> Mesh:
        """Load an object's mesh, cleaned and oriented.

        Raises:
            DataError: It cannot be used; the message is the reason alone.
        """

    @abstractmethod
    def describe(self, object_id: int) -> str:
        """Name an object for people, e.g. by its file."""

    @cached_property
    def _cache(self) -> SampleCache:
        import pooch

        root = self.cache_root or str(Path(pooch.os_cache("lightning_dws")) / "shapes")
        return SampleCache(Path(root) / self.name, self.load_mesh, self.sampling)

    @cached_property
    def _usable(self) -> UsableObjects:
        return UsableObjects(self.candidates, self._examine, self.describe)

    def _examine(self, object_ids: list[int], show_progress: bool) -> dict[int, str | None]:
        count = num_cores() if self.num_processes is None else self.num_processes
        return self._cache.examine(object_ids, self.name, count, show_progress)

    def prepare(self, num_objects: Mapping[str, int | None], show_progress: bool) -> None:
        self._usable.prepare(num_objects, show_progress)

    def split(self, name: str) -> SplitOrder:
        return self.first(name, None)

    def first(self, split: str, count: int | None) -> SplitOrder:
        return self._usable.first(split, count)

    def skipped(self, num_objects: Mapping[str, int | None]) -> dict[str, str]:
        return self._usable.skipped(num_objects)

    @property
    def coordinates(self) -> Tensor:
        return grid_points(self.sampling.grid_size)

    def values(self, object_id: Tensor) -> Tensor:
        points = self.coordinates.numpy()
        found = [
            torch.from_numpy(SignedDistance(self.normalised_mesh(index))(points)).float()
            for index in object_id.tolist()
        ]
        return torch.stack(found)[..., None] if found else torch.empty(0, len(points), 1)

    def normalised_mesh(self, object_id: int) -> Mesh:
        """Load an object's mesh where its samples were drawn, in the unit sphere.

        Raises:
            DataError: It cannot be used.
        """
        return normalise(self.load_mesh(object_id), self.sampling.margin)

    def sample(self, object_id: Tensor) -> tuple[Tensor, Tensor]:
        samples = [self._read(index) for index in object_id.tolist()]
        if not samples:
            return torch.empty(0, self.sampling.num_points, 3), torch.empty(0, 1, 1)
        points = torch.stack([sample.points for sample in samples])
        return points, torch.stack([sample.distances for sample in samples])

    def _read(self, object_id: int) -> ShapeSample:
        try:
            return self._cache.read(object_id)
        except DataError as error:
            raise DataError(f"{self.describe(object_id)}: {error}") from error

    def measure(self, inrs: WeightBatch) -> dict[str, Tensor]:
        grid = self.coordinates.to(inrs.device)

        def compare(row: int) -> tuple[float, float]:
            inr = inrs[row : row + 1]
            sample = self._read(int(inr.object_id))
            found = evaluate_field(inr, sample.points.to(inrs.device)).cpu()
            error = found - sample.distances[:, 0]
            inside = evaluate_field(inr, grid).cpu() < 0
            union = int((inside | sample.inside).sum())
            iou = int((inside & sample.inside).sum()) / union if union else float("nan")
            return float(error.double().abs().mean()), iou

        found = map_in_threads(compare, range(len(inrs)))
        return {
            name: torch.tensor([values[number] for values in found], dtype=torch.float32)
            for number, name in enumerate(self.measures)
        }


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
        val_share: Share for validation: of the pool, or of training where validation is not given.
        test_share: Share of the pool for test; of no effect where splits are given.
        name: The readable part of the dataset's name, letters, digits, ``-`` and ``_``. Default:
            the folder's. Behind it comes a hash of the options and of the files (their places,
            sizes, and first and last 32 KiB), and of how meshes are read, so that other options,
            files or readings get another store.
        sampling: As in ``ShapeSignals``.
        cache: Likewise.
        num_processes: Likewise.

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
    ) -> None:
        super().__init__(sampling, cache, num_processes)
        if not (val_share > 0 and test_share > 0 and val_share + test_share < 1):
            raise ValueError(
                f"val_share and test_share must be positive and add up to less than 1, "
                f"got {val_share} and {test_share}"
            )
        if name is not None and not re.fullmatch(r"[A-Za-z0-9_-]+", name):
            raise ValueError(f"name must consist of letters, digits, - and _, got {name!r}")
        self.root: str | None = root
        self.val_share = val_share
        self.test_share = test_share
        self._readable_name = name

    def find_folder(self) -> Path:
        """Give the folder with the meshes."""
        assert self.root is not None
        return Path(self.root)

    @cached_property
    def name(self) -> str:  # type: ignore[override]
        identity = self._identify(self._listing.fingerprint)
        own_name = re.sub(r"[^A-Za-z0-9]+", "_", self._listing.root.resolve().name)
        readable = self._readable_name or own_name or "meshes"
        return f"{readable[:40]}-{identity[:12]}"

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
        identity = json.dumps([files, options], sort_keys=True)
        return hashlib.sha256(identity.encode()).hexdigest()

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
        return list_meshes(self.find_folder())

    @cached_property
    def _candidates(self) -> dict[str, SplitOrder]:
        label = self._listing.label
        splits: dict[str, SplitOrder] = {}
        start = 0
        for name, files in self._listing.parts.items():
            count = len(files)
            val, test = (round(share * count) for share in (self.val_share, self.test_share))
            if name == POOL:
                sizes = {"train": count - val - test, "val": val, "test": test}
            elif name == "train" and "val" not in self._listing.parts:
                sizes = {"train": count - val, "val": val}
            else:
                sizes = {name: count}
            empty = [split for split, size in sizes.items() if size < 1]
            if empty:
                raise DataError(
                    f"{self._listing.root}: {count} meshes, too few: no {empty[0]} split"
                )
            splits |= cut_stratified(label[start : start + count], start, sizes)
            start += count
        return {name: splits[name] for name in SPLITS}
