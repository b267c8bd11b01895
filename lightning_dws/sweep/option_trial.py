"""Try the options of a sweep's space on the parser of ``fit``, before any trial is run."""

from collections.abc import Sequence
from typing import Any

from jsonargparse import ArgumentError
from pytorch_lightning.cli import LightningArgumentParser

from lightning_dws.config_files import expand_includes
from lightning_dws.errors import DataError
from lightning_dws.lightning_cli import WeightSpaceCLI, run_lightning
from lightning_dws.sweep.sweep_config import SweepConfig
from lightning_dws.table.pieces import words_of


class _ParsedError(Exception):
    """Raised when all words are understood, which ends the command line."""


class _ParsingCLI(WeightSpaceCLI):
    """The command line of ``fit``, which ends when its words are understood."""

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        return super().init_parser(**{**kwargs, "exit_on_error": False})

    def _set_seed(self) -> None:
        """Draw nothing."""

    def before_instantiate_classes(self) -> None:
        raise _ParsedError


def check_space(config: SweepConfig) -> None:
    """Make sure that ``fit`` takes every option of the space, with all choices and bounds.

    Raises:
        DataError: It does not; the message names the option.
    """
    for corner in config.space.corners():
        _check(config.name, words_of(config.pieces(corner)))


def _check(name: str, words: Sequence[str]) -> None:
    try:
        run_lightning(["fit", *expand_includes(words)], _ParsingCLI, save_config_callback=None)
    except _ParsedError:
        return
    except ArgumentError as error:
        raise DataError(f"{name}: {' '.join(str(error).split())}") from error
