"""Checkpoint files: written so that none is ever lost, read so that no damage is ever silent."""

import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.io import TorchCheckpointIO
from torch import Tensor

from lightning_dws.errors import DataError
from lightning_dws.files import PARTIAL, replacing
from lightning_dws.plain_checkpoints import NOTE, WEIGHTS_NAME, is_plain, read_plain

CHECKPOINT_KEY = NOTE
LAST_NAME = "last.ckpt"
CHECKPOINTS_FOLDER = "checkpoints"  # of a run
_SUFFIX = ".ckpt"
_KINDS: dict[str, type] = {  # of what Lightning writes, where it is there
    "state_dict": dict,
    "pytorch-lightning_version": str,
    "epoch": int,
    "global_step": int,
    "loops": dict,
    "callbacks": dict,
    "optimizer_states": list,
    "lr_schedulers": list,
    CHECKPOINT_KEY: dict,
}
_NEEDED = ("state_dict", "pytorch-lightning_version")


class DamagedCheckpointError(DataError):
    """A checkpoint that was cut short, or whose bytes are not those that were written."""


class CheckpointFiles(TorchCheckpointIO):
    """Lightning's checkpoint files, written beside their place and put there when they are whole.

    A checkpoint is on the disk when ``save_checkpoint`` ends, so the one that it supersedes may be
    removed then. What a killed process left half-written is removed at the next first write to the
    folder: a run's folder has one writer.
    """

    def __init__(self) -> None:
        super().__init__()
        self._cleaned: set[Path] = set()

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write a checkpoint.

        Raises:
            DataError: It cannot be written; the message names ``path``, and what was there stays.
        """
        if storage_options is not None:
            raise TypeError("checkpoints are files of this machine; storage_options is not used")
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.parent not in self._cleaned:
            for partial in path.parent.glob(f".*{_SUFFIX}.*{PARTIAL}"):
                partial.unlink(missing_ok=True)
            self._cleaned.add(path.parent)
        with replacing(path) as file:
            torch.save(checkpoint, file)

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint as plain data, whatever ``weights_only`` says; see below."""
        return load_checkpoint(path)


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint as plain data and tensors on the CPU, never unpickling code.

    Raises:
        DamagedCheckpointError: The file was cut short, or its bytes are not those that were
            written.
        DataError: There is no such file, or it holds anything but plain data, lacks what a
            checkpoint has, or has numbers that are not finite.
    """
    if not Path(path).is_file():
        what = "is a folder" if Path(path).is_dir() else "there is no such checkpoint"
        raise DataError(f"{path}: {what}; expected a file that 'fit' wrote")
    if is_plain(path):
        return read_plain(Path(path))
    _check_sums(path)
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise DataError(
            f"{path}: not a checkpoint of plain data; files that hold code are never opened"
        ) from error
    except Exception as error:  # torch documents no type for damaged files
        raise DamagedCheckpointError(
            f"{path}: not a readable checkpoint ({_first(error)})"
        ) from error
    if not isinstance(checkpoint, dict) or any(name not in checkpoint for name in _NEEDED):
        raise DataError(f"{path}: not a checkpoint of Lightning, it lacks {' or '.join(_NEEDED)}")
    for name, kind in _KINDS.items():
        value = checkpoint.get(name, kind())
        if not isinstance(value, kind) or isinstance(value, bool):
            raise DataError(
                f"{path}: {name} is a {type(value).__name__}, expected a {kind.__name__}"
            )
    for name in ("state_dict", "optimizer_states"):
        for place, tensor in _tensors(checkpoint.get(name), name):
            if tensor.is_floating_point() and tensor.isnan().any():
                raise DataError(f"{path}: {place} holds numbers that are not finite")
    return checkpoint


def load_best(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint, of a folder the one that ``find_best`` finds.

    Raises:
        DataError: See ``load_checkpoint`` and ``find_best``.
    """
    return load_checkpoint(find_best(Path(path)) if Path(path).is_dir() else path)


def _check_sums(path: str | Path) -> None:
    """Compare every member of the archive with the CRC that was written beside it."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except Exception as error:  # zipfile documents no type for each kind of damage
        raise DamagedCheckpointError(
            f"{path}: not a readable checkpoint ({_first(error)})"
        ) from error
    if damaged is not None:
        raise DamagedCheckpointError(
            f"{path}: not a readable checkpoint (the bytes of {damaged} are not those written)"
        )


def _tensors(value: Any, place: str) -> Iterator[tuple[str, Tensor]]:
    """Walk through nested containers; give each tensor with the names that lead to it."""
    if isinstance(value, Tensor):
        yield place, value
    elif isinstance(value, dict):
        for name, part in value.items():
            yield from _tensors(part, f"{place}.{name}")
    elif isinstance(value, (list, tuple)):
        for number, part in enumerate(value):
            yield from _tensors(part, f"{place}.{number}")


def _first(error: Exception) -> str:
    """Give the first line of what an error says."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def find_readable(path: str | Path) -> tuple[Path, dict[str, Any]]:
    """Read the checkpoint that a run goes on from, or the one before where the newest is damaged.

    Only ``last.ckpt`` means "the newest"; any other name means that file alone.

    Args:
        path: A checkpoint.

    Returns:
        The file that was read, and what it holds.

    Raises:
        DataError: As ``load_checkpoint``; of a damaged ``last.ckpt``, if its folder has no other.
    """
    path = Path(path)
    try:
        return path, load_checkpoint(path)
    except DamagedCheckpointError as damage:
        if path.name != LAST_NAME:
            raise
        newest = max(
            _readable_beside(path), key=lambda found: found[1].get("global_step", 0), default=None
        )
        if newest is None:
            raise DataError(f"{damage}; its folder has no other to go on from") from damage
        return newest


def _readable_beside(path: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    for other in sorted(path.parent.glob(f"*{_SUFFIX}")):
        if other != path:
            try:
                yield other, load_checkpoint(other)
            except DataError:
                continue


def find_best(folder: Path) -> Path:
    """Find the best checkpoint in a run's folder, or the last where there is no other.

    In a folder that was pulled, it is the one that was shared.

    Raises:
        DataError: It holds none, or several that may be meant.
    """
    if (folder / WEIGHTS_NAME).is_file():
        return folder / WEIGHTS_NAME
    inside = folder / CHECKPOINTS_FOLDER
    found = sorted((inside if inside.is_dir() else folder).glob(f"*{_SUFFIX}"))
    others = [path for path in found if path.name != LAST_NAME] or found
    if len(others) != 1:
        names = ", ".join(path.name for path in others[:3]) or "none"
        raise DataError(
            f"{folder}: expected one checkpoint, or one beside {LAST_NAME}, got {names}"
        )
    return others[0]
