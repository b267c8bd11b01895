"""Where the INRs of a split live during a run: on the device, or mapped from disk."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any, Protocol

import torch
from torch import Tensor

from lightning_dws import weight_space
from lightning_dws.data.paired_rows import PairedRows
from lightning_dws.data.sampler import EpochSampler, SequentialSampler
from lightning_dws.inrs.store import INRStore
from lightning_dws.weight_space import WeightBatch


class Table(Protocol):
    """Rows of INRs from which batches are gathered."""

    def __len__(self) -> int: ...

    def gather(self, rows: Tensor) -> WeightBatch:
        """Give the INRs of row numbers (B,), int64 on the CPU."""

    def chunks(self) -> Sequence[WeightBatch]:
        """Give all INRs in pieces that exist already: nothing is copied."""


class DeviceTable:
    """A split on the device: a batch is one gather there."""

    def __init__(self, inrs: WeightBatch) -> None:
        self.inrs = inrs

    def __len__(self) -> int:
        return len(self.inrs)

    def gather(self, rows: Tensor) -> WeightBatch:
        if self.inrs.device.type == "cuda":
            rows = rows.pin_memory().to(self.inrs.device, non_blocking=True)
        return self.inrs[rows]

    def chunks(self) -> Sequence[WeightBatch]:
        return [self.inrs]


class MappedTable:
    """A split that stays on disk: only the rows of a batch are read, into pinned memory on a GPU.

    Processes on one machine share the pages. Every shard's sum is checked once, here.

    Args:
        store: Where the split is.
        split: Its name.
        num_objects: See ``INRStore.split``.
        views: Likewise.
        pin: Whether batches are put into pinned memory.
        target: What is to be predicted of all INRs (N, K), if there is anything; it is kept in
            memory.
    """

    def __init__(
        self,
        store: INRStore,
        split: str,
        num_objects: int | None,
        views: int | None,
        pin: bool,
        target: Tensor | None = None,
    ) -> None:
        self._parts = [batch for batch, _ in store.parts(split, num_objects, views)]
        self._ends = list(accumulate(len(part) for part in self._parts))
        if target is not None:
            targets = target.split([len(part) for part in self._parts])
            self._parts = [
                part.replace(target=own) for part, own in zip(self._parts, targets, strict=True)
            ]
        self._pin = pin

    def __len__(self) -> int:
        return self._ends[-1]

    def gather(self, rows: Tensor) -> WeightBatch:
        order = rows.argsort()
        pieces, first = [], 0
        sorted_rows = rows[order].tolist()
        while first < len(sorted_rows):
            part = bisect_right(self._ends, sorted_rows[first])
            last = bisect_right(sorted_rows, self._ends[part] - 1)
            start = self._ends[part] - len(self._parts[part])
            pieces.append(self._parts[part][rows[order[first:last]] - start])
            first = last
        batch = weight_space.cat(pieces)[order.argsort()]
        return batch.pin_memory() if self._pin else batch

    def chunks(self) -> Sequence[WeightBatch]:
        return self._parts


class TableLoader:
    """A data loader over a table: no workers, no collation.

    Args:
        table: The rows.
        batches: Which rows make each batch.
    """

    def __init__(self, table: Table, batches: EpochSampler | SequentialSampler) -> None:
        self.table = table
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[WeightBatch]:
        return (self.table.gather(rows) for rows in self._batches)


class ResumableTableLoader(TableLoader):
    """A loader for training: its place within the epoch is saved in Lightning's checkpoints.

    Args:
        table: The rows.
        sampler: Which rows make each batch.
        pairs: Gives those rows' partners, which are then the second half of each batch.
    """

    def __init__(
        self, table: Table, sampler: EpochSampler, pairs: PairedRows | None = None
    ) -> None:
        super().__init__(table, sampler)
        self.sampler = sampler  # where Lightning looks for ``set_epoch``
        self._pairs = pairs

    def __iter__(self) -> Iterator[WeightBatch]:
        for rows in self.sampler:
            paired = self._pairs(rows, self.sampler.epoch) if self._pairs else rows
            yield self.table.gather(paired)

    def state_dict(self) -> dict[str, Any]:
        return self.sampler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.sampler.load_state_dict(state)


def free_memory(device: torch.device) -> int:
    """Measure the bytes that are free on a device (for the CPU: available to new programs)."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    import psutil

    return int(psutil.virtual_memory().available)
