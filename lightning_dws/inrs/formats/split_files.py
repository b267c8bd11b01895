"""Lists of published files in json: which path belongs to which split, and its label."""

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from lightning_dws.errors import DataError
from lightning_dws.inrs.formats.source import BadFile, Source
from lightning_dws.inrs.signals import SPLITS

_SPLIT_NAMES = {**{name: name for name in SPLITS}, "valid": "val", "validation": "val"}


@dataclass(frozen=True)
class SplitPath:
    """A listed file.

    Attributes:
        split: Of the store.
        path: Relative to the source folder.
        parts: The components of the path as it is listed.
        label: As it is listed, if it is.
    """

    split: str
    path: str
    parts: tuple[str, ...]
    label: int | None


def read_splits(source: Source, name: str, example: str) -> tuple[list[SplitPath], list[BadFile]]:
    """Read ``{split: [paths]}`` or ``{split: {"path": [...], "label": [...]}}``.

    Args:
        source: The folder.
        name: Of the list.
        example: What the layout looks like, to say where it is missing.

    Returns:
        The files in their order, and those whose paths cannot be used.

    Raises:
        DataError: It is missing, or of another kind.
    """
    where = source.directory / name
    if not source.has(name):
        raise DataError(f"{where}: missing, expected {example}; {source.describe()}")
    try:
        content = source.read_json(name)
    except DataError as error:
        raise DataError(f"{where}: {str(error).removeprefix(f'{where}: ')}") from error
    if not isinstance(content, dict) or not content:
        raise DataError(f"{where}: expected {{split: [paths]}}, found a {type(content).__name__}")
    columns = {}
    for split, value in content.items():
        if split not in _SPLIT_NAMES:
            raise DataError(f"{where}: split {split[:80]!r}, expected {', '.join(SPLITS)}")
        columns[_SPLIT_NAMES[split]] = _read_columns(f"{where}: split {split!r}", value)
    leading = source.count_leading_folders(
        [path for paths, _ in columns.values() for path in paths]
    )
    listed, bad = [], []
    for split in (name for name in SPLITS if name in columns):
        for path, label in zip(*columns[split], strict=True):
            parts = PurePosixPath(path).parts
            rest = PurePosixPath(*parts[leading:])
            if ".." in parts or rest.is_absolute() or "\0" in path:
                bad.append(BadFile(path[:200], "the path leads out of the source folder: refused"))
            elif len(parts) <= leading:
                bad.append(BadFile(path[:200], "a folder, not a file"))
            else:
                listed.append(SplitPath(split, str(rest), parts, label))
    return listed, bad


def _read_columns(where: str, value: Any) -> tuple[list[str], list[int | None]]:
    paths, labels = value, None
    if isinstance(value, dict):
        paths, labels = value.get("path"), value.get("label")
    if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
        raise DataError(f"{where}: expected a list of paths")
    if labels is None:
        return paths, [None] * len(paths)
    if not isinstance(labels, list) or len(labels) != len(paths):
        raise DataError(f"{where}: expected as many labels as paths")
    return paths, [_read_label(where, label) for label in labels]


def _read_label(where: str, label: Any) -> int:
    # the published lists hold labels as text
    if isinstance(label, str) and label.isascii() and label.isdecimal() and len(label) < 10:
        return int(label)
    if type(label) is not int or not 0 <= label < 2**31:
        raise DataError(f"{where}: label {str(label)[:80]!r}")
    return label
