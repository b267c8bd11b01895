"""Shapes as signals: signed distances to meshes, by class, each shape at points of its own."""

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightning_dws.errors import DataError
from lightning_dws.inrs.shapes.cache import SampleCache
from lightning_dws.inrs.shapes.meshes import Mesh, normalise
from lightning_dws.inrs.shapes.samples import Sampling, ShapeSample, grid_points
from lightning_dws.inrs.shapes.signed_distance import SignedDistance
from lightning_dws.inrs.signals import SignalDataset, SplitOrder
from lightning_dws.inrs.signals.usable import UsableObjects
from lightning_dws.inrs.siren import evaluate_field
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

    @property
    def cache_folder(self) -> Path:
        """The folder under which samples are kept."""
        import pooch

        return Path(self.cache_root or Path(pooch.os_cache("lightning_dws")) / "shapes")

    @cached_property
    def _cache(self) -> SampleCache:
        return SampleCache(self.cache_folder / self.name, self.load_mesh, self.sampling)

    @property
    def preparation(self) -> dict[str, Any]:
        return {"kind": "meshes", "sampling": asdict(self.sampling)}

    @cached_property
    def usable(self) -> UsableObjects:
        return UsableObjects(self.candidates, self._examine, self.describe)

    def _examine(self, object_ids: list[int], show_progress: bool) -> dict[int, str | None]:
        count = num_cores() if self.num_processes is None else self.num_processes
        return self._cache.examine(object_ids, self.name, count, show_progress)

    def split(self, name: str) -> SplitOrder:
        return self.usable.first(name, None)

    def recall(self, usable: Iterable[int], skipped: Mapping[str, str]) -> None:
        """Take over nothing: the cache knows."""

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
