"""The commands about INRs that need no model: ``inrs fit`` and its like."""

from collections.abc import Callable, Sequence

from jsonargparse import Namespace

from lightning_dws.commands.augment import augment_parser, run_augment
from lightning_dws.commands.browse import browse_parser, run_browse
from lightning_dws.commands.convert import export_parser, import_parser, run_export, run_import
from lightning_dws.commands.fit import fit_parser, run_fit
from lightning_dws.commands.sharing import (
    pull_parser,
    push_parser,
    run_pull_store,
    run_push_store,
)
from lightning_dws.commands.show import run_show, show_parser
from lightning_dws.commands.verify import run_verify, verify_parser
from lightning_dws.config_files import expand_includes
from lightning_dws.errors import DataError
from lightning_dws.parse_errors import ArgumentParser
from lightning_dws.program import program

_Command = tuple[Callable[[], ArgumentParser], Callable[[Namespace], None], str]
_COMMANDS: dict[str, _Command] = {
    "fit": (fit_parser, run_fit, "fit a dataset, or what it lacks"),
    "show": (show_parser, run_show, "print a summary and draw a picture"),
    "import": (import_parser, run_import, "read published INR datasets"),
    "export": (export_parser, run_export, "write a store in their layouts"),
    "verify": (verify_parser, run_verify, "check all that can be checked"),
    "augment": (augment_parser, run_augment, "draw what augmentations do"),
    "browse": (browse_parser, run_browse, "write a web page to look at and play with"),
    "push": (push_parser, run_push_store, "share a store on the Hugging Face Hub"),
    "pull": (pull_parser, run_pull_store, "get a store from it"),
}


def run_inrs(args: Sequence[str]) -> None:
    """Run the command that the words behind ``inrs`` name."""
    parser = ArgumentParser(
        prog=f"{program()} inrs",
        description="Datasets of INRs: fit, import, export, verify, show, augment, browse and "
        "share them.",
    )
    subcommands = parser.add_subcommands(required=True)
    for name, (make_parser, _, text) in _COMMANDS.items():
        subcommands.add_subcommand(name, make_parser(), help=text)
    words = list(args)
    if words[:1] == ["fit"]:  # its files follow one another, those of 'augment' are columns
        words = expand_includes(words)
    config = parser.parse_args(words)
    try:
        _COMMANDS[config.subcommand][1](parser.instantiate(config)[config.subcommand])
    except DataError:
        raise
    except ValueError as error:
        parser.error(str(error))
