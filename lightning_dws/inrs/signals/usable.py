"""Which objects of a dataset can be used, where files may be damaged.

What cannot be used is left out of its split's order, told and noted; it keeps its place and its id
among the candidates, so no other object's changes, and once it is repaired it is back in its place.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from lightning_dws.errors import DataError
from lightning_dws.inrs.signals.splits import SPLITS, SplitOrder

Examine = Callable[[list[int], bool], Mapping[int, str | None]]


class UsableObjects:
    """The objects that can be used, found out as far as they are asked for.

    Args:
        candidates: Gives the objects of a split, usable or not, in their fixed order.
        examine: Gives the reason why an object cannot be used, or None, by object id; the second
            argument is whether to show progress.
        describe: Names an object for people, e.g. by its file.

    Attributes:
        reasons: What is known so far, by object id.
    """

    def __init__(
        self,
        candidates: Callable[[str], SplitOrder],
        examine: Examine,
        describe: Callable[[int], str],
    ) -> None:
        self._candidates = candidates
        self._examine = examine
        self._describe = describe
        self.reasons: dict[int, str | None] = {}
        self._rows: dict[str, list[int]] = {}  # of usable candidates, as far as they were looked at
        self._looked: dict[str, int] = {}

    def recall(self, usable: Iterable[int], skipped: Mapping[str, str]) -> None:
        """Take over what an earlier run found out: ids that it used, names that it skipped."""
        self.reasons |= dict.fromkeys(usable)
        self._rows, self._looked = {}, {}
        if not skipped:
            return
        for split in SPLITS:
            for index in self._candidates(split).object_id.tolist():
                reason = skipped.get(self._describe(index))
                if reason is not None:
                    self.reasons[index] = reason

    def prepare(self, num_objects: Mapping[str, int | None], show_progress: bool) -> None:
        """Examine what is needed for the first so many objects of each split."""
        wanted = [self._candidates(split).object_id[:n] for split, n in num_objects.items()]
        self.examine(torch.cat(wanted).tolist() if wanted else [], show_progress)
        for split, count in num_objects.items():
            self.first(split, count)

    def examine(self, object_ids: list[int], show_progress: bool = False) -> None:
        """Examine objects that are not known yet."""
        new = [index for index in object_ids if index not in self.reasons]
        if new:
            self.reasons |= self._examine(new, show_progress)

    def first(self, split: str, count: int | None) -> SplitOrder:
        """Give the first so many usable objects of a split; None for all."""
        order = self._candidates(split)
        rows, start = self._rows.setdefault(split, []), self._looked.get(split, 0)
        while start < len(order) and (count is None or len(rows) < count):
            stop = len(order) if count is None else min(len(order), start + count - len(rows))
            ids = order.object_id[start:stop].tolist()
            self.examine(ids)
            rows += [start + n for n, index in enumerate(ids) if self.reasons[index] is None]
            self._looked[split] = start = stop
        return order[torch.tensor(rows[:count], dtype=torch.int64)]

    def skipped(self, num_objects: Mapping[str, int | None]) -> dict[str, str]:
        """Tell what is left out of the first so many objects of each split, and why, by name."""
        found = {}
        for split, count in num_objects.items():
            chosen = self.first(split, count)
            ids = self._candidates(split).object_id
            if count is not None and len(chosen) == count:
                ids = ids[: self._rows[split][count - 1]]
            for index in ids.tolist():
                reason = self.reasons[index]
                if reason is not None:
                    found[self._describe(index)] = reason
        return found


def examine_files(
    object_ids: Iterable[int],
    read: Callable[[int], Any],
    paths: Sequence[Path] | Mapping[int, Path],
) -> dict[int, str | None]:
    """Read files; give the reason why one cannot be, or None, by object id.

    Args:
        object_ids: Of the files.
        read: Reads one; what it raises of an unreadable file is the reason.
        paths: The files.
    """
    reasons: dict[int, str | None] = {}
    for index in object_ids:
        reasons[index] = None
        try:
            read(index)
        except DataError as error:
            reason = str(error).removeprefix(f"{paths[index]}: ")
            reasons[index] = " ".join(reason.split())
    return reasons
