"""Record what a run did, for its cell."""

import hashlib
import math
import time
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from lightning_dws.tasks import ScoreKind, WeightSpaceTask
from lightning_dws.weight_space import WeightBatch

_DIGITS = 6  # significant, of what is written to the cell's file
_KEPT_AS = {"accuracy": "correct"}  # scores of single INRs whose name in the file is another


class CellRecorder(pl.Callback):
    """Keep the curves between validations, and the scores of single test objects.

    Those of the training are means over the batches, as the network saw them (augmented and
    mixed), since the validation before. What a task does not measure is None. Kept in checkpoints:
    a run in pieces has the history of a run in one.

    Args:
        score: That the run is judged by.
        git_commit: Of the code that runs.
    """

    def __init__(self, score: ScoreKind, git_commit: str | None = None) -> None:
        self.score = score
        curves = [f"{split}_{name}" for split in ("train", "val") for name in ("loss", score.name)]
        self.history: dict[str, list[float | None]] = {name: [] for name in ("step", *curves)}
        self.git_commits = [git_commit]
        self._seconds_before = 0.0
        self._started = time.perf_counter()
        self._train: list[tuple[Tensor, Tensor | None, int]] = []
        self._test: list[tuple[Tensor, dict[str, Tensor]]] = []
        self._task: WeightSpaceTask | None = None
        self._is_fitted = False

    @property
    def seconds(self) -> float:
        """Wall-clock seconds so far, in all pieces of the run."""
        return self._seconds_before + time.perf_counter() - self._started

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: WeightBatch,
        batch_idx: int,
    ) -> None:
        measured = pl_module.measure_inrs(outputs, batch).get(self.score.name)  # type: ignore[operator]
        is_mean = measured is not None and measured.ndim == 1
        mean = measured.float().mean() if is_mean else None
        self._train.append((outputs["loss"].detach(), mean, len(batch)))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        if self.history["step"][-1:] == [trainer.global_step]:
            return  # a run resumed at its end validates again
        measured = (
            float(trainer.callback_metrics.get(f"val/{name}", math.nan))
            for name in ("loss", self.score.name)
        )
        values = (trainer.global_step, *self._mean_since_last(), *measured)
        for curve, value in zip(self.history.values(), values, strict=True):
            curve.append(_rounded(value))

    def _mean_since_last(self) -> tuple[float, float]:
        """Give loss and score."""
        if not self._train:
            return math.nan, math.nan
        losses, scores, sizes = zip(*self._train, strict=True)
        share = torch.tensor(sizes, dtype=torch.float64) / sum(sizes)
        self._train = []
        return tuple(  # type: ignore[return-value]
            float((torch.stack(values).cpu().double() * share).sum())
            if values[0] is not None
            else math.nan
            for values in (losses, scores)
        )

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._is_fitted = True

    def on_test_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: WeightBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        assert isinstance(pl_module, WeightSpaceTask)
        self._task = pl_module
        measured = pl_module.measure_inrs(outputs, batch)
        self._test.append((batch.object_id.cpu(), {n: v.cpu() for n, v in measured.items()}))

    def best(self) -> dict[str, float | None]:
        """Give the best validation score and the first step that reached it."""
        name, sign = f"val_{self.score.name}", 1 if self.score.mode == "max" else -1
        values = self.history[name]
        known = [-math.inf if value is None else sign * value for value in values]
        place = max(range(len(known)), key=known.__getitem__)
        return {name: values[place], "step": self.history["step"][place]}

    def test_objects(self) -> dict[str, str | int | list[float]]:
        """Give the scores of single test objects, in the order of their ids.

        Returns:
            ``count``; ``ids``, a hash of the object ids; by the name of a score one number an
            object, or, where it is right or wrong, one bit as hexadecimal digits (see
            ``pack_bits``), of the accuracy as ``correct``.
        """
        ids = torch.cat([ids for ids, _ in self._test])
        text = ",".join(map(str, ids.sort().values.tolist()))
        found: dict[str, str | int | list[float]] = {
            "count": len(ids),
            "ids": hashlib.sha256(text.encode()).hexdigest()[:12],
        }
        for name in self._test[0][1]:
            assert self._task is not None
            measured = torch.cat([measured[name] for _, measured in self._test])
            values = self._task.scores_of_inrs(name, measured)[ids.argsort()]
            if values.dtype == torch.bool:
                found[_KEPT_AS.get(name, name)] = pack_bits(values.tolist())
            elif values.isfinite().all():
                found[name] = [float(f"{value:.{_DIGITS}g}") for value in values.tolist()]
        return found

    def state_dict(self) -> dict[str, Any]:
        return {"history": self.history, "git_commits": self.git_commits, "seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if self._is_fitted:
            return  # the best checkpoint, loaded for the test, knows less than this run
        self.history = state_dict["history"]
        self._seconds_before = state_dict["seconds"]
        known = state_dict["git_commits"]
        self.git_commits = [*known, *(c for c in self.git_commits if c not in known)]


def read_inrs(record: Mapping[str, Any], name: str) -> list[float] | None:
    """Read a score of single test objects from a cell's record, None where there is none."""
    objects = record["test_objects"]
    values = objects.get(_KEPT_AS.get(name, name))
    if isinstance(values, str):
        return [float(bit) for bit in unpack_bits(values, objects["count"])]
    return values  # type: ignore[no-any-return]


def _rounded(value: float) -> float | None:
    """Round for a file; JSON has no infinities."""
    if isinstance(value, int) or not math.isfinite(value):
        return value if isinstance(value, int) else None
    return float(f"{value:.{_DIGITS}g}")


def pack_bits(bits: list[bool]) -> str:
    """Write bits as hexadecimal digits, the first bit first; the last digit is filled with zeros.

    Example:
        >>> pack_bits([True, False, False, False, True])
        '88'
    """
    text = "".join("01"[bit] for bit in bits)
    text += "0" * (-len(text) % 4)
    return "".join(f"{int(text[i : i + 4], 2):x}" for i in range(0, len(text), 4))


def unpack_bits(text: str, count: int) -> list[bool]:
    """Read what ``pack_bits`` wrote.

    Example:
        >>> unpack_bits("88", 5)
        [True, False, False, False, True]
    """
    bits = "".join(f"{int(digit, 16):04b}" for digit in text)
    return [bit == "1" for bit in bits[:count]]
