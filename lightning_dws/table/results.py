"""The cells of a table that are on disk, by their place in it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from lightning_dws.table.cells import CellStore, Record
from lightning_dws.table.grid import Coordinates, TableConfig
from lightning_dws.table.published import Figure
from lightning_dws.table.recorder import read_inrs
from lightning_dws.table.statistics import (
    Estimate,
    mean_and_std,
    paired_bootstrap,
    paired_seeds,
)
from lightning_dws.table.table_score import TableScore, scores_of

BASELINE = "none"


@dataclass(frozen=True)
class Entry:
    """The runs of one row in one column, over the seeds.

    Attributes:
        augmentation: The row.
        model: With dataset and views, the column.
        dataset: See above.
        views: See above.
    """

    augmentation: str
    model: str
    dataset: str
    views: int

    def in_row(self, augmentation: str) -> "Entry":
        """Give the entry of another row in the same column."""
        return replace(self, augmentation=augmentation)


class Results:
    """What a table's config asks for and the disk holds.

    Args:
        table: The config: cells of other configs are not looked at.
        cells: The disk.
    """

    def __init__(self, table: TableConfig, cells: CellStore) -> None:
        self.table = table
        self.scores = scores_of(table)
        self.records: dict[Coordinates, Record | None] = {
            cell.place: cells.read(cell.hash) for cell in table.cells
        }

    @cached_property
    def finished(self) -> dict[Coordinates, Record]:
        """The records of the cells that are finished."""
        return self._of_status("finished")

    @cached_property
    def failed(self) -> dict[Coordinates, Record]:
        """The records of the cells that failed."""
        return self._of_status("failed")

    def _of_status(self, status: str) -> dict[Coordinates, Record]:
        return {place: r for place, r in self.records.items() if r and r["status"] == status}

    def runs(self, entry: Entry) -> dict[int, Record]:
        """Give an entry's finished records by seed."""
        places = {seed: self._place(entry, seed) for seed in self.table.seeds}
        return {s: self.finished[place] for s, place in places.items() if place in self.finished}

    def num_failed(self, entry: Entry) -> int:
        """Count an entry's failed cells."""
        return sum(self._place(entry, seed) in self.failed for seed in self.table.seeds)

    @staticmethod
    def _place(entry: Entry, seed: int) -> Coordinates:
        return Coordinates(entry.augmentation, entry.model, entry.dataset, entry.views, seed)

    def score(self, entry: Entry) -> TableScore:
        """Give what an entry is compared by."""
        return self.scores[entry.dataset, entry.model]

    def figure(self, entry: Entry) -> tuple[float, float | None] | None:
        """Give mean and standard deviation of the test's score, None before any run.

        Shares are in %. Runs whose score is not defined are left out.
        """
        score = self.score(entry)
        known = [score.of_test(record) for record in self.runs(entry).values()]
        values = [value for value in known if value is not None]
        return mean_and_std(values) if values else None

    def num_undefined(self, entry: Entry) -> int:
        """Count an entry's runs whose score is not defined."""
        score = self.score(entry)
        return sum(score.of_test(record) is None for record in self.runs(entry).values())

    def decimals(self, entry: Entry) -> int:
        """Say how many decimals the figures of an entry's model and dataset are shown with."""
        score, place = self.score(entry), (entry.dataset, entry.model)
        values = [
            score.of_test(record)
            for cell, record in self.finished.items()
            if (cell.dataset, cell.model) == place
        ]
        return score.decimals(value for value in values if value is not None)

    def poster(self, entry: Entry) -> Figure | None:
        """Give the poster's figure for an entry, if it has one."""
        if not self.score(entry).is_accuracy:
            return None
        dataset = self.table.poster.get(entry.dataset, "")
        figures = self.table.poster_figures
        return figures.find(dataset, entry.model, entry.augmentation, entry.views)

    def gain(self, entry: Entry) -> Estimate | None:
        """Estimate an entry's gain over no augmentation: how much better it is."""
        baseline = entry.in_row(BASELINE)
        return None if entry == baseline else self.difference([(entry, baseline)])

    def difference(self, pairs: Sequence[tuple[Entry, Entry]]) -> Estimate | None:
        """Estimate by how much the first of each pair is better, on average over pairs.

        Args:
            pairs: Of one dataset, that is, of the same test objects, and of one score.

        Returns:
            Points of a share, or the score's own unit. None where the pairs have no seed in common
            that is finished.
        """
        entries = [entry for pair in pairs for entry in pair]
        seeds = [s for s in self.table.seeds if all(s in self._known_runs(e) for e in entries)]
        if not pairs or not seeds:
            return None
        score = self.score(entries[0])
        runs = [[self.runs(entry)[seed] for entry in entries] for seed in seeds]
        if any(len({record["test_objects"]["ids"] for record in of_seed}) > 1 for of_seed in runs):
            return None  # measured on other test objects
        by_inr = [[read_inrs(record, score.name) for record in of_seed] for of_seed in runs]
        factor = score.scale * score.sign
        if any(values is None for of_seed in by_inr for values in of_seed):
            totals = np.array([[r["test"][score.name] for r in of_seed] for of_seed in runs])
            return paired_seeds(factor * _first_minus_second(totals[..., None])[:, 0])
        return paired_bootstrap(factor * _first_minus_second(np.array(by_inr, dtype=np.float64)))

    def _known_runs(self, entry: Entry) -> dict[int, Record]:
        score = self.score(entry)
        return {s: r for s, r in self.runs(entry).items() if score.of_test(r) is not None}


def _first_minus_second(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give (seeds, objects), the mean over pairs, of (seeds, pairs x two, objects)."""
    difference: NDArray[np.float64] = (values[:, 0::2] - values[:, 1::2]).mean(axis=1)
    return difference
