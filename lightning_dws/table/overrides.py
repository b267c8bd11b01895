"""Settings of a table that are written behind ``--set``."""

from collections.abc import Sequence
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lightning_dws.config_files import Settings
from lightning_dws.errors import DataError
from lightning_dws.suggestions import closest


def parse_overrides(overrides: Sequence[str], table: Settings, where: str) -> Settings:
    """Read words such as ``seeds=[0]`` or ``common.trainer.max_steps=10``.

    Args:
        overrides: The words. Names are divided by dots; one of the table's own, such as a row's,
            may have dots itself.
        table: What they are to go over.
        where: The table's files, for errors.

    Raises:
        DataError: A word is no name and value, or its value no YAML.

    Example:
        >>> parse_overrides(["models.v1.5.lr=1e-3"], {"models": {"v1.5": {}}}, "t.yaml")
        {'models': {'v1.5': {'lr': 0.001}}}
    """
    settings: Settings = {}
    for word in overrides:
        key, equals, value = word.partition("=")
        names = _divide(key, table)
        if not equals or not all(names):
            raise DataError(f"{where}: --set: expected NAME.NAME=VALUE, got {word!r}")
        try:
            content: Any = OmegaConf.to_container(OmegaConf.from_dotlist([f"value={value}"]))
        except (OmegaConfBaseException, yaml.YAMLError) as error:
            raise DataError(f"{where}: --set: {' '.join(str(error).split())}") from error
        nested = content["value"]
        for name in reversed(names):
            nested = {name: nested}
        merged: Any = OmegaConf.to_container(OmegaConf.merge(settings, nested))
        settings = merged
    return settings


def check_left_out(rows: Settings, known: Settings, kind: str, where: str) -> None:
    """Refuse a row that is null, and so left out, where of those known none has its name.

    Args:
        rows: Of a file, or of the command line.
        known: Those of the files before it.
        kind: Of the rows.
        where: Names the file.

    Raises:
        DataError: The row, the kind of it, and a name that is close.
    """
    for name, row in rows.items():
        if row is None and name not in known:
            near = closest(str(name), map(str, known))
            raise DataError(
                f"{where}: {kind}.{name} is null, which leaves a row out, and there is no such row"
                f"{near or '; a row without settings is {}'}"
            )


def _divide(key: str, table: Any) -> list[str]:
    """Divide a name at its dots, but for those in the names of settings that a table has."""
    names = []
    while key:
        known = [str(name) for name in table] if isinstance(table, dict) else []
        fitting = [name for name in known if f"{key}.".startswith(f"{name}.")]
        name = max(fitting, key=len) if fitting else key.partition(".")[0]
        names.append(name)
        table = table.get(name) if isinstance(table, dict) else None
        if key == f"{name}.":
            return [*names, ""]
        key = key[len(name) + 1 :]
    return names or [""]
