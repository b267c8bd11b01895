"""Numbers in text, many lines at once."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lightning_dws.errors import DataError
from lightning_dws.inrs.shapes.mesh_files.polygons import Floats, Integers

_IS_WHITE = np.isin(np.arange(256), list(b" \t\n\r\v\f"))  # to bytes.split


@dataclass(frozen=True, eq=False)
class Rows:
    """Lines of numbers, of any length each.

    Attributes:
        values: (t,) float64: all numbers, line by line.
        sizes: (m,) int64: how many each line has.
    """

    values: Floats
    sizes: Integers

    @classmethod
    def parse(cls, lines: Sequence[bytes]) -> "Rows":
        """Read the numbers of lines that are separated by white space.

        Raises:
            DataError: Something is not a number.
        """
        text = b"\n".join(lines)
        content = np.frombuffer(text, np.uint8)
        is_white = _IS_WHITE[content]
        begins = ~is_white
        begins[1:] &= is_white[:-1]
        line = np.cumsum(content == ord("\n"))[begins]
        return cls(parse_numbers(text.split()), np.bincount(line, minlength=len(lines)))

    @property
    def starts(self) -> Integers:
        """(m,): where each line's numbers begin."""
        starts: Integers = np.cumsum(self.sizes) - self.sizes
        return starts

    def columns(self, first_row: int, num_rows: int, num_columns: int, what: str) -> Floats:
        """Give the first numbers of some lines: (num_rows, num_columns).

        Raises:
            DataError: A line has fewer.
        """
        rows = slice(first_row, first_row + num_rows)
        short = np.flatnonzero(self.sizes[rows] < num_columns)
        if len(short):
            raise DataError(
                f"{what} {short[0]} has {self.sizes[rows][short[0]]} numbers, "
                f"expected {num_columns}"
            )
        columns: Floats = self.values[self.starts[rows, None] + np.arange(num_columns)]
        return columns


def parse_numbers(tokens: Sequence[bytes]) -> Floats:
    """Read numbers: (t,) float64.

    Raises:
        DataError: Something is not a number.
    """
    try:
        return np.array(tokens, dtype=np.float64)
    except ValueError:
        wrong = next(token for token in tokens if not _is_number(token))
        raise DataError(f"{shown(wrong)} where a number is expected") from None


def whole(values: Floats) -> Integers:
    """Give numbers that must be whole as int64.

    Raises:
        DataError: One is not.
    """
    wrong = ~(np.abs(values) < 2.0**53) | (np.floor(values) != values)
    if wrong.any():
        raise DataError(f"{values[wrong][0]:g} where a whole number is expected")
    return values.astype(np.int64)


def content_lines(text: bytes) -> list[bytes]:
    """Give the lines of a text that have content, without ``#`` comments and outer white space."""
    lines = re.sub(rb"#[^\r\n]*", b"", text).splitlines()
    return [line for line in map(bytes.strip, lines) if line]


def shown(text: bytes) -> str:
    """Give the beginning of a text for a message."""
    return repr(text[:40].decode("ascii", "replace"))


def _is_number(token: bytes) -> bool:
    try:
        float(token)
    except ValueError:
        return False
    return True
