"""A shard: a safetensors file with the INRs of consecutive objects of one view.

Its metadata say which INRs it holds, of which store, and the sum of its tensors, so that a shard
tells by itself whether it belongs where it is found.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise
from torch import Tensor

from lightning_dws.counting import counted
from lightning_dws.errors import DataError
from lightning_dws.files import check_regular, file_sha256, payload_sha256, write_atomically
from lightning_dws.inrs.store.header import COLUMNS, StoreHeader
from lightning_dws.weight_space import WeightBatch

INDEX_NAME = "dataset.json"  # lists a store's shards
SHARD_SIZE = 512  # objects; decides the shards' boundaries, so changing it changes the format
_METADATA_KEY = "lightning_dws"


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
    note = {**asdict(where), "fingerprint": fingerprint, "payload_sha256": payload_sha256(tensors)}
    content = serialise(tensors, {_METADATA_KEY: json.dumps(note, sort_keys=True)})
    write_atomically(directory / where.file_name, content)
    return Shard(where, len(content), hashlib.sha256(content).hexdigest())


def read_unlisted_shard(path: Path, header: StoreHeader) -> Shard:
    """Check a shard that a run finished but ended before listing.

    Raises:
        DataError: It is no shard, of other INRs than the header's, or was altered.
    """
    tensors, note = _read_file(path, "not a shard of an INR store ({error}); delete it")
    if note.fingerprint != header.fingerprint or path.name != note.range.file_name:
        raise DataError(
            f"{path}: left by an unfinished fit with another architecture, recipe, seed or dataset "
            "than this run's; give another folder, or delete this one"
        )
    if payload_sha256(tensors) != note.payload_sha256:
        raise DataError(f"{path}: the shard was altered after it was written; delete it")
    read_shard(path, note.range, header)
    return Shard(note.range, path.stat().st_size, file_sha256(path))


@dataclass(frozen=True)
class _Note:
    """What a shard's metadata say of it."""

    range: ShardRange
    fingerprint: str
    payload_sha256: str


def _read_file(path: Path, message: str) -> tuple[dict[str, Tensor], _Note]:
    """Map a shard's tensors into memory, and read its note."""
    check_regular(path)
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
        note = json.loads(metadata[_METADATA_KEY])
        where = ShardRange(note["split"], note["view"], note["start"], note["stop"])
        _ = where.file_name  # of what is no range, there is none
        return tensors, _Note(where, note["fingerprint"], note["payload_sha256"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: {message.format(error=error)}") from error


def read_shard(path: Path, where: ShardRange, header: StoreHeader) -> tuple[WeightBatch, Tensor]:
    """Map one shard's INRs and PSNRs into memory, and check all but its sum.

    Raises:
        DataError: The file cannot be read, or its tensors are not those of that range and header.
    """
    tensors, note = _read_file(path, "not a readable shard ({error})")
    expected: dict[str, tuple[int, ...]] = {name: (len(where),) for name in header.columns}
    expected["parameters"] = (len(where), header.architecture.num_parameters)
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if found != expected:
        raise DataError(f"{path}: expected tensors of shapes {expected}, found {found}")
    for name, dtype in header.columns.items():
        if tensors[name].dtype != dtype:
            raise DataError(f"{path}: {name} must be {dtype}, found {tensors[name].dtype}")
    if note.range != where:
        raise DataError(f"{path}: holds the INRs of {note.range.file_name}")
    if note.fingerprint != header.fingerprint:
        raise DataError(
            f"{path}: of other INRs than {INDEX_NAME} describes: another architecture, recipe, "
            "seed or dataset, or other classes"
        )
    fields = {name: tensors[name] for name in COLUMNS if name != "psnr"}
    batch = WeightBatch(header.architecture, **fields)
    _check_values(path, where, header, batch)
    return batch, tensors["psnr"]


def read_measures(directory: Path, where: ShardRange, header: StoreHeader) -> dict[str, Tensor]:
    """Read what a shard, checked before, knows of its INRs beside the PSNR: (n,) by name.

    Raises:
        DataError: The file cannot be read.
    """
    return read_columns(directory / where.file_name, header.measures)


def read_psnr(directory: Path, where: ShardRange) -> Tensor:
    """Read the PSNR (n,) of a shard's INRs, without checking the shard.

    Raises:
        DataError: The file cannot be read.
    """
    return read_columns(directory / where.file_name, ("psnr",))["psnr"]


def read_object_ids(directory: Path, where: ShardRange) -> Tensor:
    """Read which objects a shard holds, (n,) int64.

    Raises:
        DataError: The file cannot be read.
    """
    return read_columns(directory / where.file_name, ("object_id",))["object_id"]


def read_columns(path: Path, names: Iterable[str]) -> dict[str, Tensor]:
    """Read some of the tensors of a shard, by name.

    Raises:
        DataError: The file cannot be read, or has none of a name.
    """
    check_regular(path)
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in names}
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
    low, high = (int(bound) for bound in torch.aminmax(batch.label)) if len(batch) else (0, 0)
    if low < 0 or high >= header.num_labels:
        raise DataError(
            f"{path}: labels from {low} to {high}, expected 0 to {header.num_labels - 1} for the "
            f"{counted(len(header.classes), 'class', 'classes')}"
        )
    if (batch.object_id < 0).any():
        raise DataError(f"{path}: object_id {int(batch.object_id.min())}, expected none below 0")
    if (batch.view != where.view).any():
        raise DataError(f"{path}: holds another view than the {where.view} of its name")


def check_file(directory: Path, shard: Shard, header: StoreHeader) -> None:
    """Check that a listed shard is there, with its size, without reading it.

    Raises:
        DataError: It is not.
    """
    path = directory / shard.range.file_name
    if not os.path.exists(path):
        raise DataError(f"{path}: the shard is missing")
    check_regular(path)
    if path.stat().st_size != shard.num_bytes:
        raise DataError(
            f"{path}: {path.stat().st_size} bytes, expected {shard.num_bytes}; "
            "the shard is truncated or altered. Delete it and run 'inrs fit' again"
        )
    needed = 4 * len(shard.range) * header.architecture.num_parameters
    if shard.num_bytes < needed:  # so that no table is made for INRs that are not there
        raise DataError(
            f"{path}: {shard.num_bytes} bytes cannot hold {counted(len(shard.range), 'INR')} of "
            f"{header.architecture.num_parameters} parameters"
        )


def read_checked_shard(
    directory: Path, shard: Shard, header: StoreHeader
) -> tuple[WeightBatch, Tensor]:
    """Map a listed shard's INRs and PSNRs into memory, its sum and all else checked.

    Raises:
        DataError: The shard was altered, or cannot be read.
    """
    check_file(directory, shard, header)
    path = directory / shard.range.file_name
    if file_sha256(path) != shard.sha256:
        raise DataError(
            f"{path}: its SHA-256 is not the one in {INDEX_NAME}; the shard was altered. "
            "Delete it and run 'inrs fit' again to fit it anew"
        )
    return read_shard(path, shard.range, header)
