"""What the program is called, and the configs that come with it. Imports nothing heavy."""

import sys
from pathlib import Path

__version__ = "0.1.0"

_COMMAND = "lightning-dws"  # of an installed package; main.py is a clone's


def program() -> str:
    """Give the words that started this process, for messages: they can be typed again."""
    started = Path(sys.argv[0]).stem if sys.argv else ""
    return _COMMAND if started == _COMMAND else "python main.py"


def shipped_configs() -> Path:
    """Give the folder ``conf`` that came with this code: inside of a wheel, or of a clone."""
    package = Path(__file__).parent
    installed = package / "conf"
    return installed if installed.is_dir() else package.parent / "conf"


def find_config(name: str) -> str:
    """Give the path of a config file: its own, or else that of a shipped one of this name.

    Example:
        >>> find_config("quickstart.yaml") == str(shipped_configs() / "quickstart.yaml")
        True
    """
    return name if Path(name).exists() else find_shipped(name) or name


def find_shipped(name: str) -> str | None:
    """Give the path of the shipped config of this name, with or without ``conf/`` before it."""
    parts = Path(name).parts
    if Path(name).is_absolute() or ".." in parts:
        return None
    shipped = shipped_configs().joinpath(*(parts[1:] if parts[:1] == ("conf",) else parts))
    return str(shipped) if shipped.is_file() else None
