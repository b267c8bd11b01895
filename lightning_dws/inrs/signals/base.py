"""What INRs are fitted to: labelled signals, sampled at coordinates, in a fixed order."""

import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from lightning_dws.errors import DataError
from lightning_dws.inrs.signals.splits import SplitOrder
from lightning_dws.inrs.signals.usable import UsableObjects
from lightning_dws.weight_space import WeightBatch


class SignalDataset(ABC):
    """Labelled signals. Subclass it to fit INRs to data of your own; any class path works.

    The constructor should be cheap: data is loaded when it is first asked for.

    Attributes:
        name: Names the dataset in its store; two different datasets need two names.
        classes: The names of the classes, in the order of their labels. Default: none; then every
            label is 0, and no classifier can be trained.
        grid_shape: (height, width) of an image whose pixels are the coordinates in row-major
            order, for pictures; of a line (such as audio), (points,); of a volume (depth, height,
            width), and of a shape, (x, y, z).
        has_alpha: Whether the last value of an image's pixel is how opaque it is.
        is_volume: Whether signals with three coordinates are values of a volume, and no shape's
            signed distances.
        measures: What ``measure`` gives, beside the PSNR, of every INR.
        objects_at_once: How many objects' samples may be in memory at once; None: any number.
        is_named_by_content: Whether an object's id is a hash of all that its signal depends on, so
            that INRs of equal ids in two datasets are the same.
    """

    name: str
    classes: tuple[str, ...] = ()
    grid_shape: tuple[int, ...]
    has_alpha: bool = False
    is_volume: bool = False
    measures: tuple[str, ...] = ()
    objects_at_once: int | None = None
    is_named_by_content: bool = False

    @property
    def preparation(self) -> dict[str, Any] | None:
        """How files of anybody are made such signals, as plain data, for a network's checkpoints.

        ``{"kind": "images"}``: an image of the grid's size, with values in [0, 1] at the pixels'
        coordinates. ``{"kind": "meshes", "sampling": ...}``: signed distances. ``{"kind":
        "arrays", "value_range": ...}``: arrays of the grid's size. Default: None, which is not
        known, so that no file can be classified by a network trained on these.
        """
        return None

    @property
    @abstractmethod
    def coordinates(self) -> Tensor:
        """(N, d) float32 points at which every signal is sampled."""

    @property
    def usable(self) -> UsableObjects | None:
        """Which objects can be used, where some may be damaged. Default: None, all can."""
        return None

    @abstractmethod
    def split(self, name: str) -> SplitOrder:
        """Give the objects of ``"train"``, ``"val"`` or ``"test"`` in their fixed order."""

    @abstractmethod
    def values(self, object_id: Tensor) -> Tensor:
        """Give the signals of objects (B,) at the coordinates: (B, N, out) float32."""

    def sample(self, object_id: Tensor) -> tuple[Tensor, Tensor]:
        """Give what INRs of objects (B,) are fitted to; here all values at the coordinates.

        Returns:
            Points, (N, d) for all objects or (B, N, d) each object's own, and the signals there,
            (B, N, out); both float32.
        """
        return self.coordinates, self.values(object_id)

    def first(self, split: str, count: int | None) -> SplitOrder:
        """Give the first so many objects of a split, or fewer where it has fewer; None for all."""
        return self.usable.first(split, count) if self.usable else self.split(split)[:count]

    def prepare(self, num_objects: Mapping[str, int | None], show_progress: bool) -> None:
        """Do what takes long before so many objects of each split can be asked for."""
        if self.usable:
            self.usable.prepare(num_objects, show_progress)

    def skipped(self, num_objects: Mapping[str, int | None]) -> dict[str, str]:
        """Tell what had to be left out for the first so many objects of each split, and why."""
        return self.usable.skipped(num_objects) if self.usable else {}

    def recall(self, usable: Iterable[int], skipped: Mapping[str, str]) -> None:
        """Take over what a store tells, so that it need not be found out again.

        Args:
            usable: Object ids of its INRs.
            skipped: What was ``skipped`` when they were fitted.
        """
        if self.usable:
            self.usable.recall(usable, skipped)

    def identity_without(self, names: Collection[str]) -> str | None:
        """Name the dataset so that some objects, named as ``skipped`` does, do not count.

        Where it is the same before and after these are repaired, the INRs of all others are the
        same as well. None: the dataset cannot tell.
        """
        return None

    def measure(self, inrs: WeightBatch) -> dict[str, Tensor]:
        """Give the ``measures`` of INRs fitted to these signals, (B,) float32 on the CPU each.

        On CPUs an INR's must not depend, bit for bit, on the others of the batch.
        """
        return {}


def check_grid(signals: SignalDataset) -> None:
    """Make sure that lines, images and volumes are sampled at the points of their grid.

    Raises:
        DataError: They are not, so nothing could draw them.
    """
    shape, count = tuple(signals.grid_shape), len(signals.coordinates)
    is_shape = len(shape) == 3 and not signals.is_volume  # it is sampled anywhere
    if not is_shape and math.prod(shape) != count:
        raise DataError(
            f"{signals.name}: {count} coordinates, expected {math.prod(shape)} for the grid_shape "
            f"{shape}"
        )


def pixel_coordinates(height: int, width: int) -> Tensor:
    """Give the coordinates of an image's pixels, row by row: (height * width, 2), x first.

    Both axes run from -1 to 1, as in the published 2-D INR datasets (meshgrid ``xy``).
    """
    return grid_coordinates((height, width))


def line_coordinates(size: int) -> Tensor:
    """Give the coordinates of a line's points, from -1 to 1: (size, 1)."""
    return grid_coordinates((size,))


def grid_coordinates(shape: Sequence[int]) -> Tensor:
    """Give the coordinates of a grid's points, its last axis fastest: (N, d), that axis first.

    Every axis runs from -1 to 1.

    Example:
        >>> grid_coordinates((1, 2, 2)).tolist()
        [[-1.0, -1.0, -1.0], [1.0, -1.0, -1.0], [-1.0, 1.0, -1.0], [1.0, 1.0, -1.0]]
    """
    axes = torch.meshgrid(*(torch.linspace(-1, 1, size) for size in shape), indexing="ij")
    return torch.stack(axes[::-1], dim=-1).reshape(-1, len(shape))


class ImageSignals(SignalDataset):
    """Grey or colour images in memory, with values in [0, 1]; subclasses load them."""

    @property
    def preparation(self) -> dict[str, Any]:
        return {"kind": "images"}

    @abstractmethod
    def load_images(self) -> tuple[Tensor, Tensor]:
        """Load all images (n, height, width, channels), uint8 or float in [0, 1], and labels (n,).

        An image's position is its object id.
        """

    @cached_property
    def _images(self) -> tuple[Tensor, Tensor]:
        return self.load_images()

    @property
    def coordinates(self) -> Tensor:
        height, width = self.grid_shape
        return pixel_coordinates(height, width)

    @property
    def label(self) -> Tensor:
        """(n,) int64, the labels of all objects by id."""
        return self._images[1]

    def values(self, object_id: Tensor) -> Tensor:
        images = self._images[0][object_id]
        scaled = images.float() / 255 if images.dtype == torch.uint8 else images.float()
        return scaled.flatten(1, 2)
