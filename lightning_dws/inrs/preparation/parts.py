"""Disjoint parts of work: job arrays, devices and hosts that share a folder."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

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
