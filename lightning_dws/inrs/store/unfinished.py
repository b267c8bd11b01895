"""A store that is being filled: what its folder holds already, and how it is published."""

from collections.abc import Collection, Iterable
from pathlib import Path

from lightning_dws.errors import DataError
from lightning_dws.inrs.store.header import StoreHeader
from lightning_dws.inrs.store.index import write_index
from lightning_dws.inrs.store.shards import INDEX_NAME, Shard, ShardRange, read_unlisted_shard
from lightning_dws.inrs.store.store import INRStore


class OtherStoreError(DataError):
    """A folder holds a store of other INRs than it is to hold."""


class UnfinishedStore:
    """A folder into which the shards of a store are written, until they are listed.

    Args:
        directory: The folder.
        header: What the store's INRs have in common.
        of_interest: Of the shards that are not listed, only those that begin as one of these
            are looked for. Default: all.

    Attributes:
        listed: The shards that the index lists; the files of some may be gone.
        shards: Those that are there, listed or not: the rest was left by a run that ended before
            it listed them. Whoever writes a shard adds it.

    Raises:
        DataError: The folder holds a store of other INRs, or a shard that is none of theirs.
    """

    def __init__(
        self,
        directory: Path,
        header: StoreHeader,
        of_interest: Collection[ShardRange] | None = None,
    ) -> None:
        store = open_listed(directory, header)
        self.directory = directory
        self.header = header
        self.listed = {shard.range: shard for shard in store.listed} if store else {}
        self._says_preparation = store is None or store.header.preparation is not None
        self.shards = {shard.range: shard for shard in store.shards} if store else {}
        for path in self._unlisted_files(of_interest):
            shard = read_unlisted_shard(path, header)
            self.shards[shard.range] = shard

    def _unlisted_files(self, of_interest: Collection[ShardRange] | None) -> list[Path]:
        known = {where.file_name for where in self.listed}
        paths = [path for path in self.directory.glob("*.safetensors") if path.name not in known]
        if of_interest is not None:
            beginnings = {where.file_name.rpartition("-")[0] for where in of_interest}
            paths = [path for path in paths if path.name.rpartition("-")[0] in beginnings]
        return sorted(paths)

    def missing(self, ranges: Iterable[ShardRange]) -> list[ShardRange]:
        """Give the ranges, each once, that no shard covers."""
        return [where for where in dict.fromkeys(ranges) if not is_covered(where, self.shards)]

    def longest_prefix(self, where: ShardRange) -> Shard | None:
        """Find a shard that holds the beginning of one to be made."""
        prefixes = [shard for own, shard in self.shards.items() if covers(where, own)]
        return max(prefixes, key=lambda shard: len(shard.range), default=None)

    def withdraw(self) -> None:
        """Delete the index, before what it lists changes."""
        (self.directory / INDEX_NAME).unlink(missing_ok=True)

    def publish(self, ranges: Collection[ShardRange] | None = None) -> None:
        """List shards, and delete all others, and what a killed run left half-written.

        An index that an earlier version wrote says from now on how files become such signals.

        Args:
            ranges: Of the shards. Default: all but those whose INRs a longer one holds as well.
        """
        if ranges is None:
            own = self.shards.keys()
            ranges = {where for where in own if not is_covered(where, own - {where})}
        kept = {where: self.shards[where] for where in ranges}
        tells_more = self.header.preparation is not None and not self._says_preparation
        if kept != self.listed or tells_more or not (self.directory / INDEX_NAME).is_file():
            write_index(self.directory, self.header, kept.values())
        names = {where.file_name for where in kept}
        for pattern in ("*.safetensors", ".*.partial"):
            for path in self.directory.glob(pattern):
                if path.name not in names:
                    path.unlink()


def covers(outer: ShardRange, inner: ShardRange) -> bool:
    """Whether a range begins with all of another."""
    begins = (outer.split, outer.view, outer.start) == (inner.split, inner.view, inner.start)
    return begins and outer.stop >= inner.stop


def is_covered(where: ShardRange, ranges: Iterable[ShardRange]) -> bool:
    """Whether any of some ranges begins with all of this one."""
    return any(covers(other, where) for other in ranges)


def open_listed(directory: Path, header: StoreHeader) -> INRStore | None:
    """Open what is listed, once it is known to be of the same INRs; files may be missing.

    Raises:
        OtherStoreError: It is not.
    """
    if not (directory / INDEX_NAME).is_file():
        return None
    store = INRStore(directory, allow_missing=True)
    found, expected = store.header.to_dict(), header.to_dict()
    for name in expected | found:  # either may have what the other lacks
        has, wanted = found.get(name, "none"), expected.get(name, "none")
        if has != wanted:
            raise OtherStoreError(
                f"{directory}: a store of another {name}: found {has}, expected {wanted}"
            )
    return store
