"""Read listed files and write them as shards, again only where a finished shard is not right."""

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_dws.counting import counted
from lightning_dws.errors import DataError
from lightning_dws.inrs.formats.layouts import FoundINR, Layout
from lightning_dws.inrs.formats.listing import ListedObject, Listing
from lightning_dws.inrs.formats.source import BadFile, Source
from lightning_dws.inrs.formats.source_function import SourceFunction
from lightning_dws.inrs.signals import SPLITS
from lightning_dws.inrs.store import ShardRange, StoreHeader, read_checked_shard, write_shard
from lightning_dws.inrs.store.shards import SHARD_SIZE
from lightning_dws.inrs.store.unfinished import UnfinishedStore
from lightning_dws.progress import FileProgress
from lightning_dws.weight_space import WeightBatch, require_inrs

_MAX_CHUNK_BYTES = 2**28


@dataclass(frozen=True)
class GoodObject:
    """An object, all of whose files could be read: one row a view."""

    listed: ListedObject
    label: int
    rows: tuple[Tensor, ...]


class Observations:
    """What is worth telling of the files that were read, though nothing is wrong with one alone."""

    def __init__(self) -> None:
        self._first_with: dict[bytes, str] = {}
        self._twins: list[tuple[str, str]] = []
        self._reordered: list[str] = []
        self._doubles: list[str] = []

    def add(self, found: FoundINR, path: str) -> None:
        """Take note of how a file's weights are written."""
        if found.is_reordered:
            self._reordered.append(path)
        if any(layer.weight.dtype == torch.float64 for layer in found.layers):
            self._doubles.append(path)

    def add_row(self, row: Tensor, path: str) -> None:
        """Compare a row (P,) with those of all files before it."""
        digest = hashlib.blake2b(row.numpy().tobytes(), digest_size=16).digest()
        known = self._first_with.setdefault(digest, path)
        if known != path:
            self._twins.append((known, path))

    def notes(self) -> list[str]:
        """Write them, a line each."""
        notes = []
        if self._twins:
            known, path = self._twins[0]
            notes.append(
                f"{counted(len(self._twins), 'file holds', 'files hold')} the very weights of "
                f"another one, first {path} those of {known}"
            )
        if self._reordered:
            notes.append(
                f"the layers of {counted(len(self._reordered), 'file')} are saved in another order "
                f"than their names say, first {self._reordered[0]}: the names were followed"
            )
        if self._doubles:
            notes.append(
                f"{counted(len(self._doubles), 'file holds', 'files hold')} float64, which is "
                f"rounded to float32, first {self._doubles[0]}"
            )
        return notes


@dataclass(frozen=True)
class Chunk:
    """Consecutive listed objects that become one shard a view."""

    split: str
    objects: Sequence[ListedObject]

    @property
    def num_views(self) -> int:
        return len(self.objects[0].paths)

    @property
    def num_files(self) -> int:
        return len(self.objects) * self.num_views


class Importer:
    """Writes what is listed into a store's folder.

    Args:
        layout: How the source is laid out.
        source: Its folder.
        listing: What it lists.
        function: What its weights compute.
        skip_bad: Whether it is published without the objects of bad files.

    Attributes:
        bad: What cannot be imported.
        observations: What is worth telling of the files.
    """

    def __init__(
        self,
        layout: Layout,
        source: Source,
        listing: Listing,
        function: SourceFunction,
        skip_bad: bool,
    ) -> None:
        self.bad = list(listing.bad)
        self.observations = Observations()
        self._layout = layout
        self._source = source
        self._listing = listing
        self._function = function
        self._skip_bad = skip_bad

    def run(self, store: UnfinishedStore, progress: FileProgress) -> list[ShardRange]:
        """Import what the store lacks; give all its shards, in order. Bad files end in ``bad``."""
        ranges: list[ShardRange] = []
        chunks = self._chunks(store.header.architecture.num_parameters)
        for split, of_split in itertools.groupby(chunks, lambda chunk: chunk.split):
            start = 0
            for chunk in of_split:
                finished = self._find_finished(chunk, start, store)
                found_done = finished is not None
                if finished is None:
                    good = self._read_chunk(chunk, store.header)
                    # with a bad file nothing will be published: only the reasons are collected
                    publishable = good and (self._skip_bad or not self.bad)
                    finished = self._write_chunk(split, start, good, store) if publishable else []
                progress.advance(chunk.num_files, found_done)
                if finished:
                    ranges += finished
                    start = finished[0].stop
        return ranges

    def _chunks(self, num_parameters: int) -> Iterator[Chunk]:
        for split in (name for name in SPLITS if self._listing.objects.get(name)):
            objects = self._listing.objects[split]
            num_bytes = 4 * num_parameters * len(objects[0].paths)
            size = min(SHARD_SIZE, max(1, _MAX_CHUNK_BYTES // num_bytes))
            for first in range(0, len(objects), size):
                yield Chunk(split, objects[first : first + size])

    def _read_chunk(self, chunk: Chunk, header: StoreHeader) -> list[GoodObject]:
        """Read the objects of a chunk; one with a bad file is left out in all views."""
        good = []
        for listed in chunk.objects:
            read = self._read_object(listed, header)
            if isinstance(read, BadFile):
                self.bad.append(read)
            else:
                good.append(read)
        return good

    def _read_object(self, listed: ListedObject, header: StoreHeader) -> GoodObject | BadFile:
        rows, label = [], listed.label
        for path in listed.paths:
            try:
                found = self._layout.read(self._source, path)
                label = _check_found(found, label, header)
                self._function.check_meaning(found.layers, found.frequencies)
                row = self._function.make_row(found.layers)
            except DataError as error:
                rest = "; its object is left out of every view" if len(listed.paths) > 1 else ""
                return BadFile(path, f"{error}{rest}")
            rows.append(row)
            self.observations.add(found, path)
            self.observations.add_row(row, path)
        assert label is not None
        return GoodObject(listed, label, tuple(rows))

    def _write_chunk(
        self, split: str, start: int, good: list[GoodObject], store: UnfinishedStore
    ) -> list[ShardRange]:
        store.withdraw()  # what it lists would no longer be what is there
        label = torch.tensor([one.label for one in good])
        object_id = torch.tensor([one.listed.object_id for one in good])
        unknown_psnr = torch.full((len(good),), torch.nan)
        header, ranges = store.header, []
        for view in range(len(good[0].rows)):
            batch = WeightBatch(
                header.architecture,
                torch.stack([one.rows[view] for one in good]),
                label,
                object_id,
                torch.full_like(object_id, view),
            )
            where = ShardRange(split, view, start, start + len(good))
            store.shards[where] = write_shard(
                store.directory, where, batch, unknown_psnr, header.fingerprint
            )
            ranges.append(where)
        return ranges

    def _find_finished(
        self, chunk: Chunk, start: int, store: UnfinishedStore
    ) -> list[ShardRange] | None:
        """Find the shards that an earlier run made of a chunk, if they are still right.

        They are if they are newer than all of the chunk's files, and if what they lack is still
        bad, which reports it again.
        """
        place = (chunk.split, start)
        ranges = [where for where in store.shards if (where.split, where.start) == place]
        ranges.sort(key=lambda where: where.view)
        views = [where.view for where in ranges]
        if views != list(range(chunk.num_views)) or len({where.stop for where in ranges}) > 1:
            return None
        batches = [
            read_checked_shard(store.directory, store.shards[where], store.header)[0]
            for where in ranges
        ]
        held = {tuple(batch.object_id.tolist()) for batch in batches}
        files = [store.directory / where.file_name for where in ranges]
        made_ns = min(path.stat().st_mtime_ns for path in files)
        ids = set(next(iter(held)))
        missing = [one for one in chunk.objects if one.object_id not in ids]
        kept = [path for one in chunk.objects if one.object_id in ids for path in one.paths]
        foreign = len(held) > 1 or len(ids) + len(missing) != len(chunk.objects)
        if foreign or any(self._source.changed_ns(path) >= made_ns for path in kept):
            return None
        again = [self._read_object(one, store.header) for one in missing]
        still_bad = [read for read in again if isinstance(read, BadFile)]
        if len(still_bad) < len(missing):
            return None
        self.bad += still_bad
        self._observe(chunk, batches)
        return ranges

    def _observe(self, chunk: Chunk, batches: list[WeightBatch]) -> None:
        """Compare the rows of shards that were finished before."""
        paths = {one.object_id: one.paths for one in chunk.objects}
        for view, batch in enumerate(batches):
            for row, object_id in zip(batch.parameters, batch.object_id.tolist(), strict=True):
                self.observations.add_row(row, paths[object_id][view])


def _check_found(found: FoundINR, label: int | None, header: StoreHeader) -> int:
    """Hold a file against the others, and give its label."""
    expected = require_inrs(header.architecture, "an import").widths
    if found.widths != expected:
        raise DataError(f"widths {found.widths}, expected {expected}")
    if found.label is not None and label is not None and found.label != label:
        raise DataError(f"label {found.label}, expected {label}")
    label = found.label if label is None else label
    if label is None:
        raise DataError("no label")
    if not 0 <= label < len(header.classes):
        raise DataError(f"label {label}, expected 0 to {len(header.classes) - 1}")
    return label
