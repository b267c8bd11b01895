"""The command ``inrs browse``."""

import sys
from pathlib import Path

from jsonargparse import Namespace
from jsonargparse.typing import PositiveInt

from lightning_dws.counting import counted
from lightning_dws.inrs.store import INRStore, is_address
from lightning_dws.page import choose_inrs, write_page
from lightning_dws.parse_errors import ArgumentParser
from lightning_dws.prediction.predicted_classes import read_predicted_classes


def browse_parser() -> ArgumentParser:
    """Make the parser of ``inrs browse``."""
    parser = ArgumentParser(
        description="Write one HTML file that shows INRs of lines, images, volumes or shapes, and "
        "evaluates, augments and mixes them in the browser. It needs no network and no other file."
    )
    parser.add_argument("directory", type=str, help="the store's folder, or its address")
    parser.add_argument(
        "--output", type=str | None, default=None, help="the page (default: DIR/inrs.html)"
    )
    parser.add_argument("--split", type=str, default="train", help="where the INRs come from")
    parser.add_argument(
        "--num_inrs",
        type=PositiveInt | None,
        default=None,
        help="how many, spread evenly over the classes (default: 200, or as many as make a file of "
        "less than 3 MB)",
    )
    parser.add_argument(
        "--views", type=PositiveInt, default=1, help="how many neural views of each object"
    )
    parser.add_argument(
        "--predictions",
        type=str | None,
        default=None,
        help="a CSV that 'predict' wrote: shows the INRs that it names, and filters by what was "
        "predicted",
    )
    return parser


def run_browse(options: Namespace) -> None:
    """Write the page, and say where it is.

    Raises:
        DataError: The store or the predictions cannot be read, the INRs encode something that a
            page does not show, or the file cannot be written.
    """
    store = INRStore(options.directory)
    predictions = options.predictions and read_predicted_classes(options.predictions, store.classes)
    contents = choose_inrs(
        store,
        options.split,
        num_inrs=options.num_inrs,
        views=options.views,
        predictions=predictions,
    )
    folder = Path() if is_address(options.directory) else store.directory
    path = Path(options.output) if options.output else folder / "inrs.html"
    size = write_page(path, contents)
    sys.stdout.write(f"{path}: {counted(len(contents.inrs), 'INR')}, {size / 1e6:.1f} MB\n")
