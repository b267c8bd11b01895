"""What differs between a run and its continuation."""

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning_dws.callbacks import flatten
from lightning_dws.checkpoints import CHECKPOINT_KEY
from lightning_dws.config_files import read_settings
from lightning_dws.errors import DataError
from lightning_dws.files import write_atomically
from lightning_dws.runs import CONFIG_NAME, WITHOUT_EFFECT, Run, run_folder_of

_NOT_TOLD = (*WITHOUT_EFFECT, "ckpt_path", "config", "init_from", "task", "weights_only")


def tell_what_differs(
    path: str, checkpoint: Mapping[str, Any], run: Run, settings: Mapping[str, Any]
) -> None:
    """Tell, in one line each, with what other settings and in what other folder a run goes on.

    A run that is continued where it is keeps its settings so far, beside the new ones.

    Args:
        path: Of the checkpoint.
        checkpoint: Its content.
        run: Where training goes on.
        settings: With which it goes on, as in ``config.yaml``.
    """
    folder = run_folder_of(path)
    before = None if folder is None else read_config(folder)
    if folder is None or before is None:
        return
    changed = changed_settings(before, settings)
    if changed:
        sys.stderr.write(f"{path}: continued with other settings: {'; '.join(changed)}\n")
    if os.path.realpath(run.folder) != os.path.realpath(folder):
        sys.stderr.write(
            f"{run.folder}: a new run that goes on from {folder}, which stays as it is; "
            "its best checkpoint so far is copied\n"
        )
    elif changed:
        step = checkpoint.get("global_step")
        content = (folder / CONFIG_NAME).read_bytes()
        write_atomically(folder / f"config_until_step_{step}.yaml", content)


def read_config(folder: Path) -> dict[str, Any] | None:
    """Read the settings that a run was trained with; None where they cannot be read."""
    try:
        return read_settings(str(folder / CONFIG_NAME))  # with the files that it names
    except DataError:
        return None


def changed_settings(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Name the settings that differ and may change how training goes on.

    Example:
        >>> changed_settings({"data": {"views": 1}}, {"data": {"views": 2, "seed": 0}, "name": "x"})
        ['data.views 2 (was 1)', 'data.seed 0 (was not set)']
    """
    old, new = (flatten(_without_lists(settings)) for settings in (before, now))
    return [
        f"{name} {new.get(name, 'not set')} (was {old.get(name, 'not set')})"
        for name in {**new, **old}
        if new.get(name) != old.get(name) and not _is_covered(name, _NOT_TOLD)
    ]


def _is_covered(name: str, prefixes: Iterable[str]) -> bool:
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)


def _without_lists(settings: Any) -> Any:
    """Number what lists of settings hold, so that each has a name."""
    if isinstance(settings, Mapping):
        return {name: _without_lists(value) for name, value in settings.items()}
    if isinstance(settings, list) and any(isinstance(value, Mapping) for value in settings):
        return {str(number): _without_lists(value) for number, value in enumerate(settings)}
    return None if settings == [] else settings


def check_same_network(
    path: str,
    checkpoint: Mapping[str, Any],
    configured: Mapping[str, Any],
    but: Sequence[str] = (),
) -> None:
    """Refuse a checkpoint of another network than the config's, naming what differs.

    Args:
        path: Of the checkpoint.
        checkpoint: Its content.
        configured: The network's class and arguments, as a checkpoint has them.
        but: Arguments that may differ.

    Raises:
        DataError: It is of another.
    """
    saved = (checkpoint.get(CHECKPOINT_KEY) or {}).get("network")
    if saved in (None, configured):
        return
    found, expected = flatten(saved), flatten(configured)
    names = [n for n in {**expected, **found} if found.get(n) != expected.get(n)]
    names = [name for name in names if name.removeprefix("init_args.") not in but]
    if _class_of(found.get("class_path")) is _class_of(expected.get("class_path")):
        names = [name for name in names if name != "class_path"]
    if not names:
        return
    raise DataError(
        f"{path}: a checkpoint of another network; "
        + "; ".join(f"{n}: found {found.get(n)}, expected {expected.get(n)}" for n in names)
    )


def _class_of(path: Any) -> Any:
    """Find a class by its path where its module is imported already; else give the path."""
    module, _, name = str(path).rpartition(".")
    return getattr(sys.modules.get(module), name, path)


def check_what_is_left(
    path: str | Path, checkpoint: Mapping[str, Any], max_epochs: int | None, max_steps: int
) -> None:
    """Refuse to continue a run that has been trained for longer than is asked for.

    Raises:
        DataError: So, naming the option.
    """
    trained = _epochs_of(checkpoint)
    for unit, done, limit in (
        ("epochs", trained, max_epochs if max_epochs is not None else -1),
        ("steps", checkpoint.get("global_step"), max_steps),
    ):
        if isinstance(done, int) and limit >= 0 and done > limit:
            raise DataError(
                f"{path}: trained for {done} {unit} already, max_{unit} {limit} leaves nothing "
                "to train"
            )


def _epochs_of(checkpoint: Mapping[str, Any]) -> int | None:
    try:
        done = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]
    except (KeyError, TypeError):
        return None
    return done if isinstance(done, int) else None
