"""What the table's command says while it runs: one line a cell, and how long the rest will take."""

import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from statistics import mean

from lightning_dws.counting import counted
from lightning_dws.table.cells import CellStore
from lightning_dws.table.grid import Cell
from lightning_dws.table.table_score import Scores
from lightning_dws.table.worker import CellJob


class Progress:
    """Write a line for every cell that ends.

    Args:
        cells: Where their files are.
        todo: What runs now.
        scores: Of the table.
    """

    def __init__(self, cells: CellStore, todo: Sequence[Cell], scores: Scores) -> None:
        self._cells = cells
        self._scores = scores
        self._total = len(todo)
        self._ended = 0
        self._started = time.monotonic()

    def __call__(self, job: CellJob) -> None:
        """Say how a cell ended."""
        cell = job.cell
        self._ended += 1
        record = self._cells.read(cell.hash)
        if record is None:
            outcome = "runs elsewhere"
        elif record["status"] == "failed":
            outcome = f"FAILED: {record['error']}"
        else:
            score = self._scores[cell.place.dataset, cell.place.model]
            outcome = f"{score.write(record)} ({record['wall_seconds']:.0f} s)"
        per_cell = (time.monotonic() - self._started) / self._ended
        left = format_duration(per_cell * (self._total - self._ended))
        sys.stdout.write(f"[{self._ended}/{self._total}, {left} left] {cell.place}: {outcome}\n")
        sys.stdout.flush()


def forecast(cells: CellStore, todo: Sequence[Cell], done: Sequence[Cell], num_jobs: int) -> str:
    """Say how long cells will take, from the seconds of those that are finished.

    Args:
        cells: Where their files are.
        todo: What is left.
        done: What is finished.
        num_jobs: Cells at a time, which must have been as many before.
    """
    seconds = defaultdict(list)
    for cell in done:
        record = cells.read(cell.hash)
        if record is not None:
            seconds[_kind(cell)].append(record["wall_seconds"])
    lines, total, unknown = [], 0.0, 0
    for kind in dict.fromkeys(_kind(cell) for cell in todo):
        count = sum(_kind(cell) == kind for cell in todo)
        if kind in seconds:
            total += count * mean(seconds[kind])
            text = f"{mean(seconds[kind]):.0f} s each, from {len(seconds[kind])} finished"
        else:
            unknown += count
            text = "none finished yet"
        lines.append(f"  {' | '.join(kind)}: {count} left, {text}")
    parts = []
    if len(todo) > unknown:
        parts.append(f"{format_duration(total / num_jobs)} with {num_jobs} at a time")
    if unknown:
        parts.append(f"{counted(unknown, 'cell')} of unknown duration")
    if parts:
        lines.append(f"left: {', and '.join(parts)}")
    return "\n".join(lines)


def _kind(cell: Cell) -> tuple[str, str]:
    return cell.place.dataset, cell.place.model


def format_duration(seconds: float) -> str:
    """Write a duration for people.

    Example:
        >>> format_duration(45), format_duration(600), format_duration(9000)
        ('45 s', '10 min', '2.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
