"""Record the scores of a trial, and end it where it is not worth going on."""

import math
from collections.abc import Callable
from typing import Any, Literal

import pytorch_lightning as pl

from lightning_dws.errors import DataError


class TrialRecorder(pl.Callback):
    """Keep the score at every validation; kept in checkpoints, as the run's state is.

    Args:
        monitor: The score.
        mode: Whether ``min`` or ``max`` of it is best.
        report: Takes every score with its step, and tells whether the trial is to end there.

    Attributes:
        history: Steps and scores so far; what is not finite is left out.
        is_pruned: Whether the trial was ended early.
    """

    def __init__(
        self, monitor: str, mode: Literal["min", "max"], report: Callable[[int, float], bool]
    ) -> None:
        self.monitor = monitor
        self.history: list[tuple[int, float]] = []
        self.is_pruned = False
        self._choose = max if mode == "max" else min
        self._report = report

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        step, score = trainer.global_step, float(trainer.callback_metrics[self.monitor])
        known = [step for step, _ in self.history]
        if step in known[-1:] or not math.isfinite(score):
            return  # a run resumed at its end validates again
        self.history.append((step, score))
        stops = self._report(step, score)
        if stops and step < trainer.estimated_stepping_batches:  # else it has come to its end
            self.is_pruned = trainer.should_stop = True

    def best(self) -> tuple[int, float]:
        """Give the best score and the first step that reached it.

        Raises:
            DataError: There is none.
        """
        if not self.history:
            raise DataError(f"the run ended without any finite {self.monitor}")
        score = self._choose(score for _, score in self.history)
        return next(point for point in self.history if point[1] == score)

    def state_dict(self) -> dict[str, Any]:
        return {"history": self.history}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.history = [(step, score) for step, score in state_dict["history"]]
        for step, score in self.history:
            self._report(step, score)
