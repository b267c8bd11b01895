"""A CSV that says of which class each file is, where folders do not."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from lightning_dws.counting import counted
from lightning_dws.errors import DataError
from lightning_dws.files import read_csv_rows
from lightning_dws.inrs.signals.class_folders import FileKind, list_class_folders
from lightning_dws.inrs.signals.file_listing import POOL, FileListing, normalised
from lightning_dws.inrs.signals.unsorted_files import find_files

# what columns are called, in lower case
_FILE = ("file", "filename", "file_name", "filepath", "path", "image", "name", "id")
_CLASS = ("class", "label", "category", "class_name")
_SPLIT = ("split", "subset", "set")
_SPLIT_OF_WORD = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_EXPECTED = "a table of files and their classes: a line FILE,CLASS of each"


@dataclass(frozen=True)
class ClassOfFile:
    """A line of the table.

    Attributes:
        line: Its number, from 1, where no line is empty.
        file: As it is named, its parts between slashes.
        class_name: Of the file.
        split: ``"train"``, ``"val"`` or ``"test"``, where the table says.
    """

    line: int
    file: str
    class_name: str
    split: str | None


@dataclass(frozen=True)
class ClassTable:
    """The classes of files, by their names, which are relative to some folder.

    Attributes:
        path: Of the CSV.
        rows: Its lines, none twice of the same file.
    """

    path: Path
    rows: Sequence[ClassOfFile]

    @classmethod
    def read(cls, path: str | Path, folder: Path) -> "ClassTable":
        """Read a CSV with the columns ``file`` and ``class``, and perhaps ``split``.

        Commas, semicolons or tabs are between the cells. Other columns do not matter. Without a
        line that names them the columns are these, in this order.

        Args:
            path: Of the file; where there is none, in the folder.
            folder: That the names are relative to.

        Raises:
            DataError: The file cannot be read, has no such columns, a cell is empty, or a file is
                named twice.
        """
        path = folder / path if not Path(path).exists() and (folder / path).exists() else Path(path)
        lines = read_csv_rows(path, _EXPECTED, delimiters=",;\t")
        columns, start = _find_columns(path, lines[0])
        rows: dict[str, ClassOfFile] = {}
        for line, cells in enumerate(lines[start:], start=start + 1):
            row = _read_line(f"{path}: line {line}", line, cells, columns)
            if row.file in rows:
                raise DataError(
                    f"{path}: line {line}: {row.file!r}, which line {rows[row.file].line} names too"
                )
            rows[row.file] = row
        if not rows:
            raise DataError(f"{path}: has no line but that of its columns, expected {_EXPECTED}")
        with_split = [row for row in rows.values() if row.split is not None]
        if with_split and len(with_split) < len(rows):
            row = next(row for row in rows.values() if row.split is None)
            raise DataError(f"{path}: line {row.line}: no split, which other lines have")
        return cls(path, list(rows.values()))

    def match(self, files: Iterable[str]) -> dict[str, ClassOfFile]:
        """Find the lines of files: by their names, or by these without extension.

        Args:
            files: Relative to the folder that the table speaks of.

        Returns:
            The line of each file that has one.
        """
        by_file = {row.file: row for row in self.rows}
        names = {file: normalised(PurePosixPath(file).as_posix()) for file in files}
        found = {file: by_file[name] for file, name in names.items() if name in by_file}
        stems = {file: _without_suffix(name) for file, name in names.items() if file not in found}
        counts = Counter(stems.values())
        taken = {row.file for row in found.values()}
        for file, stem in stems.items():
            if stem in by_file and stem not in taken and counts[stem] == 1:
                found[file] = by_file[stem]
        return found


def list_files(root: Path, kind: FileKind, labels: str | None) -> FileListing:
    """List the files of a folder by a table of their classes, or without one by its folders.

    Raises:
        DataError: See ``list_by_table`` and ``list_class_folders``.
    """
    if labels is None:
        return list_class_folders(root, kind)
    return list_by_table(root, kind, labels)


def list_by_table(root: Path, kind: FileKind, path: str | Path) -> FileListing:
    """List the files of a folder, at any depth, that a table names, with their classes.

    Files of the kind that it does not name are left out, and told. One that it names and that is
    not there is listed: it is skipped as a damaged one is, and taken once it is there.

    Args:
        root: The folder, which the names are relative to.
        kind: Of the files.
        path: Of the CSV, see ``ClassTable.read``.

    Raises:
        DataError: There is no such folder or table; it names a file outside of the folder, one of
            another kind, or none that is there; or a class or a split is missing.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; expected one with {kind.plural}")
    table = ClassTable.read(path, root)
    files = {str(file.relative_to(root)): file for file in find_files(root, kind.has)}
    known = table.match(files)
    if not known:
        row = table.rows[0]
        raise DataError(
            f"{table.path}: line {row.line}: {row.file!r} is no {kind.name} in {root}, and no "
            "other line names one; expected names relative to that folder"
        )
    first = table.rows[0]
    if first.line == 1 and first not in known.values():
        raise DataError(
            f"{table.path}: line 1: {first.file!r} is no {kind.name} in {root}; a line that names "
            "the columns calls them 'file' and 'class', and perhaps 'split'"
        )
    place_of = {row.file: files[file] for file, row in known.items()}
    for row in table.rows:
        if row.file not in place_of:
            place_of[row.file] = _missing(table.path, root, kind, row)
    classes = tuple(sorted({row.class_name for row in table.rows}))
    parts = {}
    for split in _splits_of(table):
        rows = [row for row in table.rows if (row.split or POOL) == split]
        rows.sort(key=lambda row: (row.class_name, row.file))
        parts[split] = [(place_of[row.file], classes.index(row.class_name)) for row in rows]
    others = [file for file in files if file not in known]
    left_out: tuple[str, ...] = ()
    if others:
        left_out = (
            f"{kind.count(len(others))} that {table.path} does not name, such as {others[0]}",
        )
    return FileListing(root, classes, parts, left_out, is_by_table=True)


def _find_columns(path: Path, cells: list[str]) -> tuple[dict[str, int], int]:
    """Find the columns by their names, or take the first two or three; and the first row's line."""
    names = [cell.strip().lower() for cell in cells]
    known = {"file": _FILE, "class": _CLASS, "split": _SPLIT}
    found = {
        column: names.index(next(word for word in words if word in names))
        for column, words in known.items()
        if set(words) & set(names)
    }
    if "file" in found and "class" in found:
        return found, 1
    if len(cells) in (2, 3) and "class" not in found:
        return dict(zip(("file", "class", "split"), range(len(cells)), strict=False)), 0
    raise DataError(
        f"{path}: columns {', '.join(cells[:6])}; expected 'file' and 'class', and perhaps 'split'"
    )


def _read_line(where: str, line: int, cells: list[str], columns: dict[str, int]) -> ClassOfFile:
    if len(cells) <= max(columns.values()):
        wanted = max(columns.values()) + 1
        raise DataError(f"{where}: {counted(len(cells), 'cell')}, expected {wanted}")
    given = {column: cells[number].strip() for column, number in columns.items()}
    empty = [column for column, cell in given.items() if not cell and column != "split"]
    if empty:
        raise DataError(f"{where}: no {empty[0]}, expected one")
    split = given.get("split", "")
    if split and split.lower() not in _SPLIT_OF_WORD:
        raise DataError(f"{where}: split {split!r}, expected train, val or test")
    return ClassOfFile(
        line,
        normalised(PurePosixPath(given["file"]).as_posix()),
        normalised(given["class"]),
        _SPLIT_OF_WORD[split.lower()] if split else None,
    )


def _without_suffix(file: str) -> str:
    return str(PurePosixPath(file).with_suffix(""))


def _missing(table: Path, root: Path, kind: FileKind, row: ClassOfFile) -> Path:
    """Give the place of a file that is not there, if it is one of the folder, and of the kind."""
    place = root / row.file
    if PurePosixPath(row.file).is_absolute() or ".." in PurePosixPath(row.file).parts:
        raise DataError(f"{table}: line {row.line}: {row.file!r}, expected a file in {root}")
    if place.exists():
        raise DataError(f"{table}: line {row.line}: {row.file!r} is no {kind.name}, by its name")
    return place


def _splits_of(table: ClassTable) -> list[str]:
    """Give the splits that a table names in their order, or that of the pool."""
    if table.rows[0].split is None:
        return [POOL]
    found = {row.split for row in table.rows}
    missing = [split for split in ("train", "test") if split not in found]
    if missing:
        raise DataError(f"{table.path}: no line of split {missing[0]!r}; expected train and test")
    known = {row.class_name for row in table.rows if row.split == "train"}
    for row in table.rows:
        if row.class_name not in known:
            raise DataError(
                f"{table.path}: line {row.line}: class {row.class_name!r}, which no line of split "
                "'train' has"
            )
    return [split for split in ("train", "val", "test") if split in found]
