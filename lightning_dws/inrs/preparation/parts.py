"""Fit a dataset in disjoint parts: job arrays, devices and hosts that share a folder."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch

from lightning_dws.files import make_directory
from lightning_dws.inrs.preparation.plan import Wanted
from lightning_dws.inrs.preparation.prepare import fit_shards, prepare_signals
from lightning_dws.inrs.preparation.spec import INRDatasetSpec
from lightning_dws.inrs.store import ShardRange
from lightning_dws.inrs.store.locks import part_locked
from lightning_dws.inrs.store.unfinished import covering, find_listed, find_unlisted

Item = TypeVar("Item")


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


def fit_part(
    directory: str | Path,
    spec: INRDatasetSpec,
    wanted: Wanted,
    part: Part,
    *,
    device: torch.device | str = "cpu",
    chunk_size: int | None = None,
    show_progress: bool = True,
) -> None:
    """Fit one of several disjoint parts of what is wanted; other processes fit the others.

    Parts may run at the same time, on several hosts that share the folder, or one after another.
    When ``all_parts_finished``, ``prepare_store`` publishes the store: the same bytes as one that
    a single process fitted.

    Args:
        directory: The store's folder, made if missing.
        spec: What the INRs are.
        wanted: How many objects and views, the same for all parts.
        part: Which part this is.
        device: Where the INRs are fitted.
        chunk_size: As for ``prepare_store``.
        show_progress: Likewise.

    Raises:
        DataError: As for ``prepare_store``, or the folder cannot be written.
    """
    spec.check()
    directory = make_directory(directory)
    own = part.of(prepare_signals(directory, spec, wanted, show_progress))
    with part_locked(directory, f"{part.index}-of-{part.count}"):
        store = find_listed(directory, spec.header)
        listed = [shard.range for shard in store.listed] if store else []
        existing = {shard.range: shard for shard in store.shards} if store else {}
        existing |= find_unlisted(directory, spec.header, listed, own)
        plan = [where for where in own if covering(where, existing) is None]
        fit_shards(directory, spec, plan, existing, device, chunk_size, show_progress)


def all_parts_finished(directory: str | Path, spec: INRDatasetSpec, wanted: Wanted) -> bool:
    """Whether a folder holds shards, listed or not, of all that is wanted."""
    ranges = wanted.ranges(spec.signals)
    finished = [_range_of(path.name) for path in Path(directory).glob("*.safetensors")]
    return all(covering(where, filter(None, finished)) for where in ranges)


def _range_of(file_name: str) -> ShardRange | None:
    """Read the name of a shard, whose content ``prepare_store`` will check."""
    match = re.fullmatch(r"([a-z]+)-view(\d+)-(\d+)-(\d+)\.safetensors", file_name)
    if match is None:
        return None
    split, *numbers = match.groups()
    return ShardRange(split, *map(int, numbers))
