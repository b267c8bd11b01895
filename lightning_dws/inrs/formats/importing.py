"""Import published INRs into a store: streaming, shard by shard, resumable."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lightning_dws.counting import counted
from lightning_dws.errors import DataError
from lightning_dws.files import make_directory
from lightning_dws.fourier_encoding import FourierEncoding
from lightning_dws.inrs.formats.importer import Importer
from lightning_dws.inrs.formats.layouts import FoundINR, Layout
from lightning_dws.inrs.formats.listing import ListedObject, Listing
from lightning_dws.inrs.formats.source import BadFile, Source
from lightning_dws.inrs.formats.source_function import SourceFunction
from lightning_dws.inrs.signals import SPLITS
from lightning_dws.inrs.store import INRStore, ShardRange, StoreHeader
from lightning_dws.inrs.store.convention import ImageConvention
from lightning_dws.inrs.store.grids import choose_grid
from lightning_dws.inrs.store.locks import locked
from lightning_dws.inrs.store.shards import read_shard
from lightning_dws.inrs.store.unfinished import OtherStoreError, UnfinishedStore
from lightning_dws.progress import FileProgress
from lightning_dws.weight_space import INRArchitecture, require_inrs

_MAX_REPORTED = 20
_NUM_PROBED = 9


@dataclass(frozen=True)
class ImportReport:
    """What an import did.

    Attributes:
        store: The finished store.
        bad: What was left out, and why.
        notes: What else is worth telling, a line each.
        files_per_second: How fast files were read.
    """

    store: INRStore
    bad: list[BadFile]
    notes: list[str]
    files_per_second: float


@dataclass(frozen=True)
class _Probe:
    """One of the first readable files."""

    split: str
    listed: ListedObject
    view: int
    found: FoundINR

    @property
    def path(self) -> str:
        return self.listed.paths[self.view]


def import_inrs(
    layout: Layout,
    source: str | Path,
    output: str | Path,
    *,
    skip_bad: bool = False,
    w0: float | Sequence[float] | None = None,
    activation: str = "sine",
    output_offset: float | None = None,
    num_val: int = 0,
    encoding: FourierEncoding | None = None,
    convention: ImageConvention | None = None,
    grid_shape: Sequence[int] | None = None,
    show_progress: bool = True,
) -> ImportReport:
    """Import a published dataset of INRs into a store.

    Files are read shard by shard. Stopped at any moment and called again, it continues behind
    the last finished shard whose files have not changed since. What one of the first INRs computes
    by its own layers is compared with what its row in the store does.

    Args:
        layout: How the source is laid out.
        source: Its folder.
        output: The store's folder, made if missing.
        skip_bad: Leave out objects of which a file is bad, instead of refusing all.
        w0: Frequency of the SIRENs, or one for each hidden layer, of which the last holds for all
            that follow: they are folded into the weights, and the store has the first. Default:
            the layout's.
        activation: ``"sine"`` or ``"relu"``.
        output_offset: What the INRs add to their last layer. Default: the layout's.
        num_val: Hold out so many training objects, stratified, where the source has no
            validation split.
        encoding: Of the coordinates, in front of the first layer. Default: none.
        convention: What the INRs' inputs and outputs mean. Default: the layout's.
        grid_shape: Points along each axis of what the INRs were fitted to, such as (height, width).
            Default: what INRs with so many inputs and outputs mostly have.
        show_progress: Show a progress bar with files per second and time left.

    Raises:
        DataError: The source is not of that layout, a file is bad, or the output holds
            something else; nothing is published then.
    """
    folder = Source(source)
    listing = layout.list_source(folder)
    if num_val:
        listing.hold_out(num_val, lambda listed: _read_label(layout, folder, listed))
    if not listing.num_files:
        raise _no_files(layout, folder, listing)
    function = SourceFunction(
        w0=_to_tuple(layout.w0 if w0 is None else w0),
        w0_is_given=w0 is not None,
        activation=activation,
        output_offset=layout.output_offset if output_offset is None else output_offset,
        encoding=encoding,
    )
    probes = _probe(layout, folder, listing)
    architecture = function.make_architecture(probes[0].found.widths)
    meaning = layout.convention if convention is None else convention
    meaning.check(architecture)
    grid = choose_grid(architecture) if grid_shape is None else tuple(grid_shape)
    if len(grid) != architecture.in_features or min(grid) < 1:
        raise DataError(
            f"grid_shape {list(grid)}, expected {architecture.in_features} numbers of at least 1, "
            "one for each input of the INRs"
        )
    header = _make_header(layout, listing, function, architecture, meaning, grid)
    checked = _compare_one(folder, probes, function)
    directory = make_directory(output)
    importer = Importer(layout, folder, listing, function, skip_bad)
    with locked(directory) as writable:
        if not writable:
            raise DataError(f"{directory}: cannot be written")
        try:
            store = UnfinishedStore(directory, header)
        except OtherStoreError as error:
            raise DataError(
                f"{directory}: holds a store of something else, or the source lists other files "
                "than when it was imported; give another folder"
            ) from error
        with FileProgress(listing.num_files, f"importing {layout.name}", show_progress) as progress:
            ranges = importer.run(store, progress)
        if importer.bad and not skip_bad:
            raise _bad_files(folder, importer.bad)
        if not ranges:
            raise _no_files(layout, folder, replace(listing, bad=importer.bad))
        _check_rows(probes, function, store, ranges)
        store.publish(ranges)
    inrs = require_inrs(header.architecture, "an import")
    notes = [_describe(function, inrs), checked, *importer.observations.notes()]
    if layout.is_anybodys:
        notes += _describe_meaning(header, inrs, grid_shape is not None)
    notes += [f"left out: {line}" for line in listing.left_out]
    if listing.passed_over:
        passed_over = counted(
            len(listing.passed_over),
            "file of weights is not of the layout or not in its list, and was",
            "files of weights are not of the layout or not in its list, and were",
        )
        notes.append(f"{passed_over} passed over, first {listing.passed_over[0][:200]}")
    return ImportReport(INRStore(directory), importer.bad, notes, progress.files_per_second)


def describe_bad(bad: Sequence[BadFile]) -> str:
    """Write bad files and their reasons, one a line, the first of many."""
    lines = [str(item) for item in bad[:_MAX_REPORTED]]
    if len(bad) > _MAX_REPORTED:
        lines.append(f"and {len(bad) - _MAX_REPORTED} more")
    return "\n".join(lines)


def _bad_files(source: Source, bad: Sequence[BadFile]) -> DataError:
    files, them = counted(len(bad), "bad file"), "it" if len(bad) == 1 else "them"
    return DataError(
        f"{source.directory}: {files}, nothing is published; repair {them} or leave "
        f"{them} out with --skip-bad: {describe_bad(bad)}".replace("\n", "; ")
    )


def _no_files(layout: Layout, source: Source, listing: Listing) -> DataError:
    found = f": {describe_bad(listing.bad)}".replace("\n", "; ") if listing.bad else ""
    return DataError(
        f"{source.directory}: no INRs of layout {layout.name}, expected {layout.example}; "
        f"{source.describe()}{found}"
    )


def _read_label(layout: Layout, source: Source, listed: ListedObject) -> int:
    """Read the label inside an object's file; where that is bad, the import will say so."""
    try:
        return layout.read(source, listed.paths[0]).label or 0
    except DataError:
        return 0


def _to_tuple(w0: float | Sequence[float]) -> tuple[float, ...]:
    return tuple(map(float, w0)) if isinstance(w0, Sequence) else (float(w0),)


def _probe(layout: Layout, source: Source, listing: Listing) -> list[_Probe]:
    """Read the first readable files, and give those of the widths that most of them have.

    Raises:
        DataError: No file can be read.
    """
    found: list[_Probe] = []
    bad: list[BadFile] = []
    places = (
        (split, listed, view)
        for split in SPLITS
        for listed in listing.objects.get(split, [])
        for view in range(len(listed.paths))
    )
    while len(found) < _NUM_PROBED and (place := next(places, None)) is not None:
        path = place[1].paths[place[2]]
        try:
            found.append(_Probe(*place, layout.read(source, path)))
        except DataError as error:
            bad.append(BadFile(path, str(error)))
    if not found:
        raise _bad_files(source, listing.bad + bad)
    widths = Counter(probe.found.widths for probe in found).most_common(1)[0][0]
    return [probe for probe in found if probe.found.widths == widths]


def _make_header(
    layout: Layout,
    listing: Listing,
    function: SourceFunction,
    architecture: INRArchitecture,
    convention: ImageConvention,
    grid_shape: tuple[int, ...],
) -> StoreHeader:
    """Describe the store to be."""
    # imports with one frequency are described as they were before there could be several
    hidden = len(architecture.widths) - 2
    w0 = {"w0": list(function.layer_w0(hidden))} if function.is_folded else {}
    return StoreHeader(
        architecture=architecture,
        classes=listing.classes,
        signals=layout.name,
        grid_shape=grid_shape,
        recipe={"imported": layout.name, "listing_sha256": listing.sha256, **w0, **listing.notes},
        seed=0,
        convention=convention,
    )


def _compare_one(source: Source, probes: list[_Probe], function: SourceFunction) -> str:
    """Hold one INR's row against what its own layers compute, and say how far they agree.

    Raises:
        DataError: They do not agree, or no INR can be computed.
    """
    bad: list[BadFile] = []
    for probe in probes:
        layers = probe.found.layers
        try:
            row = function.make_row(layers)
        except DataError as error:
            bad.append(BadFile(probe.path, str(error)))
            continue
        try:
            function.check_meaning(layers, probe.found.frequencies)
            difference = function.compare(layers, row)
        except DataError as error:
            raise DataError(f"{source.directory / probe.path}: {error}") from error
        if difference is not None:
            return (
                f"{probe.path} computed by its own layers and from the store: they differ by "
                f"{difference:.1g} at most"
            )
        bad.append(BadFile(probe.path, "its outputs are not finite in float32"))
    raise _bad_files(source, bad)


def _check_rows(
    probes: list[_Probe],
    function: SourceFunction,
    store: UnfinishedStore,
    ranges: Sequence[ShardRange],
) -> None:
    """Find the probed files' rows in the finished shards, bit for bit.

    Raises:
        DataError: One is another than its file says: the file changed meanwhile, or the disk errs.
    """
    first = {(where.split, where.view): where for where in ranges if where.start == 0}
    for place in {(probe.split, probe.view) for probe in probes} & first.keys():
        where = first[place]
        batch, _ = read_shard(store.directory / where.file_name, where, store.header)
        for probe in (one for one in probes if (one.split, one.view) == place):
            own = batch.object_id == probe.listed.object_id
            rows = batch.parameters[own]
            if len(rows) and not rows[0].equal(function.make_row(probe.found.layers)):
                raise DataError(f"{probe.path}: changed while it was imported; import it again")


def _describe_meaning(
    header: StoreHeader, architecture: INRArchitecture, grid_is_given: bool
) -> list[str]:
    """Say what nothing tells of the INRs' inputs and outputs, and is therefore taken for so."""
    notes = []
    if architecture.in_features == 3 and not header.convention.is_volume:
        notes.append(
            "INRs with three inputs are taken for signed distances of shapes; --volume says that "
            "they give the values of volumes"
        )
    if not grid_is_given:
        grid = " x ".join(map(str, header.grid_shape))
        notes.append(f"drawn on {grid} points, as such INRs mostly are; --grid_shape says others")
    return notes


def _describe(function: SourceFunction, architecture: INRArchitecture) -> str:
    """Say what the files do not, and was therefore taken for granted."""
    given = "" if function.w0_is_given else " (the layout's; --w0 gives another)"
    frequencies = ", ".join(
        f"{own:g}" for own in function.layer_w0(len(architecture.hidden_widths))
    )
    folded = f"w0 {frequencies} by layer, folded into weights of w0 {architecture.w0:g}"
    w0 = folded if function.is_folded else f"w0 {architecture.w0:g}{given}"
    activation = w0 if function.activation == "sine" else f"activation {function.activation}"
    encoding = "" if architecture.encoding is None else f"{architecture.encoding}, "
    return f"{encoding}{activation}, output offset {architecture.output_offset:g}"
