"""The one reader of config files: what they hold, and the files that they include.

A file's list ``config`` names files that come before it. A file that is not found is looked for
among the configs that come with the code, so that ``quickstart.yaml`` is one of them in any folder.
Everything that takes config files (the commands, tables, ``inrs augment``) reads them here, so that
a file means the same everywhere.
"""

import io
import itertools
import os
from collections.abc import Sequence
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml.nodes import MappingNode, Node, SequenceNode

from lightning_dws.errors import DataError
from lightning_dws.program import find_config, find_shipped

Settings = dict[str, Any]

_LARGEST_FILE = 16 << 20  # bytes
_MOST_VALUES = 1_000_000  # of one file, with all that its aliases repeat
_SUFFIXES = (".yaml", ".yml")
_MOST_FILES = 200  # that one file may include or name, directly or not


class _Reading:
    """The files that are being read, one inside of the other, and how many were read for them.

    Attributes:
        chain: From the outermost file to the innermost.
    """

    def __init__(self, chain: tuple[str, ...] = (), count: "itertools.count[int] | None" = None):
        self.chain = chain
        self._count = itertools.count(1) if count is None else count

    def enter(self, path: str) -> "_Reading":
        """Note that a file is being read, inside of the others.

        Raises:
            DataError: It is one of those others, under whatever name, or there are too many.
        """
        chain = (*self.chain, path)
        if any(os.path.realpath(path) == os.path.realpath(other) for other in self.chain):
            raise DataError(f"config files include each other: {' -> '.join(chain)}")
        if next(self._count) > _MOST_FILES:
            raise DataError(f"{chain[0]}: includes more than {_MOST_FILES} files")
        return _Reading(chain, self._count)


def load_yaml(path: str) -> Settings:
    """Read one YAML file of settings by name; what it includes is not looked at.

    Raises:
        DataError: It is no regular file of UTF-8 text, no YAML, contains itself through an alias,
            or holds something else than settings by name.
    """
    file = Path(path)
    try:
        if file.exists() and not file.is_file():  # reading a pipe or a device would not end
            kind = "a folder" if file.is_dir() else "no regular file"
            raise DataError(f"{path}: {kind}, expected a YAML file")
        if file.stat().st_size > _LARGEST_FILE:
            raise DataError(f"{path}: {file.stat().st_size} bytes, too many for a config file")
        text = file.read_text(encoding="utf-8")
    except DataError:
        raise
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a YAML file ({error})") from error
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
    except ValueError as error:  # a name with a NUL
        raise DataError(f"{path!r}: not the name of a file ({error})") from error
    return parse_settings(text, path)


def parse_settings(text: str, where: str) -> Settings:
    """Read settings by name from YAML text; ``where`` names the text in errors.

    Raises:
        DataError: See ``load_yaml``.
    """
    return deepcopy(_parse_settings(text, where))


@lru_cache(maxsize=32)  # one command reads each of its files several times
def _parse_settings(text: str, where: str) -> Settings:
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if not isinstance(root, MappingNode):
            found = "nothing" if root is None else f"{' '.join(text.split())[:80]!r}"
            raise DataError(f"{where}: expected settings by name, found {found}")
        _count_values(root, where)
        content = OmegaConf.load(io.StringIO(text))
    except DataError:
        raise
    except (yaml.YAMLError, OmegaConfBaseException, RecursionError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{where}: not a YAML file ({reason})") from error
    if not isinstance(content, DictConfig):
        raise DataError(f"{where}: expected settings by name")
    settings: Settings = OmegaConf.to_container(content, resolve=False)  # type: ignore[assignment]
    return settings


def _count_values(root: Node, where: str) -> None:
    """Refuse YAML that contains itself, or that a few aliases make endless."""
    sizes: dict[int, int | None] = {}  # by node; None for those around the current one

    def size_of(node: Node) -> int:
        if not isinstance(node, (MappingNode, SequenceNode)):
            return 1
        if id(node) in sizes:
            known = sizes[id(node)]
            if known is None:
                line = node.start_mark.line + 1
                raise DataError(f"{where}: what begins in line {line} contains itself (an alias)")
            return known
        sizes[id(node)] = None
        parts = itertools.chain(*node.value) if isinstance(node, MappingNode) else node.value
        sizes[id(node)] = size = 1 + sum(size_of(part) for part in parts)
        return size

    size = size_of(root)
    if size > _MOST_VALUES:
        raise DataError(f"{where}: its aliases make {size} values, at most {_MOST_VALUES} are read")


def list_files(path: str) -> list[str]:
    """Name the files that a config file stands for, in the order in which they apply.

    Those of its list ``config`` come before it, and so on; names are relative to the file.

    Raises:
        DataError: A file cannot be read, or files include each other in a circle.
    """
    files: list[str] = []
    _collect(find_config(path), _Reading(), files)
    return files


def _collect(path: str, reading: _Reading, files: list[str]) -> None:
    reading = reading.enter(path)
    for name in _included(load_yaml(path), path):
        _collect(_beside(path, name), reading, files)
    files.append(path)


def _included(content: Settings, path: str) -> list[str]:
    given = content.get("config", [])
    names: list[Any] = given if isinstance(given, list) else [given]
    if not all(isinstance(name, str) for name in names):
        raise DataError(f"{path}: config must list the names of files, got {given!r}")
    return names


def _beside(path: str, name: str) -> str:
    beside = os.path.normpath(Path(path).parent / name)
    return beside if Path(beside).exists() else find_shipped(name) or beside


def read_settings(path: str) -> Settings:
    """Read a config file as plain data, together with the files that it names.

    Those of a list ``config`` come before it; where a setting is a file's name (``dataset:
    ../inrs/digits.yaml``), that file's content takes its place. Names are relative to the file.

    Raises:
        DataError: A file cannot be read, or files include each other in a circle.
    """
    return _read_settings(find_config(path), _Reading())


def _read_settings(path: str, outside: _Reading) -> Settings:
    settings: Settings = {}
    inside = outside.enter(path)
    for file in list_files(path):
        reading = inside if file == path else inside.enter(file)
        own = _fill_in(own_settings(file), Path(file).parent, reading)
        settings = merge_settings(settings, own)
    return settings


def own_settings(path: str) -> Settings:
    """Read what a file says by itself, without its list ``config``."""
    content = load_yaml(path)
    content.pop("config", None)
    return content


def with_named_files(settings: Settings) -> Settings:
    """Put the content of the YAML files that settings name in the place of their names.

    Names are relative to the current folder.

    Raises:
        DataError: See ``read_settings``.
    """
    filled: Settings = _fill_in(settings, Path(), _Reading())
    return filled


def _fill_in(value: Any, folder: Path, reading: _Reading) -> Any:
    if isinstance(value, dict):
        return {k: _fill_in(v, folder, reading) for k, v in value.items()}
    if isinstance(value, str) and value.endswith(_SUFFIXES):
        path = _named_by(value, folder)
        return value if path is None else _read_settings(path, reading)
    return value


def _named_by(value: str, folder: Path) -> str | None:
    """Find the YAML file that a setting names, beside its own file or among the shipped ones."""
    path = os.path.normpath(folder / value)
    return path if Path(path).is_file() else find_shipped(value)


def merge_settings(earlier: Settings, later: Settings) -> Settings:
    """Merge settings as the command line does: later ones win.

    Lists replace earlier ones; ``callbacks+`` appends to ``callbacks``. A class that is named by
    its path alone stays the class whose ``init_args`` come later. References stay as they are
    written. OmegaConf's own merge gives the same, a few hundred times as slowly, and a table has
    hundreds.

    Example:
        >>> merge_settings({"a": {"b": 1, "c": [2]}}, {"a": {"b": 3, "c+": [4]}})
        {'a': {'b': 3, 'c': [2, 4]}}
    """
    merged = dict(earlier)
    for name, value in later.items():
        if isinstance(name, str) and name.endswith("+"):
            name = name[:-1]
            value = [*_as_list(merged.get(name)), *_as_list(value)]
        elif isinstance(value, dict):
            known = merged.get(name)
            if isinstance(known, str) and "init_args" in value and "class_path" not in value:
                value = {"class_path": known, **value}
            value = merge_settings(known if isinstance(known, dict) else {}, value)
        merged[name] = deepcopy(value)
    return merged


def _as_list(value: Any) -> list[Any]:
    if isinstance(value, list):
        return value
    return [] if value is None else [value]


def values_of(options: Sequence[str], words: Sequence[str]) -> list[str]:
    """Give the values that a command line has for an option, under any of its names.

    Example:
        >>> values_of(["-c", "--config"], ["fit", "--config", "a.yaml", "--config=b.yaml"])
        ['a.yaml', 'b.yaml']
    """
    found = []
    for word, following in zip(words, [*words[1:], ""], strict=True):
        name, equals, value = word.partition("=")
        if name in options:
            found.append(value if equals else following)
    return found


def expand_includes(words: Sequence[str]) -> list[str]:
    """Put the files that a config file includes before that file, on a command line.

    jsonargparse itself takes one such path only. All files are read once here, so that none of
    them can hold what jsonargparse has no end or no message for.

    Args:
        words: The command line, e.g. ``["fit", "--config", "conf/quickstart.yaml"]``. A config may
            also be given as text.

    Raises:
        DataError: See ``read_settings``.
    """
    expanded: list[str] = []
    given = iter(words)
    for word in given:
        option, equals, value = word.partition("=")
        if option not in ("-c", "--config"):
            expanded.append(option + equals + _shipped_or(value) if equals else _shipped_or(word))
            continue
        value = value if equals else next(given, "")
        if not value or (not equals and value.startswith("-")):  # argparse says what is missing
            expanded += [word, value] if value else [option]
            continue
        for path in _checked_files(value):
            expanded += ["--config", path]
    return expanded


def _shipped_or(word: str) -> str:
    """Give the path of the shipped config that a word names, where no file of that name is here."""
    if not word.endswith(_SUFFIXES) or Path(word).exists():
        return word
    return find_shipped(word) or word


def _checked_files(value: str) -> list[str]:
    settings_of(value)
    return [value] if _is_text(value) else [_for_jsonargparse(path) for path in list_files(value)]


def _for_jsonargparse(path: str) -> str:
    """Give a file's name, or what it says where jsonargparse would not find a file that it names.

    jsonargparse looks for the file that a setting names beside the config, and nowhere else.
    """
    if not _names_shipped(load_yaml(path), Path(path).parent):
        return path
    settings = _fill_in(own_settings(path), Path(path).parent, _Reading().enter(path))
    return str(yaml.safe_dump(settings, sort_keys=False))


def _names_shipped(value: Any, folder: Path) -> bool:
    if isinstance(value, dict):
        return any(_names_shipped(part, folder) for part in value.values())
    is_name = isinstance(value, str) and value.endswith(_SUFFIXES)
    return is_name and not (folder / value).is_file() and find_shipped(value) is not None


def settings_of(config: str) -> Settings:
    """Read what follows ``--config``: the name of a file, or settings as text.

    Raises:
        DataError: See ``read_settings``.
    """
    if _is_text(config):
        return with_named_files(parse_settings(config, "--config"))
    return read_settings(config)


def _is_text(config: str) -> bool:
    return config.lstrip().startswith("{") or "\n" in config
