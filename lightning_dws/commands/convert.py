"""The commands ``inrs import`` and ``inrs export``."""

import sys
from dataclasses import replace
from typing import Any, Literal

from jsonargparse import Namespace
from jsonargparse.typing import NonNegativeInt, PositiveFloat

from lightning_dws.counting import counted
from lightning_dws.errors import DataError
from lightning_dws.fourier_encoding import FourierEncoding
from lightning_dws.inrs.formats import (
    LAYOUTS,
    WRITABLE,
    INR2Vec,
    Layout,
    StateDicts,
    WritableLayout,
    describe_bad,
    export_inrs,
    import_inrs,
)
from lightning_dws.inrs.store.convention import AXIS_ORDERS, ImageConvention
from lightning_dws.parse_errors import ArgumentParser

_OneOf: Any = Literal  # of names that are known when this runs


def import_parser() -> ArgumentParser:
    """Make the parser of ``inrs import``."""
    parser = ArgumentParser(
        description="Import a published dataset of INRs into a store; run it again to resume. "
        "Layouts: " + "; ".join(f"{name}: {kind.example}" for name, kind in LAYOUTS.items())
    )
    parser.add_argument(
        "--format",
        type=_OneOf[tuple(LAYOUTS)] | Layout,
        required=True,
        help="the source's layout, or the class path of another",
    )
    parser.add_argument("--source", type=str, required=True, help="the published folder")
    parser.add_argument("--output", type=str, required=True, help="the store's folder")
    parser.add_argument(
        "--skip-bad", action="store_true", help="leave out bad files instead of refusing all"
    )
    parser.add_argument(
        "--w0",
        type=PositiveFloat,
        nargs="+",
        default=None,
        help="frequency of the sines, or one for each hidden layer (siren-pytorch's are 30 1), of "
        "which the last holds for all that follow (default: 30)",
    )
    parser.add_argument(
        "--activation", type=Literal["sine", "relu"], default="sine", help="of the hidden layers"
    )
    parser.add_argument(
        "--output_offset",
        type=float | None,
        default=None,
        help="added to the last layer's output (default: the layout's, 0.5 or 0)",
    )
    parser.add_argument(
        "--num_val",
        type=NonNegativeInt,
        default=0,
        help="hold out so many training objects where the source has no validation split",
    )
    parser.add_argument(
        "--labels",
        type=str | None,
        default=None,
        help="of state-dicts that are in no folders of splits and classes: a CSV with a line "
        "FILE,CLASS, or FILE,CLASS,SPLIT, of each",
    )
    parser.add_argument(
        "--val_share",
        type=float | None,
        default=None,
        help="with labels that have no split val: the share held out for it (default: 0.1)",
    )
    parser.add_argument(
        "--test_share",
        type=float | None,
        default=None,
        help="with labels that have no splits: the share held out for test (default: 0.1)",
    )
    parser.add_argument(
        "--widths", type=list[int] | None, default=None, help="of inr2vec's flat parameters"
    )
    parser.add_argument(
        "--encoding",
        type=FourierEncoding | None,
        default=None,
        help="of the coordinates, in front of the first layer: '{\"frequencies\": [1, 2, 4]}' is "
        "NeRF's of three frequencies (default: none)",
    )
    parser.add_argument(
        "--axis_order",
        type=Literal[AXIS_ORDERS] | None,
        default=None,
        help="xy: the first input of an image's INR is the column; ij: the row, as of "
        "torch.meshgrid's default (default: the layout's, mostly xy)",
    )
    parser.add_argument(
        "--value_range",
        type=float,
        nargs=2,
        default=None,
        help="black and white as outputs, such as -1 1 (default: the layout's, mostly 0 1)",
    )
    parser.add_argument(
        "--grid_shape",
        type=int,
        nargs="+",
        default=None,
        help="points along each axis of what the INRs were fitted to, such as HEIGHT WIDTH, for "
        "pictures (default: 28 28, of colours 32 32)",
    )
    parser.add_argument(
        "--alpha", action="store_true", help="the last output is how opaque a pixel is"
    )
    parser.add_argument(
        "--volume",
        action="store_true",
        help="INRs with three inputs give the values of volumes, no signed distances of shapes",
    )
    return parser


def export_parser() -> ArgumentParser:
    """Make the parser of ``inrs export``."""
    parser = ArgumentParser(description="Write a store as the files of a published layout.")
    parser.add_argument(
        "--format",
        type=_OneOf[tuple(WRITABLE)] | WritableLayout,
        required=True,
        help="the layout, or the class path of another",
    )
    parser.add_argument("--source", type=str, required=True, help="the store's folder")
    parser.add_argument("--output", type=str, required=True, help="a new or empty folder")
    return parser


def run_import(options: Namespace) -> None:
    """Import, and report on standard error what was left out.

    Raises:
        DataError: Nothing was published; the message says why.
    """
    layout = _make_layout(options)
    report = import_inrs(
        layout,
        options.source,
        options.output,
        skip_bad=options.skip_bad,
        w0=options.w0,
        activation=options.activation,
        output_offset=options.output_offset,
        num_val=options.num_val,
        encoding=options.encoding,
        convention=_meaning(layout, options),
        grid_shape=options.grid_shape,
    )
    if report.bad:
        sys.stderr.write(f"left out {len(report.bad)}:\n{describe_bad(report.bad)}\n")
    notes = [*(f"note: {note}" for note in report.notes), f"{report.files_per_second:.0f} files/s"]
    sys.stderr.write("\n".join(notes) + "\n")
    sys.stdout.write(f"{report.store.directory}\n")


def _make_layout(options: Namespace) -> Layout:
    """Make the layout with the options that are its own.

    Raises:
        DataError: One of another layout is given, or does not fit the others.
    """
    layout: Layout | str = options.format
    name = layout if isinstance(layout, str) else layout.name
    shares = {"val_share": options.val_share, "test_share": options.test_share}
    shares = {option: share for option, share in shares.items() if share is not None}
    if options.widths is not None and name != INR2Vec.name:
        raise DataError(f"widths are read from the files of {name}; only inr2vec's need it")
    if options.labels is not None and layout != StateDicts.name:
        raise DataError(f"labels are for --format {StateDicts.name}, not for {name}")
    if shares and options.labels is None:
        raise DataError(
            f"{next(iter(shares))} is for files with --labels; to folders of splits --num_val "
            "gives a validation split"
        )
    if options.num_val and options.labels is not None:
        raise DataError("num_val is for folders of splits; with --labels --val_share is for that")
    try:
        if isinstance(layout, Layout):
            return layout
        if layout == INR2Vec.name and options.widths is not None:
            return INR2Vec(tuple(options.widths))
        if layout == StateDicts.name:
            return StateDicts(options.labels, **shares)
        return LAYOUTS[layout]()
    except DataError:
        raise
    except ValueError as error:
        raise DataError(str(error)) from error


def _meaning(layout: Layout, options: Namespace) -> ImageConvention:
    """Give the layout's convention, but for what the options say."""
    given: dict[str, Any] = {
        "axis_order": options.axis_order,
        "value_range": options.value_range,
        "has_alpha": options.alpha or None,
        "is_volume": options.volume or None,
    }
    try:
        changes = {name: value for name, value in given.items() if value is not None}
        return replace(layout.convention, **changes)
    except ValueError as error:
        raise DataError(str(error)) from error


def run_export(options: Namespace) -> None:
    """Export, and say on standard error what the layout has no place for.

    Raises:
        DataError: Nothing was written; the message says why.
    """
    layout: WritableLayout | str = options.format
    layout = WRITABLE[layout]() if isinstance(layout, str) else layout
    report = export_inrs(layout, options.source, options.output)
    for note in report.notes:
        sys.stderr.write(f"note: {note}\n")
    files = counted(report.num_files, "file")
    sys.stderr.write(f"{files}, {report.files_per_second:.0f} files/s\n")
    sys.stdout.write(f"{options.output}\n")
