"""An embedded dataset of 3-D shapes: solids of 14 classes, built when they are asked for."""

from dataclasses import asdict
from functools import cached_property

import numpy as np
import torch

from lightning_dws.files import json_sha256
from lightning_dws.inrs.shapes.base import ShapeSignals
from lightning_dws.inrs.shapes.meshes import Mesh, clean
from lightning_dws.inrs.shapes.samples import Sampling
from lightning_dws.inrs.shapes.solid_classes import BUILDERS
from lightning_dws.inrs.signals import SPLITS, SplitOrder
from lightning_dws.inrs.signals.splits import stratified_order
from lightning_dws.randomness import stream_seed

_VERSION = 1  # of what is built: another version is another dataset


class Solids(ShapeSignals):
    """Furniture and machine parts of 14 classes, with random proportions, parts and pose.

    Each is turned about the vertical (z) axis by any angle, and tilted a little. Objects are
    numbered through the splits, classes taking turns; each depends on (seed, split, its place)
    alone, so larger splits hold the objects of smaller ones.

    Args:
        num_train: Objects for training, of all classes.
        num_val: For validation.
        num_test: For test.
        seed: Of the shapes.
        max_tilt_degrees: By how much an object is tilted at most.
        sampling: As in ``ShapeSignals``.
        cache: Likewise.
        num_processes: Likewise.

    Raises:
        ValueError: A number out of its range.
    """

    classes = tuple(BUILDERS)

    def __init__(
        self,
        num_train: int = 840,
        num_val: int = 140,
        num_test: int = 280,
        seed: int = 0,
        max_tilt_degrees: float = 10.0,
        sampling: Sampling | None = None,
        cache: str | None = None,
        num_processes: int | None = None,
    ) -> None:
        super().__init__(sampling, cache, num_processes)
        self.num_objects = {"train": num_train, "val": num_val, "test": num_test}
        for name, count in self.num_objects.items():
            if count < len(self.classes):
                raise ValueError(
                    f"num_{name} must be at least {len(self.classes)}, one of each class, "
                    f"got {count}"
                )
        if not 0 <= max_tilt_degrees <= 180:
            raise ValueError(f"max_tilt_degrees must be in [0, 180], got {max_tilt_degrees}")
        self.seed = seed
        self.max_tilt_degrees = max_tilt_degrees

    @cached_property
    def name(self) -> str:  # type: ignore[override]
        identity = [
            _VERSION,
            self.num_objects,
            self.seed,
            self.max_tilt_degrees,
            asdict(self.sampling),
            self.sampling.fingerprint,
        ]
        digest = json_sha256(identity)
        return f"solids-{digest[:12]}"

    def candidates(self, split: str) -> SplitOrder:
        start = sum(self.num_objects[name] for name in SPLITS[: SPLITS.index(split)])
        place = torch.arange(self.num_objects[split])
        label = place % len(self.classes)
        order = stratified_order(label, 0)
        return SplitOrder(start + order, label[order])

    def load_mesh(self, object_id: int) -> Mesh:
        split, place = self._find(object_id)
        generator = np.random.default_rng(stream_seed(self.seed, split, place, "solids"))
        solid = BUILDERS[self.classes[place % len(self.classes)]](generator)
        vertices = np.asarray(solid.vertices, np.float64) @ self._draw_pose(generator).T
        return clean(Mesh(vertices, np.asarray(solid.faces, np.int64)))

    def describe(self, object_id: int) -> str:
        split, place = self._find(object_id)
        return f"{split} object {place} ({self.classes[place % len(self.classes)]})"

    def _find(self, object_id: int) -> tuple[str, int]:
        """Give the split of an object and its place there."""
        place = object_id
        for split, count in self.num_objects.items():
            if 0 <= place < count:
                return split, place
            place -= count
        raise ValueError(
            f"object_id must be in [0, {sum(self.num_objects.values())}), got {object_id}"
        )

    def _draw_pose(self, generator: np.random.Generator) -> np.ndarray:
        """Draw a rotation: any angle about z, then a tilt about a horizontal axis."""
        from scipy.spatial.transform import Rotation

        heading, direction = generator.uniform(0, 2 * np.pi, 2)
        tilt = np.deg2rad(self.max_tilt_degrees) * generator.uniform()
        axis = np.array([np.cos(direction), np.sin(direction), 0.0])
        upright = Rotation.from_rotvec([0, 0, heading])
        return np.asarray((Rotation.from_rotvec(tilt * axis) * upright).as_matrix())
