"""The commands ``push`` and ``pull``, of stores and checkpoints, and of stores alone."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from jsonargparse import Namespace

from lightning_dws.checkpoints import find_best
from lightning_dws.errors import DataError
from lightning_dws.hub import DATASET, MODEL, HubRepository, MissingRepositoryError
from lightning_dws.inrs.store.shards import INDEX_NAME
from lightning_dws.inrs.store.shared_stores import pull_store, push_store
from lightning_dws.parse_errors import ArgumentParser
from lightning_dws.prediction.shared_checkpoints import pull_checkpoint, push_checkpoint
from lightning_dws.program import program

_STORE = "the store's folder"
_ANY = "a checkpoint, the folder of a run (its best one), or the folder of a store"


def push_parser(what: str = _STORE) -> ArgumentParser:
    """Make the parser of ``push``, or of ``inrs push``."""
    parser = ArgumentParser(
        description="Push to the Hugging Face Hub, with a card made of what is stored: a store as "
        "a dataset, as it is; a checkpoint as a model, as safetensors and JSON. It needs a token: "
        "'hf auth login', or HF_TOKEN."
    )
    parser.add_argument("path", type=str, help=what)
    parser.add_argument("repo_id", type=str, help="OWNER/NAME; it is made if it is missing")
    parser.add_argument(
        "--license",
        type=str | None,
        default=None,
        help="the licence's name on the hub, such as mit or cc-by-4.0 (default: the card says that "
        "none is stated)",
    )
    parser.add_argument("--private", action="store_true", help="make a private repository")
    parser.add_argument("--revision", type=str | None, default=None, help="a branch that exists")
    parser.add_argument("--message", type=str | None, default=None, help="of the commit")
    return parser


def pull_parser(any_kind: bool = False) -> ArgumentParser:
    """Make the parser of ``pull``, or of ``inrs pull``."""
    parser = ArgumentParser(
        description="Pull from the Hugging Face Hub into a new folder, checked by its sums: "
        "complete or not there; an interrupted pull goes on. Nothing is unpickled or executed."
    )
    parser.add_argument("repo_id", type=str, help="OWNER/NAME")
    parser.add_argument("folder", type=str, help="a new folder")
    parser.add_argument(
        "--revision", type=str | None, default=None, help="a branch, a tag or a commit"
    )
    if any_kind:
        parser.add_argument(
            "--repo_type",
            type=Literal["model", "dataset"] | None,
            default=None,
            help="a checkpoint is a model, a store a dataset (default: the one that there is)",
        )
    return parser


def run_push_store(options: Namespace) -> None:
    """Push a store, and print its address.

    Raises:
        DataError: It could not be pushed.
    """
    _tell(push_store(Path(options.path), options.repo_id, **_options(options)))


def run_pull_store(options: Namespace) -> None:
    """Pull a store, and print its folder.

    Raises:
        DataError: It could not be pulled.
    """
    pull_store(options.repo_id, Path(options.folder), revision=options.revision)
    _tell(options.folder)


def run_push(words: Sequence[str]) -> None:
    """Push a store or a checkpoint.

    Args:
        words: Behind ``push``.

    Raises:
        DataError: It could not be pushed.
    """
    parser = push_parser(_ANY)
    parser.prog = f"{program()} push"
    options = parser.parse_args(list(words))
    path = Path(options.path)
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; expected a checkpoint, a run or a store")
    if (path / INDEX_NAME).exists() or any(path.glob("*-view[0-9]*.safetensors")):
        run_push_store(options)
        return
    path = find_best(path) if path.is_dir() else path
    _tell(push_checkpoint(path, options.repo_id, **_options(options)))


def run_pull(words: Sequence[str]) -> None:
    """Pull a store or a checkpoint.

    Args:
        words: Behind ``pull``.

    Raises:
        DataError: It could not be pulled.
    """
    parser = pull_parser(any_kind=True)
    parser.prog = f"{program()} pull"
    options = parser.parse_args(list(words))
    if (options.repo_type or _find_kind(options)) == DATASET:
        run_pull_store(options)
        return
    pull_checkpoint(options.repo_id, Path(options.folder), revision=options.revision)
    _tell(options.folder)


def _find_kind(options: Namespace) -> str:
    """Find which kind of repository there is of a name: the hub may have one of each."""
    found = []
    for kind in (MODEL, DATASET):
        try:
            HubRepository(options.repo_id, kind, options.revision).resolve()
            found.append(kind)
        except MissingRepositoryError:
            continue
    if len(found) == 1:
        return found[0]
    there_is = "both a model and a dataset" if found else "neither a model nor a dataset"
    which = "; say which by --repo_type" if found else " that can be seen"
    raise DataError(f"{options.repo_id}: is {there_is} on the hub{which}")


def _options(options: Namespace) -> dict[str, Any]:
    return {
        "license_id": options.license,
        "private": options.private or None,
        "revision": options.revision,
        "message": options.message,
    }


def _tell(place: str) -> None:
    sys.stdout.write(f"{place}\n")
