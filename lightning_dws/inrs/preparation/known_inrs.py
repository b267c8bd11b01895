"""INRs that were fitted before, by object and view, for a store that needs them as well."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_dws import weight_space
from lightning_dws.errors import DataError
from lightning_dws.inrs.signals import SplitOrder
from lightning_dws.inrs.store import INRStore, read_checked_shard
from lightning_dws.inrs.store.shards import read_measures
from lightning_dws.weight_space import WeightBatch


@dataclass(frozen=True)
class FittedINRs:
    """INRs, their PSNR (B,) and the signals' measures (B,), on the CPU."""

    batch: WeightBatch
    psnr: Tensor
    measures: dict[str, Tensor]

    def __getitem__(self, rows: Tensor) -> "FittedINRs":
        measures = {name: values[rows] for name, values in self.measures.items()}
        return FittedINRs(self.batch[rows], self.psnr[rows], measures)


def join(parts: Sequence[FittedINRs]) -> FittedINRs:
    """Put INRs one behind another."""
    return FittedINRs(
        weight_space.cat([part.batch for part in parts]),
        torch.cat([part.psnr for part in parts]),
        {name: torch.cat([part.measures[name] for part in parts]) for name in parts[0].measures},
    )


class KnownINRs:
    """The INRs of other stores, mapped from disk and found by object and view.

    Args:
        stores: Of the same INRs; a shard that is damaged is told and not used.
    """

    def __init__(self, stores: Sequence[INRStore]) -> None:
        self._parts: list[FittedINRs] = []
        self._places: dict[tuple[int, int], tuple[int, int]] = {}
        for store in stores:
            for shard in store.shards:
                try:
                    batch, psnr = read_checked_shard(store.directory, shard, store.header)
                    measures = read_measures(store.directory, shard.range, store.header)
                except DataError as error:
                    sys.stderr.write(f"not used: {error}\n")
                    continue
                self._parts.append(FittedINRs(batch, psnr, measures))
                for row, index in enumerate(batch.object_id.tolist()):
                    place = (len(self._parts) - 1, row)
                    self._places.setdefault((index, shard.range.view), place)

    def has(self, objects: SplitOrder, view: int) -> Tensor:
        """Tell which objects' INRs are known in a view: (n,) bool."""
        found = [(index, view) in self._places for index in objects.object_id.tolist()]
        return torch.tensor(found, dtype=torch.bool)

    def read(self, objects: SplitOrder, view: int) -> FittedINRs:
        """Give the INRs of objects that are known in a view."""
        places = [self._places[index, view] for index in objects.object_id.tolist()]
        return join([self._parts[part][torch.tensor([row])] for part, row in places])
