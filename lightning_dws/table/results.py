"""The cells of a table that are on disk, by their place in it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from lightning_dws.table.cells import CellStore, Record
from lightning_dws.table.grid import Coordinates, TableConfig
from lightning_dws.table.published import Figure
from lightning_dws.table.recorder import unpack_bits
from lightning_dws.table.statistics import Estimate, mean_and_std, paired_bootstrap

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

    def accuracy(self, entry: Entry) -> tuple[float, float | None] | None:
        """Give mean and standard deviation of the test accuracy in %, None before any run."""
        runs = self.runs(entry)
        if not runs:
            return None
        return mean_and_std([100 * record["test"]["accuracy"] for record in runs.values()])

    def poster(self, entry: Entry) -> Figure | None:
        """Give the poster's figure for an entry, if it has one."""
        dataset = self.table.poster.get(entry.dataset, "")
        figures = self.table.poster_figures
        return figures.find(dataset, entry.model, entry.augmentation, entry.views)

    def gain(self, entry: Entry) -> Estimate | None:
        """Estimate an entry's gain over no augmentation, in points."""
        baseline = entry.in_row(BASELINE)
        return None if entry == baseline else self.difference([(entry, baseline)])

    def difference(self, pairs: Sequence[tuple[Entry, Entry]]) -> Estimate | None:
        """Estimate by how many points the first of each pair is better, on average over pairs.

        Args:
            pairs: Of one dataset, that is, of the same test objects.

        Returns:
            None where the pairs have no seed in common that is finished.
        """
        seeds = [
            seed
            for seed in self.table.seeds
            if all(seed in self.runs(entry) for pair in pairs for entry in pair)
        ]
        if not pairs or not seeds:
            return None
        per_seed = []
        for seed in seeds:
            first, second = (
                [_correct(self.runs(pair[side])[seed]) for pair in pairs] for side in (0, 1)
            )
            if len({objects for objects, _ in (*first, *second)}) > 1:
                return None  # measured on other test objects
            rows = [a - b for (_, a), (_, b) in zip(first, second, strict=True)]
            per_seed.append(np.mean(rows, axis=0))
        return paired_bootstrap(100 * np.stack(per_seed))


def _correct(record: Record) -> tuple[str, NDArray[np.float64]]:
    objects = record["test_objects"]
    bits = unpack_bits(objects["correct"], objects["count"])
    return objects["ids"], np.array(bits, dtype=np.float64)
