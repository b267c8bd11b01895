"""A folder of published files: what is read from it lies in it, and is not too large."""

import json
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from lightning_dws.errors import DataError

MAX_FILE_BYTES = 64 * 2**20
_MAX_JSON_BYTES = 2**30
_TRIED_PATHS = 100
_MAX_PATH_LENGTH = 4096  # of what a system opens
_SHOWN_PATH_LENGTH = 200
_SHOWN_NAMES = 6
_WEIGHT_SUFFIXES = (".pth", ".pt", ".safetensors", ".ckpt", ".h5", ".pkl", ".bin", ".npz")


@dataclass(frozen=True)
class BadFile:
    """A file, or an object, that cannot be imported, and why."""

    path: str
    reason: str

    def __str__(self) -> str:
        shown = self.path[:_SHOWN_PATH_LENGTH]
        return f"{shown}{'...' if shown != self.path else ''}: {self.reason}"


class Source:
    """The folder that is imported.

    Args:
        directory: Its path. It may be a link itself; nothing in it may lead out of it.

    Raises:
        DataError: It is no folder.
    """

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory)
        if not self.directory.is_dir():
            raise DataError(f"{self.directory}: not a folder")
        self._real = os.path.realpath(self.directory)

    @property
    def name(self) -> str:
        return os.path.basename(self._real)

    def folders(self, inside: str = "") -> list[str]:
        """Give the names of the folders in a folder, in natural order."""
        return self._names(inside, os.path.isdir)

    def files(self, inside: str = "") -> list[str]:
        """Give the names of what is no folder in a folder, in natural order."""
        return self._names(inside, lambda path: not os.path.isdir(path))

    def weight_files(self, depths: set[int]) -> list[str]:
        """Give what is named as files of weights are, in all folders of these depths."""
        found = []
        for folder, folders, files in os.walk(self._real):
            inside = os.path.relpath(folder, self._real)
            depth = 0 if inside == os.curdir else inside.count(os.sep) + 1
            if depth in depths:
                names = filter(_is_weights, [*folders, *files])
                found += [os.path.normpath(os.path.join(inside, name)) for name in names]
            if depth >= max(depths, default=0):
                folders.clear()
        return sorted(found, key=natural_key)

    def has(self, path: str) -> bool:
        return os.path.lexists(os.path.join(self._real, path))

    def describe(self) -> str:
        """Say what the folder holds, the first of it."""
        names = [*(f"{name}/" for name in self.folders()), *self.files()]
        shown = ", ".join(name[:40] for name in names[:_SHOWN_NAMES])
        shown = " ".join(shown.split())  # a name may hold a line break
        return f"found {shown or 'nothing'}{', ...' if len(names) > _SHOWN_NAMES else ''}"

    def real_path(self, path: str) -> str:
        """Resolve a relative path.

        Raises:
            DataError: It leads out of the folder, or to something that is no file.
        """
        try:
            real = os.path.realpath(os.path.join(self._real, path), strict=True)
            mode = os.stat(real).st_mode
        except FileNotFoundError:
            raise DataError("no such file") from None
        except OSError as error:
            raise DataError(f"not a usable path ({error.strerror})") from error
        except ValueError as error:
            raise DataError(f"not a usable path ({error})") from error
        if ".." in PurePosixPath(path).parts or not real.startswith(self._real + os.sep):
            raise DataError("the path leads out of the source folder: refused")
        if not stat.S_ISREG(mode):
            raise DataError("not a regular file")
        return real

    def read_bytes(self, path: str, max_bytes: int = MAX_FILE_BYTES) -> bytes:
        """Read a whole file of limited size.

        Raises:
            DataError: Its path is refused, it is too large, or cannot be read.
        """
        try:
            with open(self.real_path(path), "rb", opener=_open_without_waiting) as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise DataError("not a regular file")
                content = file.read(max_bytes + 1)
        except OSError as error:
            raise DataError(f"cannot be read ({error.strerror})") from error
        if len(content) > max_bytes:
            raise DataError(f"more than {max_bytes} bytes")
        return content

    def changed_ns(self, path: str) -> int:
        """Say when a file was last changed, in ns; now and ever after where it is not there."""
        try:
            status = os.stat(os.path.join(self._real, path))
        except (OSError, ValueError):
            return 2**63
        return max(status.st_mtime_ns, status.st_ctime_ns)

    def read_json(self, path: str) -> Any:
        """Read a json file.

        Raises:
            DataError: It cannot be read, or is not json.
        """
        try:
            return json.loads(self.read_bytes(path, _MAX_JSON_BYTES))
        except (ValueError, RecursionError) as error:
            raise DataError(f"{self.directory / path}: not readable json ({error})") from error

    def count_leading_folders(self, paths: list[str]) -> int:
        """Find how many folders stand before the source's own files in published paths.

        Published lists hold paths from elsewhere: behind the root folder's name, or absolute.
        """
        for path in paths[:_TRIED_PATHS]:
            parts = PurePosixPath(path).parts
            if len(path) > _MAX_PATH_LENGTH or "\0" in path or ".." in parts:
                continue
            for leading in range(len(parts)):
                # joined as text: a path of thousands of parts must not cost their square
                if parts[leading][0] != "/" and self.has("/".join(parts[leading:])):
                    return leading
        return 0

    def _names(self, inside: str, wanted: Any) -> list[str]:
        folder = os.path.join(self._real, inside)
        if not (os.path.realpath(folder) + os.sep).startswith(self._real + os.sep):
            raise DataError(f"{self.directory / inside}: leads out of the source folder: refused")
        try:
            with os.scandir(folder) as entries:
                names = [entry.name for entry in entries if wanted(entry.path)]
        except OSError as error:
            raise DataError(f"{folder}: cannot be listed ({error.strerror})") from error
        return sorted(names, key=natural_key)


def _is_weights(name: str) -> bool:
    return name.endswith(_WEIGHT_SUFFIXES) and not name.startswith(".")


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # a pipe would wait for a writer


def natural_key(name: str) -> list[tuple[int, str]]:
    """Order names with their numbers counted: ``net.2`` before ``net.10``.

    Example:
        >>> sorted(["net10", "net9", "a"], key=natural_key)
        ['a', 'net9', 'net10']
    """
    parts = re.split(r"([0-9]+)", name)
    return [(int(part[:18]), part) if part.isdecimal() else (0, part) for part in parts]


def last_number(name: str) -> int | None:
    """Give the last number in a name, None where there is none or an absurd one.

    Example:
        >>> last_number("model_017.pth")
        17
    """
    numbers = re.findall(r"[0-9]+", name.rsplit(".", 1)[0])
    return int(numbers[-1]) if numbers and len(numbers[-1]) <= 12 else None
