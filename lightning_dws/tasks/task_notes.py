"""What a checkpoint says of its task: written, read, and a task made of it."""

import inspect
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.utilities import rank_zero_only
from torch import nn

from lightning_dws.checkpoints import CHECKPOINT_KEY, load_checkpoint
from lightning_dws.errors import DataError
from lightning_dws.models.recorded import describe
from lightning_dws.tasks.restoring import build_network, check_weights, count_parts
from lightning_dws.weight_space import Architecture

_NAME = "task_name"
_FIRST_TASK = "classification"  # of checkpoints from the time when there was no other


def name_of_task(note: Mapping[str, Any]) -> str | None:
    """Give the name of the task that wrote a checkpoint's note; None where nothing says it."""
    name = note.get(_NAME, _FIRST_TASK if "num_classes" in note else None)
    return None if name is None else str(name)


def check_same_task(note: Mapping[str, Any], task_class: Any, where: str) -> None:
    """Refuse a checkpoint of another task.

    Raises:
        DataError: It names both.
    """
    found, expected = name_of_task(note), task_class.task_name()
    classifies = "num_classes" in inspect.signature(task_class).parameters
    if found in (None, expected) or (_NAME not in note and classifies):
        return
    raise DataError(f"{where}: a checkpoint of the task {found}, expected one of {expected}")


def learns_the_same(task: Any, note: Mapping[str, Any]) -> bool:
    """Whether a network's outputs mean to a task what they meant to the writer of a note."""
    said = {**note.get("task", {}), **note}
    own = {name: getattr(task, name) for name in task._meaning}
    return name_of_task(note) == task.task_name() and all(
        said.get(name) == (list(value) if isinstance(value, tuple) else value)
        for name, value in own.items()
    )


def compare_forms(path: str, note: Mapping[str, Any], data: Any, *, must_agree: bool) -> None:
    """Compare the canonical forms that a checkpoint was trained on with those of the data.

    Args:
        path: The checkpoint.
        note: What it says of itself.
        data: The datamodule.
        must_agree: Refuse others, since a network would be measured on what it was not trained on;
            else they are told.

    Raises:
        DataError: They must agree, and differ.
    """
    _tell_other_preparation(path, note, data)
    saved = (note.get("canonical") or {}).get("forms", [])
    own = data.canonical_record["forms"]
    if own == saved:
        return
    first, second = (
        ", ".join(form["class_path"].rpartition(".")[2] for form in forms) or "none"
        for forms in (saved, own)
    )
    line = f"{path}: trained on INRs in canonical forms ({first}), data.canonical is ({second})"
    if must_agree:
        raise DataError(line)
    rank_zero_only(sys.stderr.write)(f"{line}\n")


def _tell_other_preparation(path: str, note: Mapping[str, Any], data: Any) -> None:
    """Say where signals are read otherwise than those that were trained on, as in another range."""
    source = data.dataset.signals if data.dataset else data.store.header
    saved, own = (note.get("inrs") or {}).get("preparation"), source.preparation
    if not saved or not own or "assumed" in saved:
        return
    for name, value in json.loads(json.dumps(own)).items():
        if name in saved and value != saved[name]:
            line = f"{path}: trained on signals with {name} {saved[name]}, these have {value}"
            rank_zero_only(sys.stderr.write)(f"{line}\n")


def write_note(task: Any, checkpoint: dict[str, Any]) -> None:
    """Put into a checkpoint what its task and network are, as plain data."""
    note = task._write_note()
    if task.network_config is None:
        known = dict(note)
        if task.num_outputs is not None:
            known["num_classes"] = task.num_outputs
        architecture = getattr(task._datamodule, "architecture", None)
        if isinstance(architecture, Architecture):
            known["architecture"] = architecture
        task.network_config = describe(task.network, known)
    checkpoint[CHECKPOINT_KEY] = {
        "network": task.network_config,
        **note,
        _NAME: task.task_name(),
        "task": {name: getattr(task, name) for name in task._options},
        "settings": task.run_settings,
        "inrs": getattr(task._datamodule, "inr_record", None),  # how they are made
        "canonical": getattr(task._datamodule, "canonical_record", None),
        "parts": count_parts(checkpoint),
    }


def rebuild(task_class: Any, path: str | Path, network: nn.Module | None) -> Any:
    """Make a trained task of a class again; see ``WeightSpaceTask.from_checkpoint``.

    Raises:
        DataError: The file is no checkpoint of this task.
    """
    checkpoint = load_checkpoint(path)
    note = checkpoint.get(CHECKPOINT_KEY, {})
    check_same_task(note, task_class, str(path))
    if network is None:
        network = build_network(note.get("network"), path)
    arguments = {**task_class._read_arguments(note, path), **note.get("task", {})}
    try:
        task = task_class(network, **arguments)
    except (TypeError, ValueError) as error:
        raise DataError(f"{path}: not a checkpoint of this task ({error})") from error
    task.network_config = note.get("network")
    task._read_note(note, str(path))
    check_weights(task, checkpoint["state_dict"], str(path))
    task.load_state_dict(checkpoint["state_dict"])
    return task.eval()
