"""In which order a run sees its training INRs, exactly resumable."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from lightning_dws.counting import counted
from lightning_dws.randomness import make_generator


class EpochSampler:
    """Shuffled batches of row numbers, a function of (seed, epoch), split over the ranks.

    The state that is saved says how many batches of the current epoch were given, so a run
    resumed in mid-epoch continues with those it had left.

    Args:
        num_rows: Rows to draw from.
        batch_size: Rows per batch and rank.
        seed: Of the shuffling.
        rank: This process.
        world_size: All processes.
        drop_last: Leave out the epoch's last batch when it is not full. Ignored where there is no
            full batch at all: then there is one batch of all rows. Either way every rank gets
            equally many rows, so of a batch that is not full up to ``world_size - 1`` are left out.
        same_order: Give every epoch the order of the first one.

    Raises:
        ValueError: A number is too small.
    """

    def __init__(
        self,
        num_rows: int,
        batch_size: int,
        *,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        drop_last: bool = True,
        same_order: bool = False,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        if num_rows < world_size:
            inrs = counted(num_rows, "training INR")
            raise ValueError(f"{inrs} cannot be split over {world_size} ranks")
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.same_order = same_order
        self.epoch = 0
        self.batches_given = 0
        per_rank = num_rows // world_size
        self._num_rows = num_rows
        self._batch_size = min(batch_size, per_rank)
        self._length = per_rank // self._batch_size
        if not drop_last and per_rank % self._batch_size:
            self._length += 1

    def __len__(self) -> int:
        """Count the batches of an epoch on this rank."""
        return self._length

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes; Lightning calls it at the start of each."""
        if epoch != self.epoch:
            self.epoch = epoch
            self.batches_given = 0

    def __iter__(self) -> Iterator[Tensor]:
        """Give the epoch's batches of row numbers (batch_size,) that were not given yet."""
        if self.batches_given >= len(self):
            self.batches_given = 0
        epoch = 0 if self.same_order else self.epoch
        generator = make_generator(self.seed, rank=0, counter=epoch, stream="sampler")
        order = torch.randperm(self._num_rows, generator=generator)
        stride = self._batch_size * self.world_size
        while self.batches_given < len(self):
            together = order[self.batches_given * stride :][:stride]
            share = len(together) // self.world_size
            self.batches_given += 1
            yield together[self.rank * share : (self.rank + 1) * share]

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "batches_given": self.batches_given}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.epoch = state["epoch"]
        self.batches_given = state["batches_given"]


class SequentialSampler:
    """All rows once and in order, dealt out to the ranks in turn: for validation and test.

    Args:
        num_rows: Rows to go through.
        batch_size: Rows per batch and rank.
        rank: This process.
        world_size: All processes.

    Raises:
        ValueError: There is a rank without any row: the others would wait for it.
    """

    def __init__(
        self, num_rows: int, batch_size: int, *, rank: int = 0, world_size: int = 1
    ) -> None:
        if num_rows < world_size:
            inrs = counted(num_rows, "INR")
            raise ValueError(f"{inrs} cannot be split over {world_size} ranks")
        self._batches = torch.arange(rank, num_rows, world_size).split(batch_size)

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self._batches)
