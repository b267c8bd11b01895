"""A run that continues knows its best checkpoint so far, wherever its folder is by now."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.trainer.states import TrainerFn

from lightning_dws.checkpoints import load_checkpoint
from lightning_dws.errors import DataError
from lightning_dws.files import write_atomically

State = dict[str, Any]


class BestCheckpoints(pl.Callback):
    """Find a continued run's best checkpoints beside the one that it continues from.

    Lightning's ``ModelCheckpoint`` knows them by the paths of the earlier run, and forgets the
    best score where these are spelled otherwise. A run that is forked into another folder takes
    copies of them along.
    """

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Write the paths of this run into the states of all ``ModelCheckpoint``.

        Raises:
            DataError: The best checkpoint so far is not found.
        """
        continued = trainer.state.fn == TrainerFn.FITTING and trainer.ckpt_path
        states: dict[str, State] = checkpoint.get("callbacks", {})
        for callback in trainer.checkpoint_callbacks:
            key = callback.state_key
            if isinstance(callback, ModelCheckpoint) and key in states:
                # a checkpoint that is only measured knows no better than this run
                states[key] = (
                    _moved(trainer, callback, states[key]) if continued else callback.state_dict()
                )
        trainer.strategy.barrier()


def _moved(trainer: pl.Trainer, callback: ModelCheckpoint, state: State) -> State:
    source, target = Path(str(trainer.ckpt_path)), Path(str(callback.dirpath))
    moved = {**state, "dirpath": callback.dirpath, "last_model_path": ""}
    if state["monitor"] is None:  # the newest replaces the one before, which is to be this run's
        before = target / _name(state["best_model_path"], state)
        moved["best_model_path"] = str(before) if before.is_file() else ""
        return moved
    found = {}
    for path, score in state["best_k_models"].items():
        name = _name(path, state)
        file = _find(name, path, score, source, callback.state_key)
        if file is not None:
            found[str(target / name)] = (file, score)
    best = str(target / _name(state["best_model_path"], state))
    if state["best_model_path"] and best not in found:
        file, score = _later_best(source, callback, state)
        best = str(target / file.name)
        found = {best: (file, score)}
    if trainer.is_global_zero:
        for path, (file, _) in found.items():
            if not Path(path).exists() or not os.path.samefile(path, file):
                Path(path).parent.mkdir(parents=True, exist_ok=True)
                write_atomically(Path(path), file.read_bytes())
    models = {path: score for path, (_, score) in found.items()}
    moved["best_k_models"] = models
    if models:
        worst = (max if callback.mode == "min" else min)(models, key=lambda path: models[path])
        moved |= {"best_model_path": best, "best_model_score": models[best]}
        if callback.save_top_k == len(models):
            moved |= {"kth_best_model_path": worst, "kth_value": models[worst]}
        else:
            moved |= {"kth_best_model_path": "", "kth_value": callback.kth_value}
    return moved


def _name(path: str, state: State) -> str:
    """Give a checkpoint's path within the folder of its run's checkpoints."""
    if not path:
        return ""
    inside = os.path.relpath(os.path.abspath(path), os.path.abspath(str(state["dirpath"])))
    return os.path.basename(path) if inside.startswith("..") else inside


def _find(name: str, recorded: str, score: Any, source: Path, key: str) -> Path | None:
    """Find a good checkpoint beside the newest one, or where it was written if it still is that."""
    beside = source.parent / name
    if beside.is_file():
        return beside
    if not os.path.isfile(recorded):
        return None
    own = _state_of(Path(recorded), key)
    return Path(recorded) if own is not None and own.get("current_score") == score else None


def _later_best(source: Path, callback: ModelCheckpoint, state: State) -> tuple[Path, Any]:
    """Find a better checkpoint that the run wrote before it was killed, in place of its best.

    Lightning removes the best checkpoint before it writes the newest anew: in between, only the
    new best knows that it is the best.
    """
    best = state["best_model_score"]
    sign = -1 if callback.mode == "min" else 1
    found = [
        (path, own["current_score"])
        for path, own in _states_beside(source, callback.state_key)
        if own.get("current_score") is not None
        and os.path.basename(str(own.get("best_model_path"))) == path.name
        and sign * own["current_score"] >= sign * best
    ]
    if not found:
        raise DataError(
            f"{source}: the best checkpoint so far, {os.path.basename(state['best_model_path'])} "
            f"({callback.monitor} {float(best):.4g}), is not beside it; put it there, or start a "
            "new run from these weights with --init_from"
        )
    return max(found, key=lambda pair: float(sign * pair[1]))


def _states_beside(source: Path, key: str) -> Iterator[tuple[Path, State]]:
    for path in sorted(source.parent.glob("*.ckpt")):
        own = _state_of(path, key)
        if own is not None and path.name != source.name:
            yield path, own


def _state_of(path: Path, key: str) -> State | None:
    try:
        state = load_checkpoint(path).get("callbacks", {}).get(key)
    except DataError:  # damaged: as if it were not there
        return None
    return state if isinstance(state, dict) else None
