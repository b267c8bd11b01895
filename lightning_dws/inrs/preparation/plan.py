"""Which INRs a store is to hold, and in which shards they go."""

from dataclasses import dataclass

from lightning_dws.errors import DataError
from lightning_dws.inrs.signals import SPLITS, SignalDataset
from lightning_dws.inrs.store import ShardRange
from lightning_dws.inrs.store.shards import SHARD_SIZE


@dataclass(frozen=True)
class Wanted:
    """How much of each split is wanted: the first so many objects, so many views of each.

    Attributes:
        num_objects: Per split, None for all; nothing is wanted of a split that is not named.
        views: Per split; 1 where not named.
    """

    num_objects: dict[str, int | None]
    views: dict[str, int]

    def ranges(self, signals: SignalDataset) -> list[ShardRange]:
        """Cut what is wanted into shards whose boundaries depend on the objects' order alone."""
        ranges = []
        for split in (name for name in SPLITS if name in self.num_objects):
            wanted = self.num_objects[split]
            available = len(signals.first(split, wanted))
            count = available if wanted is None else wanted
            if count > available:
                raise DataError(
                    f"{signals.name} has {available} objects in split {split!r}, "
                    f"{count} are asked for"
                )
            for view in range(self.views.get(split, 1)):
                ranges += [
                    ShardRange(split, view, start, min(start + SHARD_SIZE, count))
                    for start in range(0, count, SHARD_SIZE)
                ]
        return ranges
