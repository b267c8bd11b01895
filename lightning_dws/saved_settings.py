"""Measure a checkpoint with the settings that it was trained with."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from lightning_dws.checkpoints import (
    CHECKPOINT_KEY,
    CHECKPOINTS_FOLDER,
    LAST_NAME,
    load_checkpoint,
)
from lightning_dws.config_files import read_settings, settings_of, values_of
from lightning_dws.errors import DataError
from lightning_dws.plain_checkpoints import is_plain
from lightning_dws.runs import DEFAULT_ROOT, find_checkpoint, find_newest_run
from lightning_dws.tasks import named_task
from lightning_dws.tasks.task_notes import check_same_task

_MEASURED = ("seed_everything", "name", "task", "data", "model")
_GIVEN_AS_A_WHOLE = ("-c", "--config", "--model")  # with these, nothing is taken from a checkpoint
_OTHER_DATA = ("--data.dataset", "--data.store")
_OF_ITS_OWN_DATA = ("dataset", "store", "num_train_objects", "num_val_objects", "num_test_objects")


def measured_part(settings: dict[str, Any]) -> dict[str, Any]:
    """Give the part of a run's settings that its checkpoint is measured with, on any machine."""
    return {name: settings[name] for name in _MEASURED if name in settings}


def with_saved_settings(words: list[str]) -> list[str]:
    """Measure a checkpoint with the data and network that it was trained with, if none are given.

    Args:
        words: The command line. Its options win over what was saved; with ``--data.store`` or
            ``--data.dataset``, all INRs of that store or dataset are measured.
    """
    if words[0] not in ("validate", "test", "predict") or any(
        word.startswith(_GIVEN_AS_A_WHOLE) for word in words
    ):
        return words
    paths = values_of(("--ckpt_path",), words)
    if not paths or {"-h", "--help"} & {*words}:
        return words
    path = paths[-1]
    note = load_checkpoint(path).get(CHECKPOINT_KEY, {})
    for name in values_of(("--task",), words):
        check_same_task(note, named_task(name), path)
    settings = find_settings(path, note)
    if settings is None:
        measured = (
            f"; 'predict --ckpt_path {path} --data STORE' measures a classifier without"
            if is_plain(path)
            else ""
        )
        raise DataError(
            f"{path}: does not say what it was trained on; give the --config of its run{measured}"
        )
    if values_of(_OTHER_DATA, words):
        data = {k: v for k, v in settings["data"].items() if k not in _OF_ITS_OWN_DATA}
        settings = {**settings, "data": data}
    return [words[0], f"--config={yaml.safe_dump(settings)}", *words[1:]]


def name_of_other_data(words: Sequence[str], note: Mapping[str, Any]) -> str | None:
    """Name what a checkpoint is measured on, where a command line gives other data than its own.

    Args:
        words: The command line; one that trains measures nothing.
        note: The checkpoint's of itself.

    Example:
        >>> name_of_other_data(["predict", "--data.store=data/mine.v2"], {})
        'mine.v2'
    """
    given = values_of(_OTHER_DATA, words)
    settings = note.get("settings") or {}
    if words[:1] == ["fit"] or not given or given[-1] == settings.get("data", {}).get("store"):
        return None
    path = Path(given[-1])  # of a store, whose name may have dots, or of a config file
    return (path.stem if path.suffix in (".yaml", ".yml") else path.name) or None


def with_found_checkpoint(words: list[str]) -> list[str]:
    """Put the file of a checkpoint where a command line names its run.

    That is the best one to be measured, and the last one to go on from.

    Args:
        words: The command line.

    Raises:
        DataError: The option names nothing, or the best one to go on from; or see
            ``find_checkpoint``.
    """
    paths = values_of(("--ckpt_path",), words)
    if paths and not paths[-1]:  # of a shell's variable that is not set
        raise DataError("--ckpt_path: names nothing, expected a file that 'fit' wrote")
    if words[0] == "fit" and paths:
        found = _find_last(paths[-1], words)
        return words if found is None else [*words, f"--ckpt_path={found}"]
    if words[0] not in ("validate", "test", "predict") or not paths:
        return words
    roots = values_of(("--trainer.default_root_dir",), words)
    found = find_checkpoint(paths[-1], Path(roots[-1] if roots else DEFAULT_ROOT))
    return words if str(found) == paths[-1] else [*words, f"--ckpt_path={found}"]


def _find_last(given: str, words: Sequence[str]) -> Path | None:
    """Find the last checkpoint of the run that a training is to go on from; None for a file.

    ``last`` is of the newest run that has the name which the command line says, if it says one.
    """
    path = Path(given)
    if given == "best" and not path.exists():
        raise DataError(
            "--ckpt_path best: a training goes on from where it was, expected 'last', the folder "
            "of a run or a file; --init_from FOLDER starts a new one with the best network"
        )
    if given == "last" and not path.exists():
        files = [settings_of(value) for value in values_of(("-c", "--config"), words)]
        names = [file["name"] for file in files if file.get("name")]
        trainers = [file["trainer"] for file in files if isinstance(file.get("trainer"), dict)]
        roots = [root for trainer in trainers if (root := trainer.get("default_root_dir"))]
        names += values_of(("--name",), words)
        roots += values_of(("--trainer.default_root_dir",), words)
        path = find_newest_run(Path(roots[-1] if roots else DEFAULT_ROOT, *map(str, names[-1:])))
    last = path / CHECKPOINTS_FOLDER / LAST_NAME
    return last if path.is_dir() and last.is_file() else None


def find_settings(path: str | Path, note: Mapping[str, Any]) -> dict[str, Any] | None:
    """Find what a checkpoint was trained with; None where neither it nor its run's folder says.

    Args:
        path: Of the checkpoint.
        note: What it says of itself.
    """
    settings = note.get("settings")
    if isinstance(settings, dict):
        return settings
    config = Path(path).parent.parent / "config.yaml"
    if config.is_file():  # of a checkpoint that is older than its settings
        return measured_part(read_settings(str(config)))
    return None
