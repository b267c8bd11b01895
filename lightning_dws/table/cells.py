"""The cells on disk: one small file for each, written once, whole or not at all."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from lightning_dws.errors import DataError
from lightning_dws.files import write_atomically

Record = dict[str, Any]


class CellStore:
    """The files of a table's cells, found by their hash.

    Args:
        folder: Of the table's results; the cells are in its folder ``cells``.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._cells = self.folder / "cells"
        self._locks = self.folder / "locks"

    def read(self, cell_hash: str) -> Record | None:
        """Read the record of a cell, None where there is none.

        Raises:
            DataError: The file is damaged.
        """
        for path in sorted(self._cells.glob(f"*-{cell_hash}.json")):
            try:
                record = json.loads(path.read_text())
                if record["hash"] == cell_hash and record["status"] in ("finished", "failed"):
                    return dict(record)
            except FileNotFoundError:
                continue  # a failed cell that another process has begun again
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise DataError(
                    f"{path}: not a cell's file ({error}); delete it, and the cell runs again"
                ) from error
        return None

    def is_finished(self, cell_hash: str) -> bool:
        """Whether a cell has run to its end."""
        record = self.read(cell_hash)
        return record is not None and record["status"] == "finished"

    def write(self, name: str, record: Record) -> None:
        """Write a cell's record, one line a key.

        Args:
            name: The cell's name, which ends in its hash.
            record: Plain data.
        """
        self._cells.mkdir(parents=True, exist_ok=True)
        lines = (f"{json.dumps(key)}: {json.dumps(value)}" for key, value in record.items())
        text = "{\n" + ",\n".join(lines) + "\n}\n"
        write_atomically(self._cells / f"{name}.json", text.encode())

    def forget(self, cell_hash: str) -> None:
        """Delete the record of a failure: the cell runs again."""
        for path in self._cells.glob(f"*-{cell_hash}.json"):
            path.unlink(missing_ok=True)

    @contextmanager
    def locked(self, name: str, wait: bool = False) -> Iterator[bool]:
        """Hold a cell while it runs, or the report; give whether that was possible.

        The lock is the process's: it ends with it, however it ends.

        Args:
            name: The cell's hash, or ``report``.
            wait: Until another process lets go.
        """
        self._locks.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self._locks / f"{name}.lock")
        try:
            lock.acquire(timeout=-1 if wait else 0)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()
