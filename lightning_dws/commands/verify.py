"""The command ``inrs verify``."""

import sys

from jsonargparse import Namespace
from jsonargparse.typing import PositiveInt

from lightning_dws.commands.originals import add_signals
from lightning_dws.counting import counted
from lightning_dws.errors import DataError
from lightning_dws.inrs.known_signals import find_originals
from lightning_dws.inrs.store import local_folder
from lightning_dws.inrs.store.index import read_index
from lightning_dws.inrs.store.verification import verify_store
from lightning_dws.parse_errors import ArgumentParser


def verify_parser() -> ArgumentParser:
    """Make the parser of ``inrs verify``."""
    parser = ArgumentParser(
        description="Check sums, shapes, finiteness, labels, duplicates; where the signals are at "
        "hand, compare objects, labels and classes with theirs, and render a sample."
    )
    parser.add_argument("directory", type=str, help="the store's folder, or its address")
    parser.add_argument(
        "--sample", type=PositiveInt, default=64, help="INRs to render, of each split and view"
    )
    add_signals(parser)
    return parser


def run_verify(options: Namespace) -> None:
    """Check a store.

    Raises:
        DataError: Something is wrong with it; what, was written to standard error.
    """
    folder = local_folder(options.directory)
    header = read_index(folder).header
    originals = find_originals(folder, header, options.signals)
    result = verify_store(folder, originals, options.sample)
    for problem in result.problems:
        sys.stderr.write(f"{problem}\n")
    noun = header.architecture.noun
    found = counted(result.num_inrs, noun.removesuffix("s"), noun)
    if result.problems:
        raise DataError(f"{folder}: problems: {len(result.problems)} in {found}")
    rendered = f"{result.num_rendered} rendered" if result.num_rendered else "none rendered"
    sys.stdout.write(f"{folder}: {found} verified, {rendered}\n")
