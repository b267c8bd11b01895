"""What the cells of a table are compared by: the score of their task, or another that it knows."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from lightning_dws.errors import DataError
from lightning_dws.suggestions import closest
from lightning_dws.table.grid import Cell, TableConfig
from lightning_dws.tasks import DEFAULT_TASK, ScoreKind, named_task

_DIGITS = 3  # significant, of the largest figure that is no share


@dataclass(frozen=True)
class TableScore:
    """What the cells of a model on a dataset are compared by.

    Attributes:
        kind: The score.
        task: The name of the task.
        chosen_by: The score that the checkpoint is chosen by.
    """

    kind: ScoreKind
    task: str
    chosen_by: ScoreKind

    @property
    def name(self) -> str:
        """Of the metric."""
        return self.kind.name

    @property
    def is_accuracy(self) -> bool:
        """Whether it is what a poster's figures are: the accuracy of a classification."""
        return self.name == "accuracy"

    def of_test(self, record: Mapping[str, Any]) -> float | None:
        """Give a finished cell's score, a share in %, None where it is not defined.

        Raises:
            DataError: The cell's file does not have it.
        """
        test = record["test"]
        if self.name not in test:
            raise DataError(
                f"the cell {record['hash']} was tested by {', '.join(test)}, not by {self.name}; "
                "delete its file, and it runs again"
            )
        value = test[self.name]
        return None if value is None or math.isnan(value) else self.scale * float(value)

    @property
    def scale(self) -> float:
        """What a score is multiplied by to be shown."""
        return 100.0 if self.kind.in_percent else 1.0

    @property
    def sign(self) -> float:
        """What differences are multiplied by, so that better is above zero."""
        return 1.0 if self.kind.mode == "max" else -1.0

    def best(self, values: Iterable[float]) -> float | None:
        """Give the best of scores, None of none."""
        return max(values, key=lambda value: self.sign * value, default=None)

    def decimals(self, values: Iterable[float]) -> int:
        """Say how many decimals scores are shown with: a share has one, others three digits."""
        largest = max((abs(value) for value in values), default=0.0)
        if self.kind.in_percent or largest == 0:
            return 1
        return max(0, _DIGITS - 1 - math.floor(math.log10(largest)))

    def write(self, record: Mapping[str, Any]) -> str:
        """Write a finished cell's score for people."""
        value = self.of_test(record)
        if self.is_accuracy and value is not None:
            return f"{value:.1f} %"
        text = "undefined" if value is None else f"{value:.{_DIGITS}g}"
        return f"{self.kind.words} {text}{' %' if self.kind.in_percent else ''}"


Scores = dict[tuple[str, str], TableScore]


def scores_of(table: TableConfig) -> Scores:
    """Give what cells are compared by, by dataset and model.

    Raises:
        DataError: Rows of one column are of different tasks, or a task does not know the score.
    """
    scores: Scores = {}
    first: dict[tuple[str, str], Cell] = {}
    for cell in table.cells:
        place = cell.place.dataset, cell.place.model
        score = _score_of(cell, table)
        before = scores.setdefault(place, score)
        other = first.setdefault(place, cell)
        if before != score:
            raise DataError(
                f"{table.name}: {other.place} is of the task {before.task}, {cell.place} of "
                f"{score.task}; rows of one model and dataset are compared, so they are of one task"
            )
    return scores


def _score_of(cell: Cell, table: TableConfig) -> TableScore:
    task = named_task(cell.settings.get("task", DEFAULT_TASK.task_name()))
    known = task.known_scores()
    name = table.score or task.score
    if name not in known:
        raise DataError(
            f"{table.name}: score is {name}, which the task {task.task_name()} does not measure; "
            f"there are {', '.join(known)}{closest(name, known)}"
        )
    return TableScore(known[name], task.task_name(), known[task.score])
