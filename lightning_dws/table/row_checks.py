"""Rows of a table that no run can have, found before the first cell."""

import io
import logging
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from lightning_dws.counting import counted
from lightning_dws.lightning_cli import run_lightning
from lightning_dws.table.grid import Cell
from lightning_dws.table.processes import start_process
from lightning_dws.table.worker import CellCLI, error_line, printed_error, quiet_words

_NOWHERE = Path("not there")  # no run keeps anything there


class CheckCLI(CellCLI):
    """The command line of a cell, which ends before anything is fitted."""

    def _run_subcommand(self, subcommand: str) -> None:
        """Run nothing: what no run can have was refused when its parts were made."""


def find_refused(
    todo: Sequence[Cell], finished: Sequence[Cell], device_words: Sequence[str]
) -> dict[Cell, str]:
    """Find cells that are to run, and whose rows, models or datasets make no run.

    Of each row on a dataset one cell is tried, and of each model on a dataset, unless one of them
    is finished already. Trying one makes all parts of its run, in another process, and fits
    nothing.

    Args:
        todo: What is to run.
        finished: What has run.
        device_words: Words of ``fit`` that say where cells run.

    Returns:
        Why each cell is refused that is of the same row, model and dataset as one that was.
    """
    tried = _choose(todo, finished)
    if not tried:
        return {}
    receiver, sender = Pipe(duplex=False)
    words = [(*cell.words, *device_words) for cell in tried]
    process = start_process(_report_refusals, (sender, words), None)
    sender.close()
    try:
        reasons = receiver.recv()
        process.join()
    except EOFError:  # it died: each cell will tell
        process.join()
        return {}
    except BaseException:  # Ctrl-C
        process.kill()
        raise
    known = {_place(cell): reason for cell, reason in zip(tried, reasons, strict=True) if reason}
    return {cell: known[_place(cell)] for cell in todo if _place(cell) in known}


def tell_refused(refused: dict[Cell, str]) -> None:
    """Write a line for each row, model and dataset that is refused, and how many cells it has."""
    lines: dict[tuple[str, str], int] = {}
    for cell, reason in refused.items():
        row = " | ".join(_place(cell))
        lines[row, reason] = lines.get((row, reason), 0) + 1
    for (row, reason), count in lines.items():
        sys.stderr.write(f"cannot run: {row} ({counted(count, 'cell')}): {reason}\n")


def _place(cell: Cell) -> tuple[str, str, str]:
    return cell.place.augmentation, cell.place.model, cell.place.dataset


def _kinds(cell: Cell) -> set[tuple[Any, ...]]:
    """Give what is tried of a cell: its row on its dataset for its task, and its model there."""
    place, task = cell.place, cell.settings.get("task")
    return {
        ("row", place.augmentation, place.dataset, str(task)),
        ("model", place.model, place.dataset, str(task)),
    }


def _choose(todo: Sequence[Cell], finished: Sequence[Cell]) -> list[Cell]:
    """Choose cells that are of a kind that none before them is of; of few views first."""
    known = {kind for cell in finished for kind in _kinds(cell)}
    chosen = []
    for cell in sorted(todo, key=lambda cell: cell.place.views):
        if not _kinds(cell) <= known:
            known |= _kinds(cell)
            chosen.append(cell)
    return chosen


def _report_refusals(sender: Connection, runs: Sequence[Sequence[str]]) -> None:
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    sender.send([_refusal(words) for words in runs])


def _refusal(words: Sequence[str]) -> str | None:
    """Give the reason why words of ``fit`` make no run, in one line; None where they do."""
    printed = io.StringIO()
    try:
        with redirect_stderr(printed), redirect_stdout(printed):
            run_lightning(quiet_words(words, _NOWHERE), CheckCLI, save_config_callback=None)
    except SystemExit:
        return printed_error(printed.getvalue()) or "its options make no run"
    except Exception as error:  # whatever parts from outside of the package may raise
        return error_line(error)
    return None
