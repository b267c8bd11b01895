"""Where the INRs of a split live during a run: on the device, or mapped from disk."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Any, Protocol

import torch
from torch import Tensor

from lightning_dws import weight_space
from lightning_dws.canonical import CanonicalForm, to_canonical
from lightning_dws.data.paired_rows import PairedRows
from lightning_dws.data.sampler import EpochSampler, SequentialSampler
from lightning_dws.inrs.store import INRStore
from lightning_dws.weight_space import WeightBatch

_ROWS_AT_ONCE = 4096  # brought into canonical form, so that a table is not in memory twice


class Table(Protocol):
    """Rows of INRs from which batches are gathered, in canonical form where one is given."""

    def __len__(self) -> int: ...

    @property
    def label(self) -> Tensor:
        """(n,) int64, of all rows."""

    def gather(self, rows: Tensor) -> WeightBatch:
        """Give the INRs of row numbers (B,), int64 on the CPU."""

    def chunks(self) -> Iterable[WeightBatch]:
        """Give all INRs in pieces, one after another; those that exist already are not copied."""


class DeviceTable:
    """A split on the device: a batch is one gather there.

    Args:
        inrs: The table, its own from now on.
        forms: Canonical forms that the rows are brought into, once, in place.
    """

    def __init__(self, inrs: WeightBatch, forms: Sequence[CanonicalForm] = ()) -> None:
        self.inrs = inrs
        if forms:
            for rows in torch.arange(len(inrs), device=inrs.device).split(_ROWS_AT_ONCE):
                inrs.parameters[rows] = to_canonical(inrs[rows], forms).parameters

    def __len__(self) -> int:
        return len(self.inrs)

    @property
    def label(self) -> Tensor:
        return self.inrs.label

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
        num_objects: Only the first so many objects; None for all.
        views: Only the first so many views; None for all.
        pin: Give batches in pinned memory.
        forms: Canonical forms that rows are brought into, again whenever they are read.
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
        forms: Sequence[CanonicalForm] = (),
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
        self._forms = forms

    def __len__(self) -> int:
        return self._ends[-1]

    @property
    def label(self) -> Tensor:
        return torch.cat([part.label for part in self._parts])

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
        batch = to_canonical(weight_space.cat(pieces)[order.argsort()], self._forms)
        return batch.pin_memory() if self._pin else batch

    def chunks(self) -> Iterable[WeightBatch]:
        return (to_canonical(part, self._forms) for part in self._parts)


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
