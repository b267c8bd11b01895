"""What all INRs of a store share, as ``dataset.json`` tells it."""

import json
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from lightning_dws.errors import DataError
from lightning_dws.files import json_sha256
from lightning_dws.inrs.store.convention import DEFAULT, ImageConvention
from lightning_dws.weight_space import Architecture, INRArchitecture, read_architecture

# the largest size of a grid's axes, by their number: points of a line, pixels, and a shape's grid
_MAX_GRID_SIZE = {1: 2**22, 2: 2**13, 3: 2**8}
_MAX_NUMBER = 2.0**60  # of an architecture: beyond it, float32 has no use for it
UNREADABLE = (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError)
COLUMNS = {
    "parameters": torch.float32,
    "label": torch.int64,
    "object_id": torch.int64,
    "view": torch.int64,
    "psnr": torch.float32,
}


@dataclass(frozen=True)
class StoreHeader:
    """What all INRs of a store share; or other networks, which encode no signals.

    Attributes:
        architecture: Of every INR.
        classes: Names, in the order of the labels; none where the INRs have no classes, and
            every label is 0.
        signals: Name of the signals that the INRs encode; of networks, their own.
        grid_shape: (points,) of a line, (height, width) of the pixels, row-major, or of shapes the
            size of the grid (x, y, z) on which they are compared, or (depth, height, width) of
            volumes; every axis from -1 to 1. Of networks that are no INRs, ().
        recipe: How the INRs were fitted, or where they were imported from, as plain data.
        seed: Of the initialisation.
        convention: Which axis comes first, and what black and white are.
        measures: Names of what is known of every INR beside its PSNR.
        preparation: How files become such signals, see ``SignalDataset.preparation``; None where
            that is not known. It says how others are read, and is no part of what these INRs are.
    """

    architecture: Architecture
    classes: tuple[str, ...]
    signals: str
    grid_shape: tuple[int, ...]
    recipe: dict[str, Any]
    seed: int
    convention: ImageConvention = DEFAULT
    measures: tuple[str, ...] = ()
    preparation: dict[str, Any] | None = field(default=None, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Give what the INRs are, as plain data."""
        plain = {**asdict(self), "architecture": self.architecture.to_dict()}
        plain.pop("preparation")
        convention = plain.pop("convention")
        if (
            self.convention != DEFAULT
        ):  # stores of the default are as they were before it had a name
            plain.update(convention)
            for name in ("has_alpha", "is_volume"):  # likewise
                if not plain[name]:
                    plain.pop(name)
        if not self.measures:  # likewise
            plain.pop("measures")
        return dict(json.loads(json.dumps(plain)))

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> "StoreHeader":
        architecture = read_architecture(plain["architecture"])
        for name in ("w0", "output_offset"):
            value = plain["architecture"].get(name, 0.0)
            if isinstance(value, bool) or abs(value) > _MAX_NUMBER:
                raise ValueError(f"{name} {value}")
        grid_shape = tuple(int(size) for size in plain["grid_shape"])
        _check_grid(grid_shape, architecture)
        for name, kind in (("classes", list), ("recipe", dict)):
            if not isinstance(plain[name], kind):
                raise ValueError(f"{name} is a {type(plain[name]).__name__}")
        names = plain["classes"]
        if len(set(names)) < len(names):
            raise ValueError(f"classes {names} are not all different")
        low, high = plain.get("value_range", DEFAULT.value_range)
        preparation = plain.get("preparation")
        if not isinstance(preparation, (dict, type(None))):
            raise ValueError(f"preparation is a {type(preparation).__name__}")
        return cls(
            architecture=architecture,
            classes=tuple(str(name) for name in plain["classes"]),
            signals=str(plain["signals"]),
            grid_shape=grid_shape,
            recipe=dict(plain["recipe"]),
            seed=int(plain["seed"]),
            convention=ImageConvention(
                plain.get("axis_order", DEFAULT.axis_order),
                (low, high),
                plain.get("has_alpha", False) is True,
                plain.get("is_volume", False) is True,
            ),
            measures=tuple(str(name) for name in plain.get("measures", ())),
            preparation=preparation,
        )

    def check(self) -> None:
        """Make sure that a store of this header could be opened again.

        Raises:
            DataError: It could not; the message says why.
        """
        try:
            again = StoreHeader.from_dict(self.to_dict())
            same = again.fingerprint == self.fingerprint
        except UNREADABLE as error:
            raise DataError(f"{self.signals}: these INRs cannot be stored: {error}") from error
        if not same:
            raise DataError(
                f"{self.signals}: these INRs cannot be stored: {self} would be read as {again}"
            )

    @property
    def num_labels(self) -> int:
        """How many labels there are: 1 where there are no classes."""
        return max(1, len(self.classes))

    @property
    def columns(self) -> dict[str, torch.dtype]:
        """The names and types of a shard's tensors."""
        return COLUMNS | dict.fromkeys(self.measures, torch.float32)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of everything that decides what the INRs are."""
        return json_sha256(self.to_dict())


def _check_grid(grid_shape: tuple[int, ...], architecture: Architecture) -> None:
    if not isinstance(architecture, INRArchitecture):
        if grid_shape:
            raise ValueError(f"grid_shape {grid_shape} of networks that encode no signals")
        return
    if len(grid_shape) != architecture.in_features:
        raise ValueError(f"grid_shape {grid_shape} of INRs with {architecture.in_features} inputs")
    most = _MAX_GRID_SIZE.get(len(grid_shape), 0)
    if not most:
        raise ValueError(f"grid_shape {grid_shape} has {len(grid_shape)} axes, expected 1 to 3")
    if not all(0 < size <= most for size in grid_shape):
        raise ValueError(f"grid_shape {grid_shape}, expected sizes from 1 to {most}")
