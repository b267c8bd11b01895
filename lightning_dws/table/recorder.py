"""Record what a run did, for its cell."""

import hashlib
import math
import time
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from lightning_dws.weight_space import WeightBatch

_DIGITS = 6  # significant, of what is written to the cell's file


class CellRecorder(pl.Callback):
    """Keep the curves between validations, and which test objects were classified rightly.

    ``train_loss`` and ``train_accuracy`` are means over the batches, as the network saw them
    (augmented and mixed), since the validation before. Kept in checkpoints: a run in pieces has
    the history of a run in one.

    Args:
        git_commit: Of the code that runs.
    """

    def __init__(self, git_commit: str | None = None) -> None:
        self.history: dict[str, list[float | None]] = {
            name: []
            for name in ("step", "train_loss", "train_accuracy", "val_loss", "val_accuracy")
        }
        self.git_commits = [git_commit]
        self._seconds_before = 0.0
        self._started = time.perf_counter()
        self._train: list[tuple[Tensor, Tensor, int]] = []
        self._test: list[tuple[Tensor, Tensor]] = []
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
        correct = (outputs["logits"].argmax(dim=1) == batch.label).float().mean()
        self._train.append((outputs["loss"].detach(), correct, len(batch)))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        if self.history["step"][-1:] == [trainer.global_step]:
            return  # a run resumed at its end validates again
        train_loss, train_accuracy = self._mean_since_last()
        metrics = trainer.callback_metrics
        values = (
            trainer.global_step,
            train_loss,
            train_accuracy,
            float(metrics["val/loss"]),
            float(metrics["val/accuracy"]),
        )
        for curve, value in zip(self.history.values(), values, strict=True):
            curve.append(_rounded(value))

    def _mean_since_last(self) -> tuple[float, float]:
        if not self._train:
            return math.nan, math.nan
        losses, correct, sizes = zip(*self._train, strict=True)
        share = torch.tensor(sizes, dtype=torch.float64) / sum(sizes)
        self._train = []
        return tuple(  # type: ignore[return-value]
            float((torch.stack(values).cpu().double() * share).sum())
            for values in (losses, correct)
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
        correct = outputs["logits"].argmax(dim=1) == batch.label
        self._test.append((batch.object_id.cpu(), correct.cpu()))

    def best(self) -> dict[str, float | None]:
        """Give the best validation accuracy and the first step that reached it."""
        accuracies = [
            value if value is not None else -1.0 for value in self.history["val_accuracy"]
        ]
        place = max(range(len(accuracies)), key=accuracies.__getitem__)
        return {"val_accuracy": accuracies[place], "step": self.history["step"][place]}

    def test_objects(self) -> dict[str, str | int]:
        """Give which test objects were classified rightly, in the order of their ids.

        Returns:
            ``correct``, one bit an object as hexadecimal digits (see ``pack_bits``); ``count``;
            ``ids``, a hash of the object ids.
        """
        ids = torch.cat([ids for ids, _ in self._test])
        correct = torch.cat([correct for _, correct in self._test])[ids.argsort()].tolist()
        text = ",".join(map(str, ids.sort().values.tolist()))
        return {
            "count": len(correct),
            "ids": hashlib.sha256(text.encode()).hexdigest()[:12],
            "correct": pack_bits(correct),
        }

    def state_dict(self) -> dict[str, Any]:
        return {"history": self.history, "git_commits": self.git_commits, "seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if self._is_fitted:
            return  # the best checkpoint, loaded for the test, knows less than this run
        self.history = state_dict["history"]
        self._seconds_before = state_dict["seconds"]
        known = state_dict["git_commits"]
        self.git_commits = [*known, *(c for c in self.git_commits if c not in known)]


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
