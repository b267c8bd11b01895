"""The commands about zoos of small CNNs: ``zoo fit`` and its like."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from jsonargparse import Namespace
from jsonargparse.typing import PositiveInt

from lightning_dws.config_files import expand_includes
from lightning_dws.errors import DataError
from lightning_dws.parse_errors import ArgumentParser
from lightning_dws.program import program
from lightning_dws.zoo import ZooSpec, prepare_zoo

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


_COMMANDS: dict[str, _Command] = {
    "fit": (fit_zoo_parser, run_fit_zoo, "train a zoo, or what it lacks"),
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
