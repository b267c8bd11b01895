"""How the INRs that a network was trained on were made, as plain data for its checkpoints.

With it a checkpoint needs no config and no store: INRs of other images or arrays are fitted as
those were, and what they are compared with is known.
"""

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from lightning_dws.errors import DataError
from lightning_dws.inrs.fitting import Recipe
from lightning_dws.inrs.preparation.spec import INRDatasetSpec
from lightning_dws.inrs.shapes.samples import Sampling
from lightning_dws.inrs.shapes.unsorted_meshes import UnsortedMeshes
from lightning_dws.inrs.signals import SignalDataset
from lightning_dws.inrs.signals.arrays.unsorted_arrays import UnsortedArrays
from lightning_dws.inrs.signals.unsorted_images import UnsortedImages
from lightning_dws.inrs.sounds.unsorted_sounds import UnsortedSounds
from lightning_dws.inrs.store import INRStore, StoreHeader
from lightning_dws.inrs.store.convention import ImageConvention
from lightning_dws.inrs.store.header import UNREADABLE
from lightning_dws.inrs.store.shards import read_psnr
from lightning_dws.weight_space import INRArchitecture, require_inrs

IMAGES, MESHES, SOUNDS, ARRAYS = "images", "meshes", "sounds", "arrays"
_LOW_SHARE = 0.01  # of the INRs that were trained on are fitted worse than ``lowest_psnr``


@dataclass(frozen=True)
class FittingRecord:
    """How INRs were made.

    Attributes:
        header: Of their store: architecture, classes, recipe, seed, and the signals' grid.
        preparation: How files become such signals, see ``SignalDataset.preparation``; None where
            that is not known.
        store: The store's folder, as the run that wrote the record named it; None where it is not
            known.
        psnr: The median PSNR in dB of the training INRs; None where it is not known.
        lowest_psnr: That of all but the worst hundredth of them; likewise.
    """

    header: StoreHeader
    preparation: Mapping[str, Any] | None = None
    store: str | None = None
    psnr: float | None = None
    lowest_psnr: float | None = None

    @classmethod
    def of_store(
        cls, directory: Path, header: StoreHeader, signals: SignalDataset | None
    ) -> "FittingRecord":
        """Make the record of a store's INRs.

        Args:
            directory: The store's folder.
            header: The store's.
            signals: What they were fitted to, where it is at hand. Where it is not, and the store
                does not say how they were prepared, images and shapes are taken for some of our
                own.
        """
        known = signals.preparation if signals else header.preparation
        preparation = _guess(header) if known is None and signals is None else known
        record = cls(header, preparation, str(directory))
        with suppress(DataError):  # it is only a help
            ranges = [shard.range for shard in INRStore(directory).shards]
            train = [where for where in ranges if where.split == "train"]
            psnr = torch.cat([read_psnr(directory, where) for where in train or ranges])
            if not psnr.isnan().any():
                lowest = psnr.sort().values[int(_LOW_SHARE * len(psnr))]
                return replace(record, psnr=float(psnr.median()), lowest_psnr=float(lowest))
        return record

    def to_dict(self) -> dict[str, Any]:
        preparation = None if self.preparation is None else _plain(self.preparation)
        return {**asdict(self), "header": self.header.to_dict(), "preparation": preparation}

    @classmethod
    def from_dict(cls, plain: Any, where: str) -> "FittingRecord":
        """Read a record; ``where`` names it in errors.

        Raises:
            DataError: It is none.
        """
        try:
            record = cls(**{**plain, "header": StoreHeader.from_dict(plain["header"])})
            for name in ("psnr", "lowest_psnr"):
                if not isinstance(getattr(record, name), (float, type(None))):
                    raise TypeError(f"{name} {getattr(record, name)!r}")
            if not isinstance(record.preparation, (dict, type(None))):
                raise TypeError(f"preparation {record.preparation!r}")
            if not isinstance(record.store, (str, type(None))):
                raise TypeError(f"store {record.store!r}")
        except UNREADABLE as error:
            raise DataError(
                f"{where}: how its INRs were fitted cannot be read ({type(error).__name__}: "
                f"{error})"
            ) from error
        return record

    @property
    def kind(self) -> str | None:
        """What the INRs encode: ``images``, ``meshes``, ``sounds`` or ``arrays``.

        None where no files help.
        """
        return None if self.preparation is None else self.preparation.get("kind")

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the images."""
        height, width = self.header.grid_shape
        return height, width

    @property
    def has_alpha(self) -> bool:
        """Whether the last output is how opaque an image's pixel is."""
        return self.header.convention.has_alpha

    @property
    def is_colour(self) -> bool:
        """Whether images are RGB, with or without how opaque a pixel is."""
        return self._architecture.out_features - self.has_alpha == 3

    @property
    def channels(self) -> int:
        """Values at each point of the signals."""
        return self._architecture.out_features

    @property
    def sound(self) -> tuple[int, bool]:
        """How sounds are read: samples in a second, and whether each one's peak is made 1.

        Raises:
            DataError: That cannot be read.
        """
        try:
            known = dict(self.preparation or {})
            return int(known["rate"]), bool(known["normalise"])
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"how sounds are read cannot be read ({error})") from error

    @property
    def value_range(self) -> tuple[float, float]:
        """What of arrays' values becomes 0, and what 1.

        Raises:
            DataError: That cannot be read.
        """
        try:
            low, high = (float(value) for value in (self.preparation or {})["value_range"])
            if not (low < high and math.isfinite(high - low)):
                raise ValueError(f"value_range {low} to {high}")
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"how arrays are read cannot be read ({error})") from error
        return low, high

    @property
    def recipe(self) -> Recipe:
        """How the INRs were fitted.

        Raises:
            DataError: That is not known: they were imported, or written from memory.
        """
        settings = self.header.recipe
        if "steps" not in settings:
            what = settings.get("imported")
            made = f"imported as {what}" if what else "not fitted here"
            raise DataError(
                f"how the INRs that were trained on are fitted is not known: they were {made}; "
                "give INRs, as a store or as state dicts"
            )
        try:
            return Recipe(**settings)
        except (TypeError, ValueError) as error:
            raise DataError(f"the recipe of the INRs cannot be read ({error})") from error

    def spec(self, root: Path, paths: Sequence[Path]) -> INRDatasetSpec:
        """Say how files are fitted, as those INRs were.

        Args:
            root: What the files' names are relative to.
            paths: Images, meshes, sounds or arrays, as ``kind`` says.

        Raises:
            DataError: They cannot be; the message says why.
        """
        self.check_fittable()
        architecture = self._architecture
        signals: SignalDataset
        if self.kind == MESHES:
            signals = UnsortedMeshes(root, paths, self._sampling())
        elif self.kind == SOUNDS:
            signals = UnsortedSounds(root, paths, self.header.grid_shape[0], *self.sound)
        elif self.kind == ARRAYS:
            grid = self.header.grid_shape
            signals = UnsortedArrays(root, paths, grid, self.channels, self.value_range)
        else:
            signals = UnsortedImages(root, paths, self.size, self.is_colour, self.has_alpha)
        return INRDatasetSpec(signals, architecture, self.recipe, self.header.seed)

    def check_fittable(self) -> None:
        """Make sure that files can become INRs such as these.

        Raises:
            DataError: They cannot; the message says why.
        """
        header, architecture = self.header, self._architecture
        _ = self.recipe
        if self.kind == MESHES and (architecture.in_features, architecture.out_features) == (3, 1):
            return
        if self.kind == SOUNDS and (architecture.in_features, architecture.out_features) == (1, 1):
            return
        own_images = ImageConvention(has_alpha=self.has_alpha)
        plain_image = architecture.in_features == 2 and header.convention == own_images
        channels = (2, 4) if self.has_alpha else (1, 3)
        if self.kind == IMAGES and plain_image and architecture.out_features in channels:
            return
        own_arrays = ImageConvention(is_volume=architecture.in_features == 3)
        if self.kind == ARRAYS and header.convention == own_arrays:
            return
        refit = f"{self.how_to_tell}, or " if self.preparation is None else ""
        raise DataError(
            f"the network reads INRs of {header.signals} with {architecture.in_features} inputs "
            f"and {architecture.out_features} outputs, and does not say how files become such; "
            f"{refit}give INRs, as a store or as state dicts"
        )

    @property
    def how_to_tell(self) -> str:
        """Say what makes a store that an earlier version fitted tell how files were prepared."""
        return (
            f"run the 'inrs fit' that made {self.store} once more, which fits nothing and notes it "
            "there"
        )

    def completed(self, directory: Path) -> "FittingRecord":
        """Take from the store how files are prepared, where it has been noted there since.

        Args:
            directory: The store's folder; if it is not there, or of other INRs, nothing changes.
        """
        if self.preparation is not None and not self.preparation.get("assumed"):
            return self
        with suppress(DataError):  # it is only a help
            header = INRStore(directory).header
            if header.fingerprint == self.header.fingerprint and header.preparation is not None:
                return replace(self, preparation=header.preparation)
        return self

    @property
    def _architecture(self) -> INRArchitecture:
        return require_inrs(self.header.architecture, "fitting files")

    def _sampling(self) -> Sampling:
        try:
            return Sampling(**(self.preparation or {})["sampling"])
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"how meshes are sampled cannot be read ({error})") from error


def _guess(header: StoreHeader) -> dict[str, Any] | None:
    if len(header.grid_shape) == 2:
        return {"kind": IMAGES, "assumed": True}
    if len(header.grid_shape) == 3 and not header.convention.is_volume:
        sampling = Sampling(grid_size=header.grid_shape[0])
        return {"kind": MESHES, "sampling": asdict(sampling), "assumed": True}
    return None


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, (list, tuple)) else value
