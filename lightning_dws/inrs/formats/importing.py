"""Import published INRs into a store: streaming, shard by shard, resumable."""

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from lightning_dws.errors import DataError
from lightning_dws.inrs.formats.layouts import FoundINR, Layout
from lightning_dws.inrs.formats.listing import ListedObject, Listing
from lightning_dws.inrs.formats.progress import FileProgress
from lightning_dws.inrs.formats.source import BadFile, Source
from lightning_dws.inrs.locks import locked
from lightning_dws.inrs.preparation import SHARD_SIZE, make_directory
from lightning_dws.inrs.signals import SPLITS
from lightning_dws.inrs.store import (
    INDEX_NAME,
    INRStore,
    Shard,
    ShardRange,
    StoreHeader,
    read_shard,
    read_unlisted_shard,
    write_index,
    write_shard,
)
from lightning_dws.weight_space import INRArchitecture, WeightBatch

_MAX_CHUNK_BYTES = 2**28
_MAX_REPORTED = 20
_NUM_PROBED = 9
_IMAGE_SIZE = 28  # of MNIST and Fashion-MNIST; CIFAR-10's INRs have three outputs
_COLOUR_IMAGE_SIZE = 32
_SHAPE_GRID_SIZE = 32


@dataclass(frozen=True)
class ImportReport:
    """What an import did.

    Attributes:
        store: The finished store.
        bad: What was left out, and why.
        files_per_second: How fast files were read.
    """

    store: INRStore
    bad: list[BadFile]
    files_per_second: float


@dataclass(frozen=True)
class GoodObject:
    """An object, all of whose files could be read: one row a view."""

    listed: ListedObject
    label: int
    rows: tuple[Tensor, ...]


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


def import_inrs(
    layout: Layout,
    source: str | Path,
    output: str | Path,
    *,
    skip_bad: bool = False,
    w0: float | None = None,
    output_offset: float | None = None,
    num_val: int = 0,
    show_progress: bool = True,
) -> ImportReport:
    """Import a published dataset of INRs into a store.

    Files are read shard by shard. Stopped at any moment and called again, it continues behind
    the last finished shard whose files have not changed since.

    Args:
        layout: How the source is laid out.
        source: Its folder.
        output: The store's folder, made if missing.
        skip_bad: Leave out objects of which a file is bad, instead of refusing all.
        w0: Frequency of the SIRENs. Default: the layout's.
        output_offset: What the INRs add to their last layer. Default: the layout's.
        num_val: Hold out so many training objects, stratified, where the source has no
            validation split.
        show_progress: Show a progress bar with files per second and time left.

    Raises:
        DataError: The source is not of that layout, a file is bad, or the output holds
            something else; nothing is published then.
    """
    folder = Source(source)
    listing = layout.list_source(folder)
    if num_val:
        listing.hold_out(num_val)
    if not listing.num_files:
        raise _no_files(layout, folder, listing)
    importer = _Importer(layout, folder, listing, make_directory(output), skip_bad)
    offset = layout.output_offset if output_offset is None else output_offset
    header = importer.make_header(layout.w0 if w0 is None else w0, offset)
    with locked(importer.directory) as writable:
        if not writable:
            raise DataError(f"{importer.directory}: cannot be written")
        with FileProgress(listing.num_files, f"importing {layout.name}", show_progress) as progress:
            shards = importer.run(header, progress)
        if importer.bad and not skip_bad:
            raise _bad_files(folder, importer.bad)
        if not shards:
            raise _no_files(layout, folder, listing)
        _publish(importer.directory, header, shards)
    return ImportReport(INRStore(importer.directory), importer.bad, progress.files_per_second)


def describe_bad(bad: Sequence[BadFile]) -> str:
    """Write bad files and their reasons, one a line, the first of many."""
    lines = [str(item) for item in bad[:_MAX_REPORTED]]
    if len(bad) > _MAX_REPORTED:
        lines.append(f"and {len(bad) - _MAX_REPORTED} more")
    return "\n".join(lines)


def _bad_files(source: Source, bad: Sequence[BadFile]) -> DataError:
    return DataError(
        f"{source.directory}: {len(bad)} bad files, nothing is published; repair them or leave "
        f"them out with --skip-bad: {describe_bad(bad)}".replace("\n", "; ")
    )


def _no_files(layout: Layout, source: Source, listing: Listing) -> DataError:
    found = f": {describe_bad(listing.bad)}".replace("\n", "; ") if listing.bad else ""
    return DataError(f"{source.directory}: no INRs of layout {layout.name}{found}")


def _choose_grid(architecture: INRArchitecture) -> tuple[int, ...]:
    """Choose the points to show INRs at: published ones do not say which they were fitted on."""
    if architecture.in_features == 3:
        return (_SHAPE_GRID_SIZE,) * 3
    if architecture.in_features == 2:
        return (_COLOUR_IMAGE_SIZE if architecture.out_features == 3 else _IMAGE_SIZE,) * 2
    raise DataError(
        f"INRs of widths {architecture.widths} with {architecture.in_features} inputs, expected 2 "
        "(an image's) or 3 (a shape's)"
    )


class _Importer:
    def __init__(
        self, layout: Layout, source: Source, listing: Listing, directory: Path, skip_bad: bool
    ) -> None:
        self.directory = directory
        self.bad = list(listing.bad)
        self._layout = layout
        self._source = source
        self._listing = listing
        self._skip_bad = skip_bad

    def make_header(self, w0: float, output_offset: float) -> StoreHeader:
        """Describe the store to be, from what is listed and the shapes of the first files."""
        layout, widths = self._layout, self._find_widths()
        try:
            architecture = INRArchitecture(widths, w0=w0, output_offset=output_offset)
        except ValueError as error:
            raise DataError(str(error)) from error
        return StoreHeader(
            architecture=architecture,
            classes=self._listing.classes,
            signals=layout.name,
            grid_shape=_choose_grid(architecture),
            recipe={
                "imported": layout.name,
                "listing_sha256": self._listing.sha256,
                **self._listing.notes,
            },
            seed=0,
            convention=layout.convention,
        )

    def _find_widths(self) -> tuple[int, ...]:
        """Give the widths that most of the first readable files have.

        Raises:
            DataError: No file can be read.
        """
        found: list[tuple[int, ...]] = []
        bad: list[BadFile] = []
        paths = (path for part in self._objects() for one in part for path in one.paths)
        while len(found) < _NUM_PROBED and (path := next(paths, None)) is not None:
            try:
                found.append(self._layout.read(self._source, path).widths)
            except DataError as error:
                bad.append(BadFile(path, str(error)))
        if not found:
            raise _bad_files(self._source, self.bad + bad)
        return Counter(found).most_common(1)[0][0]

    def run(self, header: StoreHeader, progress: FileProgress) -> list[Shard]:
        """Import what is not yet; give all shards, in order. Bad files end up in ``bad``."""
        known = _find_shards(self.directory, header)
        shards: list[Shard] = []
        chunks = self._chunks(header.architecture.num_parameters)
        for split, of_split in itertools.groupby(chunks, lambda chunk: chunk.split):
            start = 0
            for chunk in of_split:
                finished = self._find_finished(chunk, start, known, header)
                found_done = finished is not None
                if finished is None:
                    good = self._read_chunk(chunk, header)
                    # with a bad file nothing will be published: only the reasons are collected
                    publishable = good and (self._skip_bad or not self.bad)
                    finished = self._write_chunk(split, start, good, header) if publishable else []
                progress.advance(chunk.num_files, found_done)
                if finished:
                    shards += finished
                    start = finished[0].range.stop
        return shards

    def _objects(self) -> Iterator[list[ListedObject]]:
        return (self._listing.objects[s] for s in SPLITS if s in self._listing.objects)

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
            except DataError as error:
                rest = "; its object is left out of every view" if len(listed.paths) > 1 else ""
                return BadFile(path, f"{error}{rest}")
            rows.append(found.row)
        assert label is not None
        return GoodObject(listed, label, tuple(rows))

    def _write_chunk(
        self, split: str, start: int, good: list[GoodObject], header: StoreHeader
    ) -> list[Shard]:
        # what is listed would no longer be what is there
        (self.directory / INDEX_NAME).unlink(missing_ok=True)
        label = torch.tensor([one.label for one in good])
        object_id = torch.tensor([one.listed.object_id for one in good])
        unknown_psnr = torch.full((len(good),), torch.nan)
        shards = []
        for view in range(len(good[0].rows)):
            batch = WeightBatch(
                header.architecture,
                torch.stack([one.rows[view] for one in good]),
                label,
                object_id,
                torch.full_like(object_id, view),
            )
            where = ShardRange(split, view, start, start + len(good))
            shard = write_shard(self.directory, where, batch, unknown_psnr, header.fingerprint)
            shards.append(shard)
        return shards

    def _find_finished(
        self, chunk: Chunk, start: int, known: dict[ShardRange, Shard], header: StoreHeader
    ) -> list[Shard] | None:
        """Find the shards that an earlier run made of a chunk, if they are still right.

        They are if they are newer than all of the chunk's files, and if what they lack is still
        bad, which reports it again.
        """
        first = [
            s for s in known.values() if (s.range.split, s.range.start) == (chunk.split, start)
        ]
        shards = sorted(first, key=lambda shard: shard.range.view)
        views = [shard.range.view for shard in shards]
        if views != list(range(chunk.num_views)) or len({s.range.stop for s in shards}) > 1:
            return None
        paths = [self.directory / shard.range.file_name for shard in shards]
        batches = (read_shard(p, s.range, header)[0] for p, s in zip(paths, shards, strict=True))
        held = {tuple(batch.object_id.tolist()) for batch in batches}
        made_ns = min(path.stat().st_mtime_ns for path in paths)
        ids = set(next(iter(held)))
        missing = [one for one in chunk.objects if one.object_id not in ids]
        kept = [path for one in chunk.objects if one.object_id in ids for path in one.paths]
        foreign = len(held) > 1 or len(ids) + len(missing) != len(chunk.objects)
        if foreign or any(self._source.changed_ns(path) >= made_ns for path in kept):
            return None
        again = [self._read_object(one, header) for one in missing]
        still_bad = [read for read in again if isinstance(read, BadFile)]
        if len(still_bad) < len(missing):
            return None
        self.bad += still_bad
        return shards


def _check_found(found: FoundINR, label: int | None, header: StoreHeader) -> int:
    """Hold a file against the others, and give its label."""
    if found.widths != header.architecture.widths:
        raise DataError(f"widths {found.widths}, expected {header.architecture.widths}")
    if found.label is not None and label is not None and found.label != label:
        raise DataError(f"label {found.label}, expected {label}")
    label = found.label if label is None else label
    if label is None:
        raise DataError("no label")
    if not 0 <= label < len(header.classes):
        raise DataError(f"label {label}, expected 0 to {len(header.classes) - 1}")
    return label


def _find_shards(directory: Path, header: StoreHeader) -> dict[ShardRange, Shard]:
    """Find the shards of an earlier run of the same import.

    Raises:
        DataError: The folder holds something else.
    """
    if (directory / INDEX_NAME).is_file():
        found = INRStore(directory, allow_missing=True).header
        if found.fingerprint != header.fingerprint:
            raise DataError(
                f"{directory}: holds a store of something else, or the source lists other files "
                "than when it was imported; give another folder"
            )
    shards = [read_unlisted_shard(path, header) for path in sorted(directory.glob("*.safetensors"))]
    return {shard.range: shard for shard in shards}


def _publish(directory: Path, header: StoreHeader, shards: list[Shard]) -> None:
    """List all shards, and delete what earlier runs left over."""
    write_index(directory, header, shards)
    listed = {shard.range.file_name for shard in shards}
    for path in [*directory.glob("*.safetensors"), *directory.glob(".*.partial")]:
        if path.name not in listed:
            path.unlink()
