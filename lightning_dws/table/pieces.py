"""Pieces of a run's config: files and settings between them, merged as the command line does.

A piece is the path of a config file, or settings by name. A list of pieces is what stands behind
``python main.py fit``: it becomes those words, and, merged by OmegaConf, what identifies the run.
"""

import json
import shlex
from collections.abc import Callable, Sequence
from typing import Any

import yaml

from lightning_dws.config_files import Settings, merge_settings, read_settings, with_named_files
from lightning_dws.files import json_sha256
from lightning_dws.program import program
from lightning_dws.runs import WITHOUT_EFFECT

Piece = str | Settings

# Nor does it decide a run's figures (to rounding) where it runs, and where its INRs are fitted.
_ELSEWHERE = ("data.fitting_device", "data.table", "trainer.accelerator")


def merge_pieces(
    pieces: Sequence[Piece], read: Callable[[str], Settings] = read_settings
) -> Settings:
    """Merge pieces to one plain config, later ones over earlier ones.

    Lists replace earlier ones; ``callbacks+`` appends to ``callbacks``.

    Args:
        pieces: Files and settings.
        read: Gives what a file says; whoever merges many may remember it.
    """
    settings: Settings = {}
    for piece in pieces:
        content = read(piece) if isinstance(piece, str) else with_named_files(piece)
        settings = merge_settings(settings, content)
    return settings


def settings_hash(settings: Settings) -> str:
    """Hash what decides a run's figures: not what it shows, nor where it keeps what it makes.

    Example:
        >>> settings_hash({"name": "a"}) == settings_hash({"name": "b"})
        True
    """
    data = settings.get("data", {})
    if "root" in data and "dataset" not in data:  # a store found by its name says no more than that
        settings = {**settings, "found under": str(data["root"])}
    return json_sha256(_deciding(settings))[:12]


def _deciding(value: Any, place: str = "") -> Any:
    if not isinstance(value, dict):
        return value
    kept = {
        name: _deciding(content, f"{place}{name}.")
        for name, content in value.items()
        if f"{place}{name}" not in (*WITHOUT_EFFECT, *_ELSEWHERE)
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
    return shlex.join([*program().split(), "fit", *words])


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
