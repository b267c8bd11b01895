"""``dataset.json``, the index of a store: what its INRs share, and its shards with their sums.

The index has a sum of its own, over its content whatever the layout of the text, so that one that
was changed is told wherever the store is opened. Version 1 had none and is still read: there, what
a shard says of itself tells other classes or settings than it was written with.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lightning_dws.counting import counted
from lightning_dws.errors import DataError
from lightning_dws.files import check_regular, json_sha256, write_atomically
from lightning_dws.inrs.signals import SPLITS
from lightning_dws.inrs.store.header import UNREADABLE, StoreHeader
from lightning_dws.inrs.store.shards import INDEX_NAME, Shard, ShardRange

FORMAT_NAME = "lightning_dws INR store"
FORMAT_VERSION = 2
_VERSION_WITHOUT_SUM = 1
_SUM = "sha256"


@dataclass(frozen=True)
class StoreIndex:
    """What a store's ``dataset.json`` says.

    Attributes:
        header: What all INRs share.
        shards: In the order of splits, views and objects.
    """

    header: StoreHeader
    shards: list[Shard]


def read_index(directory: Path) -> StoreIndex:
    """Read a store's index and check it against its own sum; no shard is looked at.

    Raises:
        DataError: There is no index, it cannot be read, or it was changed.
    """
    path = directory / INDEX_NAME
    plain = _read_plain(directory)
    try:
        header = StoreHeader.from_dict(plain)
        shards = [_parse_shard(entry) for entry in plain["shards"]]
        _ = header.fingerprint  # of data too deeply nested, there is none
        found = _sum_of(plain)
    except UNREADABLE as error:
        raise DataError(
            f"{path}: not an index of an INR store ({type(error).__name__}: {error})"
        ) from error
    if not shards:
        raise DataError(f"{path}: lists no shards")
    _check_gaps(path, shards)
    if plain.get("version") != _VERSION_WITHOUT_SUM or _SUM in plain:
        _check_sum(path, plain.get(_SUM), found)
    return StoreIndex(header, shards)


def write_index(directory: Path, header: StoreHeader, shards: Iterable[Shard]) -> None:
    """Publish a store: write its ``dataset.json`` atomically."""
    ordered = sorted(
        shards, key=lambda s: (SPLITS.index(s.range.split), s.range.view, s.range.start)
    )
    index = {
        "format": FORMAT_NAME,
        "version": FORMAT_VERSION,
        **header.to_dict(),
        **({} if header.preparation is None else {"preparation": header.preparation}),
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
    index[_SUM] = _sum_of(index)
    write_atomically(directory / INDEX_NAME, (json.dumps(index, indent=1) + "\n").encode())


def _sum_of(plain: dict[str, Any]) -> str:
    """Give the SHA-256 of an index's content, but for the sum itself."""
    return json_sha256({name: value for name, value in plain.items() if name != _SUM})


def _check_sum(path: Path, expected: Any, found: str) -> None:
    if expected != found:
        raise DataError(
            f"{path}: was changed after it was written: its SHA-256 is {found}, {expected} is "
            "noted in it. Delete it and run the same 'inrs fit' or 'inrs import' again, which "
            "lists the shards anew and keeps them"
        )


def _read_plain(directory: Path) -> dict[str, Any]:
    path = directory / INDEX_NAME
    if not path.exists():
        shards = len(list(directory.glob("*.safetensors")))
        unfinished = f"an unfinished store with {counted(shards, 'shard')}"
        state = unfinished if shards else "no INR store"
        raise DataError(
            f"{directory}: {state} (there is no {INDEX_NAME}); 'zoo fit' makes a store of CNNs, "
            "'inrs fit' one of INRs, 'inrs import' and 'zoo import' read published ones"
        )
    check_regular(path)
    try:
        index = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    if not isinstance(index, dict) or index.get("format") != FORMAT_NAME:
        raise DataError(f"{path}: not the index of an INR store")
    if index.get("version") not in (_VERSION_WITHOUT_SUM, FORMAT_VERSION):
        raise DataError(
            f"{path}: version {index.get('version')!r}, this release reads "
            f"{_VERSION_WITHOUT_SUM} and {FORMAT_VERSION}"
        )
    return index


def _parse_shard(entry: dict[str, Any]) -> Shard:
    where = ShardRange(
        str(entry["split"]), int(entry["view"]), int(entry["start"]), int(entry["stop"])
    )
    if where.split not in SPLITS or not 0 <= where.start < where.stop or where.view < 0:
        raise ValueError(f"shard {entry}")
    if entry["file"] != where.file_name:
        raise ValueError(f"file name {entry['file']!r}, expected {where.file_name!r}")
    return Shard(where, int(entry["bytes"]), str(entry["sha256"]))


def _check_gaps(path: Path, shards: list[Shard]) -> None:
    """Refuse views whose shards do not follow each other."""
    ends: dict[tuple[str, int], int] = {}
    for shard in shards:
        where = shard.range
        if where.start != ends.get((where.split, where.view), 0):
            raise DataError(f"{path}: {where.file_name} does not follow the shard before it")
        ends[where.split, where.view] = where.stop


def _describe_coordinates(header: StoreHeader) -> str:
    if not header.grid_shape:
        return "none: these networks are no INRs"
    if len(header.grid_shape) == 1:
        return "x from -1 to 1"
    if header.convention.is_volume:
        return "x first, all axes from -1 to 1, points page by page and row by row"
    if len(header.grid_shape) == 3:
        return "x, y, z from -1 to 1, each object in the unit sphere; signed distances, inside < 0"
    axis = {"xy": "x", "ij": "y"}[header.convention.axis_order]
    return f"{axis} first, both axes from -1 to 1, pixels row by row"
