"""Who may write to a store: one process that fits the whole, or several with a part each."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from lightning_dws.errors import DataError


@contextmanager
def locked(directory: Path) -> Iterator[bool]:
    """Let one process at a time write; give whether the folder can be written at all."""
    lock = FileLock(directory / ".lock")
    try:
        lock.acquire(timeout=1)
    except Timeout:
        sys.stderr.write(f"waiting for another process that fits {directory}\n")
        lock.acquire()
    except OSError:
        pass  # a read-only folder: whoever has all that is wanted may still read it
    try:
        yield lock.is_locked
    finally:
        lock.release()


@contextmanager
def part_locked(directory: Path, part: str) -> Iterator[None]:
    """Keep a second process from the same part, and one that fits the whole from starting.

    Args:
        directory: The store's folder.
        part: Names the part in a file name.
    """
    lock = FileLock(directory / f".part-{part}.lock")
    with locked(directory) as writable:
        if not writable:
            raise DataError(f"{directory}: cannot be written")
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise DataError(f"{directory}: part {part} is being fitted already") from error
    try:
        yield
    finally:
        lock.release()


def wait_for_parts(directory: Path) -> None:
    """Wait until no part is being fitted; the caller keeps new ones from starting."""
    for path in directory.glob(".part-*.lock"):
        lock = FileLock(path)
        try:
            lock.acquire(timeout=1)
        except Timeout:
            sys.stderr.write(f"waiting for {path.name[1:-5]} of {directory}\n")
            lock.acquire()
        path.unlink(missing_ok=True)
        lock.release()
