"""Checkpoints without a pickle, to be shared: safetensors, and all else as JSON.

Two files of a folder, ``model.safetensors`` and ``config.json``. What anybody may have written is
read with care: nothing of it is executed, and no class that it names is imported unless it is this
package's. It holds what a trained network is, not what its training needs to go on, nor anything of
the machine that it was trained on.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise
from torch import Tensor

from lightning_dws.errors import DataError
from lightning_dws.files import check_regular, file_sha256, json_sha256
from lightning_dws.weight_space import read_architecture

WEIGHTS_NAME, CONFIG_NAME = "model.safetensors", "config.json"
NOTE = "lightning_dws"  # the key, in a checkpoint, of what this package notes
_FORMAT, _VERSION = "lightning_dws checkpoint", 1
_LIGHTNING, _DATAMODULE = "pytorch-lightning_version", "INRDataModule"
_TENSOR, _OTHERS = "tensor", "noted."  # where a note has a tensor; its name begins so
_WEIGHTS = "weights."
_PACKAGE = "lightning_dws."
_LARGEST_CONFIG = 64 << 20  # bytes
_UNREADABLE = (KeyError, TypeError, ValueError, AttributeError, RecursionError, OverflowError)


@dataclass(frozen=True)
class PlainCheckpoint:
    """A checkpoint as it is shared.

    Attributes:
        weights: The bytes of ``model.safetensors``.
        config: What ``config.json`` says.
    """

    weights: bytes
    config: dict[str, Any]

    @property
    def config_text(self) -> str:
        return json.dumps(self.config, indent=1) + "\n"


def is_plain(path: str | Path) -> bool:
    """Whether a file is a checkpoint as it is shared, by its name."""
    return PurePath(path).suffix == ".safetensors"


def is_own_class(class_path: Any) -> bool:
    """Whether a class may be imported because a file names it: those of this package."""
    return isinstance(class_path, str) and class_path.startswith(_PACKAGE)


def make_plain(checkpoint: Mapping[str, Any]) -> PlainCheckpoint:
    """Make a checkpoint that can be shared of one that ``fit`` wrote.

    The settings of the run, which name folders, stay behind; of the store there stays the name.

    Raises:
        DataError: It says nothing of its network, or holds what is no plain data.
    """
    note = checkpoint.get(NOTE)
    if not isinstance(note, dict):
        raise DataError("the checkpoint does not say what its network is")
    note = {**note, "settings": None}
    if isinstance(note.get("inrs"), dict):
        note["inrs"] = {**note["inrs"], "store": _last_part(note["inrs"].get("store"))}
    tensors = {
        f"{_WEIGHTS}{name}": value.detach().cpu().clone().contiguous()
        for name, value in checkpoint["state_dict"].items()
        if isinstance(value, Tensor)
    }
    parts = {NOTE: note, _DATAMODULE: checkpoint.get(_DATAMODULE)}
    try:
        config = {
            "format": _FORMAT,
            "version": _VERSION,
            _LIGHTNING: str(checkpoint[_LIGHTNING]),
            **json.loads(json.dumps(_without_tensors(parts, "", tensors))),
        }
    except (TypeError, ValueError) as error:
        raise DataError(f"the checkpoint holds what is no plain data ({error})") from error
    if score := find_score(checkpoint):
        config["score"] = dict(score)
    weights = serialise(tensors, {"format": "pt"})
    config["weights_sha256"] = hashlib.sha256(weights).hexdigest()
    config["sha256"] = json_sha256(config)
    return PlainCheckpoint(weights, config)


def find_score(checkpoint: Mapping[str, Any]) -> dict[str, Any] | None:
    """Find the validation score that a checkpoint was kept for; None where it says none."""
    if "score" in checkpoint:
        return dict(checkpoint["score"])
    for state in (checkpoint.get("callbacks") or {}).values():
        monitor = state.get("monitor") if isinstance(state, dict) else None
        score = state.get("current_score") if monitor else None
        if isinstance(score, Tensor) and score.isfinite():
            step = checkpoint.get("global_step")
            return {"name": str(monitor), "value": float(score), "step": step}
    return None


def _last_part(store: Any) -> str | None:
    return PurePath(store).name if isinstance(store, str) else None


def _without_tensors(value: Any, place: str, tensors: dict[str, Tensor]) -> Any:
    """Give plain data, and put the tensors in it elsewhere."""
    if isinstance(value, Tensor):
        name = f"{_OTHERS}{place}"
        tensors[name] = value.detach().cpu().clone().contiguous()
        return {_TENSOR: name}
    if isinstance(value, Mapping):
        return {k: _without_tensors(v, f"{place}.{k}", tensors) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_tensors(v, f"{place}.{n}", tensors) for n, v in enumerate(value)]
    return value


def _with_tensors(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, dict):
        if value.keys() == {_TENSOR}:
            return tensors[value[_TENSOR]]
        return {name: _with_tensors(part, tensors) for name, part in value.items()}
    return [_with_tensors(part, tensors) for part in value] if isinstance(value, list) else value


def read_plain(path: Path) -> dict[str, Any]:
    """Read a checkpoint as ``load_checkpoint`` does, from its two files.

    Args:
        path: Of ``model.safetensors``; ``config.json`` is beside it.

    Raises:
        DataError: They were changed, are no checkpoint, or ask for classes that are not this
            package's.
    """
    config = _read_config(path.with_name(CONFIG_NAME))
    if file_sha256(path) != config.get("weights_sha256"):
        raise DataError(f"{path}: damaged, its SHA-256 is not the one in {CONFIG_NAME}")
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        note = _with_tensors(config[NOTE], tensors)
        _check_note(note, path)
        state = {
            name.removeprefix(_WEIGHTS): tensor
            for name, tensor in tensors.items()
            if name.startswith(_WEIGHTS)
        }
        checkpoint = {"state_dict": state, _LIGHTNING: str(config[_LIGHTNING]), NOTE: note}
        if config.get(_DATAMODULE) is not None:
            checkpoint[_DATAMODULE] = _with_tensors(config[_DATAMODULE], tensors)
        if config.get("score") is not None:
            checkpoint["score"] = {
                "name": str(config["score"]["name"]),
                "value": float(config["score"]["value"]),
                "step": config["score"].get("step"),
            }
    except DataError:
        raise
    except (OSError, SafetensorError, *_UNREADABLE) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise DataError(f"{path}: not a readable checkpoint ({reason})") from error
    return checkpoint


def _read_config(path: Path) -> dict[str, Any]:
    check_regular(path)
    try:
        if path.stat().st_size > _LARGEST_CONFIG:
            raise DataError(f"{path}: {path.stat().st_size} bytes, too many for a config")
        config = json.loads(path.read_bytes())
        named = isinstance(config, dict) and config.get("format") == _FORMAT
        found = named and json_sha256({k: v for k, v in config.items() if k != "sha256"})
    except DataError:
        raise
    except (OSError, *_UNREADABLE) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    if not named:
        raise DataError(f"{path}: not that of a checkpoint of lightning_dws")
    if config.get("version") != _VERSION:
        raise DataError(f"{path}: version {config.get('version')!r}, this release reads {_VERSION}")
    if found != config.get("sha256"):
        raise DataError(f"{path}: damaged, its SHA-256 is not the one noted in it")
    return dict(config)


def _check_note(note: Any, path: Path) -> None:
    """Refuse a note that would import classes of others, and leave out what names folders."""
    if not isinstance(note, dict):
        raise TypeError(f"its note is a {type(note).__name__}")
    note["settings"] = None
    record = note.get("inrs")
    if isinstance(record, dict):
        record["store"] = _last_part(record.get("store"))
    task = note.get("task_name")
    named = [task] if isinstance(task, str) and "." in task else []
    named += [form["class_path"] for form in (note.get("canonical") or {}).get("forms", [])]
    for name in named:
        if not is_own_class(name):
            raise DataError(
                f"{path}: is of {name}, which is not of lightning_dws; nothing that a shared file "
                "names is imported"
            )
    arguments = (note.get("network") or {}).get("init_args", {})
    if "architecture" in arguments:
        read_architecture(arguments["architecture"])  # raises where there is none
