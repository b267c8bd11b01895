"""The commands ``inrs import`` and ``inrs export``."""

import sys
from typing import Literal

from jsonargparse import Namespace
from jsonargparse.typing import NonNegativeInt, PositiveFloat

from lightning_dws.errors import DataError
from lightning_dws.inrs.formats import (
    LAYOUTS,
    WRITABLE,
    INR2Vec,
    describe_bad,
    export_inrs,
    import_inrs,
)
from lightning_dws.parse_errors import ArgumentParser

ImportFormat = Literal[
    "dwsnets-mnist", "dwsnets-fmnist", "multiview", "nfn", "inr2vec", "state-dicts"
]
ExportFormat = Literal["dwsnets-mnist", "dwsnets-fmnist", "multiview", "nfn", "state-dicts"]


def import_parser() -> ArgumentParser:
    """Make the parser of ``inrs import``."""
    parser = ArgumentParser(
        allow_abbrev=False,
        description="Import a published dataset of INRs into a store; run it again to resume. "
        "Layouts: " + "; ".join(f"{name}: {kind.example}" for name, kind in LAYOUTS.items()),
    )
    parser.add_argument("--format", type=ImportFormat, required=True, help="the source's layout")
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
        "--widths", type=list[int] | None, default=None, help="of inr2vec's flat parameters"
    )
    return parser


def export_parser() -> ArgumentParser:
    """Make the parser of ``inrs export``."""
    parser = ArgumentParser(
        allow_abbrev=False, description="Write a store as the files of a published layout."
    )
    parser.add_argument("--format", type=ExportFormat, required=True, help="the layout")
    parser.add_argument("--source", type=str, required=True, help="the store's folder")
    parser.add_argument("--output", type=str, required=True, help="a new or empty folder")
    return parser


def run_import(options: Namespace) -> None:
    """Import, and report on standard error what was left out.

    Raises:
        DataError: Nothing was published; the message says why.
    """
    if options.widths is not None and options.format != INR2Vec.name:
        raise DataError(
            f"widths are read from the files of {options.format}; only inr2vec's need it"
        )
    try:
        layout = INR2Vec(tuple(options.widths)) if options.widths else LAYOUTS[options.format]()
    except DataError:
        raise
    except ValueError as error:
        raise DataError(str(error)) from error
    report = import_inrs(
        layout,
        options.source,
        options.output,
        skip_bad=options.skip_bad,
        w0=options.w0,
        activation=options.activation,
        output_offset=options.output_offset,
        num_val=options.num_val,
    )
    if report.bad:
        sys.stderr.write(f"left out {len(report.bad)}:\n{describe_bad(report.bad)}\n")
    for note in report.notes:
        sys.stderr.write(f"note: {note}\n")
    sys.stderr.write(f"{report.files_per_second:.0f} files/s\n")
    sys.stdout.write(f"{report.store.directory}\n")


def run_export(options: Namespace) -> None:
    """Export, and say on standard error what the layout has no place for.

    Raises:
        DataError: Nothing was written; the message says why.
    """
    report = export_inrs(WRITABLE[options.format](), options.source, options.output)
    for note in report.notes:
        sys.stderr.write(f"note: {note}\n")
    sys.stderr.write(f"{report.num_files} files, {report.files_per_second:.0f} files/s\n")
    sys.stdout.write(f"{options.output}\n")
