"""Which objects of a dataset can be used, where files may be damaged.

What cannot be used is left out of its split's order, told and noted; it keeps its place and its id
among the candidates, so no other object's changes, and once it is repaired it is back in its place.
"""

from collections.abc import Callable, Iterable, Mapping

import torch

from lightning_dws.inrs.signals.base import SPLITS, SplitOrder

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

    def recall(self, usable: Iterable[int], skipped: Mapping[str, str]) -> None:
        """Take over what an earlier run found out: ids that it used, names that it skipped."""
        self.reasons |= dict.fromkeys(usable)
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
        ids = order.object_id.tolist()
        usable: list[int] = []
        start = 0
        while start < len(ids) and (count is None or len(usable) < count):
            stop = len(ids) if count is None else min(len(ids), start + count - len(usable))
            self.examine(ids[start:stop])
            usable += [row for row in range(start, stop) if self.reasons[ids[row]] is None]
            start = stop
        return order[torch.tensor(usable[:count], dtype=torch.int64)]

    def skipped(self, num_objects: Mapping[str, int | None]) -> dict[str, str]:
        """Tell what is left out of the first so many objects of each split, and why, by name."""
        found = {}
        for split, count in num_objects.items():
            chosen = self.first(split, count).object_id
            ids = self._candidates(split).object_id.tolist()
            if count is not None and len(chosen) == count:
                ids = ids[: ids.index(int(chosen[-1]))]
            for index in ids:
                reason = self.reasons[index]
                if reason is not None:
                    found[self._describe(index)] = reason
        return found
