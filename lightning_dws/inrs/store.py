"""The dataset on disk: a directory of safetensors shards and ``dataset.json``.

A shard holds the INRs of consecutive objects (in the split's fixed order) of one view. Shards
are written atomically, ``dataset.json`` last: it lists every shard with its size and SHA-256,
so a store without it is unfinished, and a store with it can be checked.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise
from torch import Tensor

from lightning_dws.errors import DataError
from lightning_dws.files import file_sha256, write_atomically
from lightning_dws.inrs.convention import DEFAULT, ImageConvention
from lightning_dws.inrs.signals import SPLITS
from lightning_dws.weight_space import INRArchitecture, WeightBatch

INDEX_NAME = "dataset.json"
FORMAT_NAME = "lightning_dws INR store"
FORMAT_VERSION = 1
_MAX_PIXELS = 2**13  # height or width of a picture
_MAX_GRID_POINTS = 256  # along each axis of a shape's grid
_METADATA_KEY = "lightning_dws"
_COLUMNS = {
    "parameters": torch.float32,
    "label": torch.int64,
    "object_id": torch.int64,
    "view": torch.int64,
    "psnr": torch.float32,
}


@dataclass(frozen=True)
class StoreHeader:
    """What all INRs of a store share.

    Attributes:
        architecture: Of every INR.
        classes: Names, in the order of the labels.
        signals: Name of the signals that the INRs encode.
        grid_shape: (height, width) of the pixels, row-major, both axes from -1 to 1; of shapes,
            the size of the grid (x, y, z) on which they are compared.
        recipe: How the INRs were fitted, or where they were imported from, as plain data.
        seed: Of the initialisation.
        convention: Which axis comes first, and what black and white are.
        measures: Names of what is known of every INR beside its PSNR.
    """

    architecture: INRArchitecture
    classes: tuple[str, ...]
    signals: str
    grid_shape: tuple[int, ...]
    recipe: dict[str, Any]
    seed: int
    convention: ImageConvention = DEFAULT
    measures: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        plain = {**asdict(self), "architecture": self.architecture.to_dict()}
        convention = plain.pop("convention")
        if (
            self.convention != DEFAULT
        ):  # stores of the default are as they were before it had a name
            plain.update(convention)
        if not self.measures:  # likewise
            plain.pop("measures")
        return dict(json.loads(json.dumps(plain)))

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> "StoreHeader":
        architecture = INRArchitecture(**plain["architecture"])
        grid_shape = tuple(int(size) for size in plain["grid_shape"])
        most = {2: _MAX_PIXELS, 3: _MAX_GRID_POINTS}.get(len(grid_shape), 0)
        if not grid_shape or not all(0 < size <= most for size in grid_shape):
            raise ValueError(f"grid_shape {plain['grid_shape']}")
        if len(grid_shape) != architecture.in_features:
            raise ValueError(
                f"grid_shape {grid_shape} of INRs with {architecture.in_features} inputs"
            )
        for name, kind in (("classes", list), ("recipe", dict)):
            if not isinstance(plain[name], kind):
                raise ValueError(f"{name} is a {type(plain[name]).__name__}")
        low, high = plain.get("value_range", DEFAULT.value_range)
        return cls(
            architecture=architecture,
            classes=tuple(str(name) for name in plain["classes"]),
            signals=str(plain["signals"]),
            grid_shape=grid_shape,
            recipe=dict(plain["recipe"]),
            seed=int(plain["seed"]),
            convention=ImageConvention(plain.get("axis_order", DEFAULT.axis_order), (low, high)),
            measures=tuple(str(name) for name in plain.get("measures", ())),
        )

    @property
    def columns(self) -> dict[str, torch.dtype]:
        """The names and types of a shard's tensors."""
        return _COLUMNS | dict.fromkeys(self.measures, torch.float32)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of everything that decides what the INRs are."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class ShardRange:
    """Which INRs a shard holds: objects ``start`` to ``stop`` of a split, one view."""

    split: str
    view: int
    start: int
    stop: int

    @property
    def file_name(self) -> str:
        return f"{self.split}-view{self.view:03d}-{self.start:07d}-{self.stop:07d}.safetensors"

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class Shard:
    """A finished shard: its range, and the size and SHA-256 of its file."""

    range: ShardRange
    num_bytes: int
    sha256: str


def write_shard(
    directory: Path,
    where: ShardRange,
    batch: WeightBatch,
    psnr: Tensor,
    fingerprint: str,
    measures: Mapping[str, Tensor] | None = None,
) -> Shard:
    """Write one shard atomically; the same INRs always give the same bytes."""
    tensors = {
        "parameters": batch.parameters,
        "label": batch.label,
        "object_id": batch.object_id,
        "view": batch.view,
        "psnr": psnr,
        **(measures or {}),
    }
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    note = {
        **asdict(where),
        "fingerprint": fingerprint,
        "payload_sha256": payload_sha256(tensors),
    }
    content = serialise(tensors, {_METADATA_KEY: json.dumps(note, sort_keys=True)})
    write_atomically(directory / where.file_name, content)
    return Shard(where, len(content), hashlib.sha256(content).hexdigest())


def read_unlisted_shard(path: Path, header: StoreHeader) -> Shard:
    """Check a shard that a run finished but ended before listing.

    Raises:
        DataError: It is no shard, of other INRs than the header's, or was altered.
    """
    try:
        with safe_open(path, framework="pt") as file:
            note = json.loads((file.metadata() or {})[_METADATA_KEY])
            payload = payload_sha256({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
        where = ShardRange(note["split"], note["view"], note["start"], note["stop"])
        fingerprint, expected_payload = note["fingerprint"], note["payload_sha256"]
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: not a shard of an INR store ({error}); delete it") from error
    if fingerprint != header.fingerprint or path.name != where.file_name:
        raise DataError(
            f"{path}: left by an unfinished fit with another architecture, recipe, seed or dataset "
            "than this run's; give another folder, or delete this one"
        )
    if payload != expected_payload:
        raise DataError(f"{path}: the shard was altered after it was written; delete it")
    read_shard(path, where, header)
    return Shard(where, path.stat().st_size, file_sha256(path))


def payload_sha256(tensors: dict[str, Tensor]) -> str:
    """Give the SHA-256 of tensors' bytes, in the order of their names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(tensors[name].numpy().tobytes())
    return digest.hexdigest()


def read_shard(path: Path, where: ShardRange, header: StoreHeader) -> tuple[WeightBatch, Tensor]:
    """Map one shard's INRs and PSNRs into memory, and check all but its sum.

    Raises:
        DataError: The file cannot be read, or its tensors are not those of that range and header.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, ValueError) as error:
        raise DataError(f"{path}: not a readable safetensors file ({error})") from error
    expected: dict[str, tuple[int, ...]] = {name: (len(where),) for name in header.columns}
    expected["parameters"] = (len(where), header.architecture.num_parameters)
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if found != expected:
        raise DataError(f"{path}: expected tensors of shapes {expected}, found {found}")
    for name, dtype in header.columns.items():
        if tensors[name].dtype != dtype:
            raise DataError(f"{path}: {name} must be {dtype}, found {tensors[name].dtype}")
    fields = {name: tensors[name] for name in _COLUMNS if name != "psnr"}
    batch = WeightBatch(header.architecture, **fields)
    _check_values(path, where, header, batch)
    return batch, tensors["psnr"]


def read_measures(directory: Path, where: ShardRange, header: StoreHeader) -> dict[str, Tensor]:
    """Read what a shard, checked before, knows of its INRs beside the PSNR: (n,) by name.

    Raises:
        DataError: The file cannot be read.
    """
    path = directory / where.file_name
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in header.measures}
    except (OSError, SafetensorError, ValueError) as error:
        raise DataError(f"{path}: not a readable safetensors file ({error})") from error


def read_object_ids(directory: Path, where: ShardRange) -> Tensor:
    """Read which objects a shard holds, (n,) int64.

    Raises:
        DataError: The file cannot be read.
    """
    path = directory / where.file_name
    try:
        with safe_open(path, framework="pt") as file:
            ids: Tensor = file.get_tensor("object_id")
            return ids
    except (OSError, SafetensorError, ValueError) as error:
        raise DataError(f"{path}: not a readable safetensors file ({error})") from error


def _check_values(path: Path, where: ShardRange, header: StoreHeader, batch: WeightBatch) -> None:
    # the largest magnitude, unlike isfinite of all, needs no second table of the shard's size
    bad = ~torch.linalg.vector_norm(batch.parameters, ord=torch.inf, dim=1).isfinite()
    if bad.any():
        row = int(bad.nonzero()[0])
        raise DataError(
            f"{path}: weights of object {int(batch.object_id[row])}, view {where.view} "
            "are not finite"
        )
    if len(batch) and not 0 <= int(batch.label.min()) <= int(batch.label.max()) < len(
        header.classes
    ):
        raise DataError(
            f"{path}: labels from {int(batch.label.min())} to {int(batch.label.max())}, "
            f"expected 0 to {len(header.classes) - 1} for the {len(header.classes)} classes"
        )
    if (batch.view != where.view).any():
        raise DataError(f"{path}: holds another view than the {where.view} of its name")


def read_checked_shard(
    directory: Path, shard: Shard, header: StoreHeader
) -> tuple[WeightBatch, Tensor]:
    """Map a listed shard's INRs and PSNRs into memory, its sum and all else checked.

    Raises:
        DataError: The shard was altered, or cannot be read.
    """
    path = directory / shard.range.file_name
    if file_sha256(path) != shard.sha256:
        raise DataError(
            f"{path}: its SHA-256 is not the one in {INDEX_NAME}; the shard was altered. "
            "Delete it and run 'inrs fit' again to fit it anew"
        )
    return read_shard(path, shard.range, header)


class INRStore:
    """A finished dataset of INRs on disk, checked when it is opened and when it is read.

    Args:
        directory: The store's folder, with ``dataset.json``.
        allow_missing: Leave out the shards whose files are gone (to fit them again) instead of
            raising an error.

    Raises:
        DataError: The folder is no finished store, or a shard is missing or has another size.
    """

    def __init__(self, directory: str | Path, *, allow_missing: bool = False) -> None:
        self.directory = Path(directory)
        index = self._read_index()
        try:
            self.header = StoreHeader.from_dict(index)
            self.shards = [self._parse_shard(entry) for entry in index["shards"]]
            _ = self.header.fingerprint  # of data too deeply nested, there is none
        except (
            KeyError,
            TypeError,
            ValueError,
            AttributeError,
            OverflowError,
            RecursionError,
        ) as error:
            raise DataError(
                f"{self.directory / INDEX_NAME}: not an index of an INR store "
                f"({type(error).__name__}: {error})"
            ) from error
        self.listed = self.shards
        if allow_missing:
            self.shards = [s for s in self.shards if (self.directory / s.range.file_name).is_file()]
        for shard in self.shards:
            self._check_file(shard)
        self._check_gaps()

    @property
    def architecture(self) -> INRArchitecture:
        return self.header.architecture

    @property
    def classes(self) -> tuple[str, ...]:
        return self.header.classes

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of the splits that hold any INR."""
        present = {shard.range.split for shard in self.shards}
        return tuple(name for name in SPLITS if name in present)

    def num_objects(self, split: str, view: int = 0) -> int:
        """Count the objects of a split that are fitted in a view."""
        return sum(
            len(shard.range)
            for shard in self.shards
            if (shard.range.split, shard.range.view) == (split, view)
        )

    def num_views(self, split: str) -> int:
        return 1 + max((s.range.view for s in self.shards if s.range.split == split), default=-1)

    def split(
        self,
        name: str,
        *,
        num_objects: int | None = None,
        views: int | None = None,
        device: torch.device | str = "cpu",
    ) -> WeightBatch:
        """Read a split into one table on a device, shard by shard, so never twice in memory.

        Args:
            name: ``"train"``, ``"val"`` or ``"test"``.
            num_objects: Only the first so many objects of the split's order. Default: all.
            views: Only the first so many views. Default: all.
            device: Where the table goes.

        Returns:
            All INRs, view after view, each in the split's order.

        Raises:
            DataError: A shard was altered (its SHA-256 differs), holds weights that are not
                finite, or the store has fewer objects or views than asked for.
        """
        total = sum(count for _, count in self._select(name, num_objects, views))
        columns = {
            field: torch.empty(
                (total, self.architecture.num_parameters) if field == "parameters" else (total,),
                dtype=dtype,
                device=device,
            )
            for field, dtype in _COLUMNS.items()
            if field != "psnr"
        }
        row = 0
        for batch, _ in self.parts(name, num_objects, views):
            for field, column in columns.items():
                column[row : row + len(batch)] = getattr(batch, field)
            row += len(batch)
        return WeightBatch(self.architecture, **columns)

    def psnr(self, name: str) -> Tensor:
        """Read the PSNR (dB) of every INR of a split, in the order of ``split``."""
        return torch.cat([psnr for _, psnr in self.parts(name)])

    def measure(self, measure: str, name: str) -> Tensor:
        """Read one of the header's measures of every INR of a split, in the order of ``split``."""
        shards = [shard for shard, _ in self._select(name, None, None)]
        found = [read_measures(self.directory, s.range, self.header)[measure] for s in shards]
        return torch.cat(found)

    def parts(
        self, name: str, num_objects: int | None = None, views: int | None = None
    ) -> Iterator[tuple[WeightBatch, Tensor]]:
        """Give a split's INRs and their PSNRs shard by shard, mapped from disk and checked."""
        for shard, count in self._select(name, num_objects, views):
            batch, psnr = read_checked_shard(self.directory, shard, self.header)
            yield batch[:count], psnr[:count]

    def _select(
        self, name: str, num_objects: int | None, views: int | None
    ) -> list[tuple[Shard, int]]:
        """Find the shards of a selection, and how many of each one's rows belong to it."""
        if name not in self.splits:
            raise DataError(f"{self.directory}: no split {name!r}, it has {list(self.splits)}")
        if num_objects is None and views is None:  # views may hold unlike numbers of objects
            return [(s, len(s.range)) for s in self.shards if s.range.split == name]
        views = self.num_views(name) if views is None else views
        selected = []
        for view in range(views):
            available = self.num_objects(name, view)
            wanted = self.num_objects(name) if num_objects is None else num_objects
            if available < wanted:
                raise DataError(
                    f"{self.directory}: split {name!r} holds {available} objects in view {view}, "
                    f"{wanted} are asked for"
                )
            for shard in self.shards:
                where = shard.range
                if (where.split, where.view) == (name, view) and where.start < wanted:
                    selected.append((shard, min(where.stop, wanted) - where.start))
        return selected

    def _read_index(self) -> dict[str, Any]:
        path = self.directory / INDEX_NAME
        if not path.is_file():
            shards = len(list(self.directory.glob("*.safetensors")))
            state = f"an unfinished store with {shards} shards" if shards else "no INR store"
            raise DataError(f"{self.directory}: {state} (there is no {INDEX_NAME})")
        try:
            index = json.loads(path.read_bytes())
        except (OSError, ValueError, RecursionError) as error:
            raise DataError(f"{path}: cannot be read ({error})") from error
        if not isinstance(index, dict) or index.get("format") != FORMAT_NAME:
            raise DataError(f"{path}: not the index of an INR store")
        if index.get("version") != FORMAT_VERSION:
            raise DataError(
                f"{path}: version {index.get('version')!r}, this release reads {FORMAT_VERSION}"
            )
        return index

    def _parse_shard(self, entry: dict[str, Any]) -> Shard:
        where = ShardRange(
            str(entry["split"]), int(entry["view"]), int(entry["start"]), int(entry["stop"])
        )
        if where.split not in SPLITS or not 0 <= where.start < where.stop or where.view < 0:
            raise ValueError(f"shard {entry}")
        if entry["file"] != where.file_name:
            raise ValueError(f"file name {entry['file']!r}, expected {where.file_name!r}")
        return Shard(where, int(entry["bytes"]), str(entry["sha256"]))

    def _check_gaps(self) -> None:
        """Refuse views whose shards do not follow each other, unless files may be missing."""
        ends: dict[tuple[str, int], int] = {}
        for shard in self.listed:
            where = shard.range
            if where.start != ends.get((where.split, where.view), 0):
                raise DataError(
                    f"{self.directory / INDEX_NAME}: {where.file_name} does not follow the shard "
                    "before it"
                )
            ends[where.split, where.view] = where.stop

    def _check_file(self, shard: Shard) -> None:
        path = self.directory / shard.range.file_name
        if not path.is_file():
            raise DataError(f"{path}: the shard is missing")
        if path.stat().st_size != shard.num_bytes:
            raise DataError(
                f"{path}: {path.stat().st_size} bytes, expected {shard.num_bytes}; "
                "the shard is truncated or altered. Delete it and run 'inrs fit' again"
            )
        needed = 4 * len(shard.range) * self.architecture.num_parameters
        if shard.num_bytes < needed:  # so that no table is made for INRs that are not there
            raise DataError(
                f"{path}: {shard.num_bytes} bytes cannot hold {len(shard.range)} INRs of "
                f"{self.architecture.num_parameters} parameters"
            )


def write_index(directory: Path, header: StoreHeader, shards: Iterable[Shard]) -> None:
    """Publish a store: write its ``dataset.json`` atomically."""
    ordered = sorted(
        shards, key=lambda s: (SPLITS.index(s.range.split), s.range.view, s.range.start)
    )
    index = {
        "format": FORMAT_NAME,
        "version": FORMAT_VERSION,
        **header.to_dict(),
        "coordinates": _describe_coordinates(header),
        "shards": [
            {
                "file": shard.range.file_name,
                **asdict(shard.range),
                "bytes": shard.num_bytes,
                "sha256": shard.sha256,
            }
            for shard in ordered
        ],
    }
    write_atomically(directory / INDEX_NAME, (json.dumps(index, indent=1) + "\n").encode())


def _describe_coordinates(header: StoreHeader) -> str:
    if len(header.grid_shape) == 3:
        return "x, y, z from -1 to 1, each object in the unit sphere; signed distances, inside < 0"
    axis = {"xy": "x", "ij": "y"}[header.convention.axis_order]
    return f"{axis} first, both axes from -1 to 1, pixels row by row"
