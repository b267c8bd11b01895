"""Files that are at any moment absent, old or complete, and their sums."""

import codecs
import csv
import hashlib
import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from torch import Tensor

from lightning_dws.errors import DataError

PARTIAL = ".partial"  # ends the names of files that are being written


class _RememberingFile(io.FileIO):
    """A file that remembers why it could not be written: torch's writer loses the reason."""

    error: OSError | None = None

    def write(self, content) -> int:  # type: ignore[no-untyped-def]
        """Write all of ``content``, or raise."""
        view = memoryview(content).cast("B")
        try:
            done = 0
            while done < len(view):
                done += super().write(view[done:]) or 0
        except OSError as error:
            self.error = error
            raise
        return len(view)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a file beside ``path`` that takes its place when the block ends without an error.

    It is written to the disk (fsync) before it takes the place, and the folder after, so that
    whatever is deleted later cannot be gone sooner.

    Raises:
        DataError: The file cannot be written: read-only or full disk, a missing folder. What was
            there before stays, and nothing else is left.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL}")
    file: _RememberingFile | None = None
    try:
        with _RememberingFile(partial, "wb") as file:
            yield file
            os.fsync(file.fileno())
        os.replace(partial, path)
        _sync_folder(path.parent)
    except BaseException as error:
        with suppress(OSError):
            partial.unlink()
        reason = error if isinstance(error, OSError) else getattr(file, "error", None)
        if reason is None:
            raise
        raise DataError(
            f"{path}: cannot be written ({reason.strerror}); what was written before is kept"
        ) from error


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that at any moment it is absent, old, or complete.

    Raises:
        DataError: The file cannot be written: read-only or full disk, a missing folder.
    """
    with replacing(path) as file:
        file.write(content)


def check_regular(path: Path) -> None:
    """Make sure that a path leads to a regular file: reading a pipe or a device may never end.

    Raises:
        DataError: It leads to nothing, or to something else.
    """
    if not os.path.isfile(path):
        what = "is not a regular file" if os.path.exists(path) else "is missing"
        raise DataError(f"{path}: {what}")


def file_sha256(path: Path) -> str:
    """Give a file's SHA-256 in hexadecimal.

    Raises:
        DataError: The file cannot be read, or is no regular file.
    """
    check_regular(path)
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error


def json_sha256(plain: Any) -> str:
    """Give the SHA-256 of plain data, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def payload_sha256(tensors: dict[str, Tensor]) -> str:
    """Give the SHA-256 of tensors' bytes, in the order of their names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(tensors[name].numpy().tobytes())
    return digest.hexdigest()


def read_csv_rows(path: Path, expected: str, delimiters: str = ",") -> list[list[str]]:
    """Read the rows of a CSV file that are not empty; bytes that are no UTF-8 stay as surrogates.

    Args:
        path: The file.
        expected: What its content should be, for errors.
        delimiters: What may stand between cells: the one that is in the first line most often.

    Raises:
        DataError: The file cannot be read, or has no row.
    """
    check_regular(path)
    try:
        text = path.read_bytes().removeprefix(codecs.BOM_UTF8).decode(errors="surrogateescape")
        first_line = text.lstrip().partition("\n")[0]
        delimiter = max(delimiters, key=first_line.count)
        rows = [
            row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if row
        ]
    except (OSError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise DataError(f"{path}: cannot be read ({reason})") from error
    if not rows:
        raise DataError(f"{path}: is empty, expected {expected}")
    return rows


def make_directory(directory: str | Path) -> Path:
    """Make a folder if it is missing.

    Raises:
        DataError: It cannot be made.
    """
    directory = Path(directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{directory}: cannot be made ({error.strerror})") from error
    return directory
