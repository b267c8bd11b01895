"""What a folder holds of a store that is to be finished: shards, listed or not yet."""

from collections.abc import Collection, Iterable
from pathlib import Path

from lightning_dws.errors import DataError
from lightning_dws.inrs.store.header import StoreHeader
from lightning_dws.inrs.store.shards import INDEX_NAME, Shard, ShardRange, read_unlisted_shard
from lightning_dws.inrs.store.store import INRStore


def _covers(outer: ShardRange, inner: ShardRange) -> bool:
    return (outer.split, outer.view, outer.start) == (
        inner.split,
        inner.view,
        inner.start,
    ) and outer.stop >= inner.stop


def covering(where: ShardRange, existing: Iterable[ShardRange]) -> ShardRange | None:
    """Find a shard that holds all INRs of a range."""
    return next((other for other in existing if _covers(other, where)), None)


def find_superseded(existing: dict[ShardRange, Shard]) -> list[ShardRange]:
    """Find the shards whose INRs a longer shard holds as well."""
    return [
        where
        for where in existing
        if any(other != where and _covers(other, where) for other in existing)
    ]


def longest_prefix(where: ShardRange, existing: dict[ShardRange, Shard]) -> ShardRange | None:
    """Find a finished shard that holds the beginning of one to be fitted."""
    prefixes = [other for other in existing if _covers(where, other)]
    return max(prefixes, key=len, default=None)


def find_listed(directory: Path, header: StoreHeader) -> INRStore | None:
    """Open what is listed, once it is known to be of the same INRs; files may be missing."""
    if not (directory / INDEX_NAME).is_file():
        return None
    store = INRStore(directory, allow_missing=True)
    _compare(directory, store.header, header)
    return store


def find_unlisted(
    directory: Path,
    header: StoreHeader,
    listed: Collection[ShardRange],
    of_interest: Collection[ShardRange] | None = None,
) -> dict[ShardRange, Shard]:
    """Find the shards that were finished by a run that ended before listing them.

    Where only some ranges are of interest, only shards that begin as one of these are read.
    """
    known = {where.file_name for where in listed}
    paths = [path for path in directory.glob("*.safetensors") if path.name not in known]
    if of_interest is not None:
        beginnings = {where.file_name.rpartition("-")[0] for where in of_interest}
        paths = [path for path in paths if path.name.rpartition("-")[0] in beginnings]
    shards = [read_unlisted_shard(path, header) for path in sorted(paths)]
    return {shard.range: shard for shard in shards}


def _compare(directory: Path, found: StoreHeader, expected: StoreHeader) -> None:
    found_fields, expected_fields = found.to_dict(), expected.to_dict()
    for name in expected_fields | found_fields:  # either may have what the other lacks
        has, wanted = found_fields.get(name, "none"), expected_fields.get(name, "none")
        if has != wanted:
            raise DataError(
                f"{directory}: a store of another {name}: found {has}, expected {wanted}"
            )
