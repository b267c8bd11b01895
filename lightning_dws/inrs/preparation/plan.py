"""What a store is to hold, found out once: objects, their order, shards, and who fits them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from lightning_dws.counting import counted
from lightning_dws.errors import DataError
from lightning_dws.files import make_directory
from lightning_dws.inrs.preparation.skipped import recall_skipped
from lightning_dws.inrs.preparation.spec import INRDatasetSpec
from lightning_dws.inrs.signals import SPLITS, SplitOrder
from lightning_dws.inrs.store import ShardRange
from lightning_dws.inrs.store.shards import SHARD_SIZE
from lightning_dws.inrs.store.unfinished import is_covered, open_listed

Item = TypeVar("Item")


@dataclass(frozen=True)
class Wanted:
    """How much of each split is wanted: the first so many objects, so many views of each.

    Attributes:
        num_objects: Per split, None for all; nothing is wanted of a split that is not named.
        views: Per split; 1 where not named.
    """

    num_objects: dict[str, int | None]
    views: dict[str, int]


@dataclass(frozen=True)
class Part:
    """One of several processes that share work.

    Attributes:
        index: Which, counted from 1.
        count: How many there are.

    Raises:
        ValueError: The index is not in [1, count].
    """

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.count:
            raise ValueError(f"part must be K/N with K from 1 to N, got {self.index}/{self.count}")

    @classmethod
    def parse(cls, text: str) -> "Part":
        """Read ``"3/16"``."""
        numbers = text.split("/")
        if len(numbers) != 2 or not all(
            number.isascii() and number.isdigit() for number in numbers
        ):
            raise ValueError(f"part must be K/N with K from 1 to N, got {text!r}")
        return cls(*map(int, numbers))

    def share(self, rank: int, world_size: int) -> "Part":
        """Split this part over processes, of which this one has a rank counted from 0."""
        return Part((self.index - 1) * world_size + rank + 1, self.count * world_size)

    def of(self, items: Sequence[Item]) -> list[Item]:
        """Give every ``count``-th item, so that parts are alike."""
        return list(items[self.index - 1 :: self.count])

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


class Plan:
    """What is wanted of a dataset, as the shards of a store; everybody works by the same plan.

    Args:
        directory: The store's folder.
        spec: What the INRs are.
        wanted: How many objects and views.

    Attributes:
        ranges: The shards that are wanted. Their boundaries depend on the objects' order alone.

    Raises:
        DataError: There are fewer objects than are wanted, a label is none of the classes', or two
            objects have the same id.
    """

    def __init__(self, directory: Path, spec: INRDatasetSpec, wanted: Wanted) -> None:
        self.directory = directory
        self.spec = spec
        self.wanted = wanted
        self.header = spec.header
        self._orders: dict[str, SplitOrder] = {}
        for split in (name for name in SPLITS if name in wanted.num_objects):
            order = spec.signals.first(split, wanted.num_objects[split])
            count = wanted.num_objects[split]
            if count is not None and count > len(order):
                raise DataError(
                    f"{spec.signals.name} has {counted(len(order), 'object')} in split {split!r}, "
                    f"{counted(count, 'is', 'are')} asked for"
                )
            self._orders[split] = order
        self._check_orders()
        self.ranges = [
            ShardRange(split, view, start, min(start + SHARD_SIZE, len(order)))
            for split, order in self._orders.items()
            for view in range(wanted.views.get(split, 1))
            for start in range(0, len(order), SHARD_SIZE)
        ]

    def objects(self, where: ShardRange) -> SplitOrder:
        """Give a shard's objects; of one that is not wanted, as many as there are now."""
        order = self._orders.get(where.split)
        if order is None or len(order) < where.stop:
            order = self.spec.signals.first(where.split, where.stop)
            self._orders[where.split] = order
        return order[where.start : where.stop]

    def is_finished(self) -> bool:
        """Whether the folder holds shards, listed or not, of all that is wanted."""
        finished = [*filter(None, map(_range_of, self.directory.glob("*.safetensors")))]
        return all(is_covered(where, finished) for where in self.ranges)

    def _check_orders(self) -> None:
        signals, num_labels = self.spec.signals, self.header.num_labels
        for split, order in self._orders.items():
            wrong = ((order.label < 0) | (order.label >= num_labels)).nonzero()[:, 0].tolist()
            for row in wrong[:1]:
                raise DataError(
                    f"{signals.name}: object_id {int(order.object_id[row])} of split {split!r} "
                    f"has label {int(order.label[row])}, expected 0 to {num_labels - 1} for the "
                    f"{counted(len(signals.classes), 'class', 'classes')}"
                )
        ids = [i for order in self._orders.values() for i in order.object_id.tolist()]
        if len(set(ids)) < len(ids) or min(ids, default=0) < 0:
            raise DataError(f"{signals.name}: object ids must be unique and not negative")


def make_plan(
    directory: str | Path, spec: INRDatasetSpec, wanted: Wanted, show_progress: bool = True
) -> Plan:
    """Make sure, before anything is fitted, that there is what is wanted, and plan its shards.

    Raises:
        DataError: There is not, it cannot be stored, or the folder, which is made if missing, holds
            a store of something else.
    """
    spec.check()
    directory = make_directory(directory)
    store = open_listed(directory, spec.header)
    if store:
        recall_skipped(directory, spec.signals, store)
    spec.signals.prepare(wanted.num_objects, show_progress)
    return Plan(directory, spec, wanted)


def _range_of(path: Path) -> ShardRange | None:
    """Read the name of a shard, whose content is checked when it is published."""
    match = re.fullmatch(r"([a-z]+)-view(\d+)-(\d+)-(\d+)\.safetensors", path.name)
    if match is None:
        return None
    split, *numbers = match.groups()
    return ShardRange(split, *map(int, numbers))
