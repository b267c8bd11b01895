"""Pieces of a run's config: files and settings between them, merged as the command line does.

A piece is the path of a config file, or settings by name. A list of pieces is what stands behind
``python main.py fit``: it becomes those words, and, merged by OmegaConf, what identifies the run.
"""

import hashlib
import json
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from lightning_dws.errors import DataError

Settings = dict[str, Any]
Piece = str | Settings

# Where files are, what is shown, where it runs: nothing that decides a run's figures (to rounding).
_NO_PART_OF_THE_RESULT = (
    ("name",),
    ("pictures",),
    ("predictions",),
    ("test_after_fit",),
    ("checkpoint", "dirpath"),
    ("data", "root"),
    ("data", "fitting_device"),
    ("data", "table"),
    ("trainer", "accelerator"),
    ("trainer", "default_root_dir"),
    ("trainer", "enable_model_summary"),
    ("trainer", "enable_progress_bar"),
    ("trainer", "log_every_n_steps"),
    ("trainer", "logger"),
    ("trainer", "num_sanity_val_steps"),
    ("trainer", "profiler"),
)


def read_settings(path: str) -> Settings:
    """Read a config file as plain data, together with the files that it names.

    Those of a list ``config`` come before it; where a setting is a file's name (``dataset:
    ../inrs/digits.yaml``), that file's content takes its place. Names are relative to the file.

    Raises:
        DataError: The file cannot be read or holds something else than settings.
    """
    return _read_settings(path, ())


def _read_settings(path: str, including: tuple[str, ...]) -> Settings:
    if path in including:
        raise DataError(f"config files include each other: {' -> '.join((*including, path))}")
    content = load_yaml(path)
    including = (*including, path)
    folder = Path(path).parent
    included = content.pop("config", [])
    if not isinstance(included, list):
        raise DataError(f"{path}: config must list the names of files, got {included!r}")
    settings: Settings = {}
    for name in included:
        settings = _merge_two(settings, _read_settings(os.path.normpath(folder / name), including))
    return _merge_two(settings, _with_named_files(content, folder, including))


def load_yaml(path: str) -> Settings:
    """Read a YAML file of settings by name.

    Raises:
        DataError: There is no such file, or it holds something else.
    """
    try:
        content = OmegaConf.load(path)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"{path}: not a YAML file ({' '.join(str(error).split())})") from error
    if not isinstance(content, DictConfig):
        raise DataError(f"{path}: expected settings by name")
    return _to_plain(content)


def _with_named_files(value: Any, folder: Path, including: tuple[str, ...]) -> Any:
    if isinstance(value, dict):
        return {k: _with_named_files(v, folder, including) for k, v in value.items()}
    if isinstance(value, str) and value.endswith((".yaml", ".yml")):
        path = os.path.normpath(folder / value)
        return _read_settings(path, including) if Path(path).is_file() else value
    return value


def merge_pieces(pieces: Sequence[Piece]) -> Settings:
    """Merge pieces to one plain config, later ones over earlier ones.

    Lists replace earlier ones; ``callbacks+`` appends to ``callbacks``.
    """
    settings: Settings = {}
    for piece in pieces:
        content = piece
        if isinstance(content, str):
            content = read_settings(content)
        else:
            content = _with_named_files(content, Path(), ())
        settings = _merge_two(settings, content)
    return settings


def _merge_two(earlier: Settings, later: Settings) -> Settings:
    return _to_plain(OmegaConf.merge(earlier, _append_lists(earlier, later)))


def _append_lists(earlier: Any, later: Settings) -> Settings:
    known = earlier if isinstance(earlier, dict) else {}
    resolved: Settings = {}
    for name, value in later.items():
        if name.endswith("+"):
            name = name[:-1]
            value = [*(known.get(name) or []), *(value if isinstance(value, list) else [value])]
        elif isinstance(value, dict):
            value = _append_lists(known.get(name), value)
        resolved[name] = value
    return resolved


def _to_plain(config: Any) -> Settings:
    plain: Settings = OmegaConf.to_container(config, resolve=False)  # type: ignore[assignment]
    return plain


def settings_hash(settings: Settings) -> str:
    """Hash what decides a run's figures: not what it shows, nor where it keeps what it makes.

    Example:
        >>> settings_hash({"name": "a"}) == settings_hash({"name": "b"})
        True
    """
    data = settings.get("data", {})
    if "root" in data and "dataset" not in data:  # a store found by its name says no more than that
        settings = {**settings, "found under": str(data["root"])}
    text = json.dumps(_deciding(settings), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _deciding(value: Any, place: tuple[str, ...] = ()) -> Any:
    if not isinstance(value, dict):
        return value
    kept = {
        name: _deciding(content, (*place, name))
        for name, content in value.items()
        if (*place, name) not in _NO_PART_OF_THE_RESULT
    }
    return {name: content for name, content in kept.items() if content != {}}


def words_of(pieces: Sequence[Piece]) -> list[str]:
    """Write pieces as the words behind ``python main.py fit``.

    Example:
        >>> words_of(["conf/model/dwsnet.yaml", {"trainer": {"max_steps": 9}}])
        ['--config', 'conf/model/dwsnet.yaml', '--trainer.max_steps=9']
    """
    words: list[str] = []
    for piece in pieces:
        if isinstance(piece, str):
            words += ["--config", piece]
        elif _is_simple(piece):
            words += [f"--{name}={value}" for name, value in _options(piece)]
        elif piece:
            words += ["--config", json.dumps(piece)]
    return words


def command_of(words: Sequence[str]) -> str:
    """Write the command that runs words of ``fit`` alone, for a shell."""
    return shlex.join(["python", "main.py", "fit", *words])


def _is_simple(settings: Settings) -> bool:
    """Whether options can say the same: numbers and names in a tree without classes."""
    return all(
        _is_simple(value)
        if isinstance(value, dict)
        else not isinstance(value, list) and not name.endswith("+") and name != "class_path"
        for name, value in settings.items()
    )


def _options(settings: Settings, prefix: str = "") -> list[tuple[str, str]]:
    options = []
    for name, value in settings.items():
        if isinstance(value, dict):
            options += _options(value, f"{prefix}{name}.")
        else:
            plain = isinstance(value, str) and yaml.safe_load(value) == value
            options.append((prefix + name, value if plain else json.dumps(value)))
    return options
