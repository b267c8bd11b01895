"""The commands about zoos of small CNNs: ``zoo fit`` and its like."""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import mean

from jsonargparse import Namespace
from jsonargparse.typing import NonNegativeInt, OpenUnitInterval, PositiveInt

from lightning_dws.config_files import expand_includes
from lightning_dws.errors import DataError
from lightning_dws.files import make_directory, write_atomically
from lightning_dws.inrs.store import INRStore
from lightning_dws.parse_errors import ArgumentParser
from lightning_dws.program import program
from lightning_dws.zoo import ZooSpec, import_zoo, prepare_zoo, score_baselines
from lightning_dws.zoo.published_files import EXAMPLE

_Command = tuple[Callable[[], ArgumentParser], Callable[[Namespace], None], str]


def fit_zoo_parser() -> ArgumentParser:
    """Make the parser of ``zoo fit``."""
    parser = ArgumentParser(description="Train a zoo of CNNs; what is trained already is kept.")
    parser.add_argument("--config", action="config", help="a file such as conf/zoo/digits.yaml")
    parser.add_class_arguments(ZooSpec)
    parser.add_argument("--num_networks", type=PositiveInt, default=5000, help="how many CNNs")
    parser.add_argument("--root", type=str, default="data", help="folder under which stores live")
    parser.add_argument("--store", type=str | None, default=None, help="the store's own name")
    return parser


def run_fit_zoo(options: Namespace) -> None:
    """Train what is asked for and print the store's folder.

    Raises:
        DataError: See ``prepare_zoo``.
        ValueError: An option that is wrong.
    """
    spec = ZooSpec(
        options.signals,
        tuple(options.channels),
        options.kernel_size,
        options.stride,
        options.training,
        options.seed,
    )
    directory = Path(options.root) / (options.store or spec.store_name)
    prepare_zoo(directory, spec, options.num_networks)
    sys.stdout.write(f"{directory}\n")


def import_zoo_parser() -> ArgumentParser:
    """Make the parser of ``zoo import``."""
    parser = ArgumentParser(
        description="Import the Small CNN Zoo (Unterthiner et al., 2020), or another of its "
        f"layout, into a store: a folder with {EXAMPLE}. Run it again to resume."
    )
    parser.add_argument("--source", type=str, required=True, help="the published folder")
    parser.add_argument("--output", type=str, required=True, help="the store's folder")
    parser.add_argument(
        "--steps",
        type=NonNegativeInt,
        nargs="+",
        default=None,
        help="which checkpoints become views, the one for test first (default: the last)",
    )
    parser.add_argument(
        "--activation",
        type=str | None,
        default=None,
        help="only networks of this one, such as relu",
    )
    parser.add_argument(
        "--row_order",
        type=str | None,
        default=None,
        help="nfn's file with an order of all rows, to split the networks as nfn does",
    )
    for split in ("val", "test"):
        parser.add_argument(
            f"--{split}_share",
            type=OpenUnitInterval,
            default=0.1,
            help=f"share of the networks for {split}, without --row_order",
        )
    return parser


def run_import_zoo(options: Namespace) -> None:
    """Import, print the store's folder, and tell on standard error what was left out.

    Raises:
        DataError: See ``import_zoo``.
        ValueError: Likewise.
    """
    found = import_zoo(
        options.source,
        options.output,
        steps=options.steps,
        activation=options.activation,
        row_order=options.row_order,
        val_share=options.val_share,
        test_share=options.test_share,
    )
    for note in found.notes:
        sys.stderr.write(f"{note}\n")
    sys.stdout.write(f"{options.output}\n")


def baseline_parser() -> ArgumentParser:
    """Make the parser of ``zoo baseline``."""
    parser = ArgumentParser(
        description="Predict a measure from statistics of the weights, by a linear model and by "
        "gradient boosting, and print Kendall's tau and R2 of the test split."
    )
    parser.add_argument("directory", type=str, help="the store's folder")
    parser.add_argument(
        "--target", type=str, default="test_accuracy", help="the measure to predict"
    )
    parser.add_argument(
        "--seeds", type=NonNegativeInt, nargs="+", default=[0, 1, 2], help="of the boosting"
    )
    parser.add_argument(
        "--num_train_objects",
        type=PositiveInt | None,
        default=None,
        help="train on so many networks (default: all)",
    )
    parser.add_argument(
        "--output", type=str | None, default=None, help="a JSON file for the scores of every seed"
    )
    return parser


def run_baseline(options: Namespace) -> None:
    """Print a line for each predictor.

    Raises:
        DataError: See ``score_baselines``.
    """
    store = INRStore(options.directory)
    scores = score_baselines(store, options.target, options.seeds, options.num_train_objects)
    for name, score in scores.items():
        low, high = score.interval
        sys.stdout.write(
            f"statistics and {name}: kendall_tau {mean(score.kendall_tau):.4f} "
            f"[{low:.4f}, {high:.4f}], r2 {mean(score.r2):.4f}\n"
        )
    if options.output is not None:
        record = {
            "target": options.target,
            "seeds": options.seeds,
            "fingerprint": store.header.fingerprint,
            "num_objects": {split: store.num_objects(split) for split in store.splits},
            "num_train_objects": options.num_train_objects,
            "scores": {name: asdict(score) for name, score in scores.items()},
        }
        make_directory(Path(options.output).parent)
        write_atomically(Path(options.output), (json.dumps(record, indent=1) + "\n").encode())


_COMMANDS: dict[str, _Command] = {
    "fit": (fit_zoo_parser, run_fit_zoo, "train a zoo, or what it lacks"),
    "import": (import_zoo_parser, run_import_zoo, "read a published zoo"),
    "baseline": (baseline_parser, run_baseline, "predict from statistics of the weights"),
}


def run_zoo(args: Sequence[str]) -> None:
    """Run the command that the words behind ``zoo`` name."""
    parser = ArgumentParser(
        prog=f"{program()} zoo", description="Zoos of small CNNs: make, import and predict them."
    )
    subcommands = parser.add_subcommands(required=True)
    for name, (make_parser, _, text) in _COMMANDS.items():
        subcommands.add_subcommand(name, make_parser(), help=text)
    words = list(args)
    if words[:1] == ["fit"]:
        words = expand_includes(words)
    config = parser.parse_args(words)
    try:
        _COMMANDS[config.subcommand][1](parser.instantiate(config)[config.subcommand])
    except DataError:
        raise
    except ValueError as error:
        parser.error(str(error))
