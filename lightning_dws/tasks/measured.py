"""What a task measures: its metrics, when they are logged, and the scores that runs have."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import pytorch_lightning as pl
from torch import Tensor, nn
from torchmetrics import Metric

from lightning_dws.weight_space import WeightBatch

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class ScoreKind:
    """What a score is.

    Attributes:
        name: Of the metric.
        mode: Whether ``min`` or ``max`` of it is best.
        in_percent: Whether it is a share, which is written in %.
    """

    name: str
    mode: Literal["min", "max"] = "max"
    in_percent: bool = False

    @property
    def words(self) -> str:
        """Its name, for people."""
        return self.name.replace("_", " ")


class MeasuredModule(pl.LightningModule):
    """A module whose batches are measured in ``_step``, and whose metrics are logged once an epoch.

    Attributes:
        score: The name of the metric that a run is judged and its checkpoint chosen by.
        mode: Whether ``min`` or ``max`` of it is best.
        in_percent: Whether it is a share, which is written in %.
        other_scores: Further metrics of the test that runs can be compared by.
        metrics: What is measured, by split and name. Of ``train`` and ``val`` it can be monitored.
    """

    score: ClassVar[str] = "loss"
    mode: ClassVar[Literal["min", "max"]] = "min"
    in_percent: ClassVar[bool] = False
    other_scores: ClassVar[Sequence[ScoreKind]] = ()

    def __init__(self) -> None:
        super().__init__()
        self.metrics = nn.ModuleDict({f"{split}_": nn.ModuleDict() for split in SPLITS})
        self._logged_splits: set[str] = set()

    def _step(self, batch: WeightBatch, split: str) -> dict[str, Tensor]:
        """Measure a batch: give its ``loss``, and what callbacks of the task use."""
        raise NotImplementedError

    @classmethod
    def known_scores(cls) -> dict[str, ScoreKind]:
        """Give what runs can be compared by, the task's own score first."""
        own = ScoreKind(cls.score, cls.mode, cls.in_percent)
        return {own.name: own, **{kind.name: kind for kind in cls.other_scores}}

    def measure_inrs(self, step: Mapping[str, Tensor], batch: WeightBatch) -> dict[str, Tensor]:
        """Give what scores are made of, an INR a row, so that runs can be compared INR by INR.

        Args:
            step: What ``_step`` gave of the batch.
            batch: B INRs.

        Returns:
            By the name of a score (B, ...), what ``scores_of_inrs`` takes: (B,) where the score is
            the mean over the INRs. Scores that are not there are compared run by run.
        """
        return {}

    def scores_of_inrs(self, name: str, measured: Tensor) -> Tensor:
        """Make (N,), whose mean is a score, of what was measured (N, ...) of a split's INRs."""
        return measured

    @property
    def training_metrics(self) -> list[str]:
        """Name what is measured in training and validation, and can be monitored."""
        names = [f"{split}/{name}" for split in SPLITS[:2] for name in self._metrics_of(split)]
        return [*names, "train/loss_step"]

    def _metrics_of(self, split: str) -> dict[str, Metric]:
        metrics: Any = self.metrics[f"{split}_"]
        return dict(metrics.items())

    def setup(self, stage: str) -> None:
        """Measure from zero, whatever a run before this one has left.

        A run that was broken off has counted some batches, and an evaluation in inference mode
        leaves counts that no training can add to.
        """
        super().setup(stage)
        for metric in self.metrics.modules():
            if isinstance(metric, Metric):
                metric.reset()

    def on_train_epoch_start(self) -> None:
        self._logged_splits.discard("train")

    def on_validation_epoch_start(self) -> None:
        self._logged_splits.discard("val")

    def on_test_epoch_start(self) -> None:
        self._logged_splits.discard("test")

    def validation_step(self, batch: WeightBatch, batch_idx: int) -> dict[str, Tensor]:
        return self._measure(batch, "val")

    def test_step(self, batch: WeightBatch, batch_idx: int) -> dict[str, Tensor]:
        return self._measure(batch, "test")

    def _measure(self, batch: WeightBatch, split: str) -> dict[str, Tensor]:
        step = self._step(batch, split)
        if split not in self._logged_splits:
            self._logged_splits.add(split)
            self._log_epoch(split, len(batch))
        return step

    def _log_step(self, loss: Tensor, batch: WeightBatch) -> None:
        """Log a step's loss, the mean over all ranks, when Lightning writes to the log."""
        every = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        if every and (self.trainer.global_step + 1) % every == 0:
            mean = self.trainer.strategy.reduce(loss.detach().clone(), reduce_op="mean")
            self.log("train/loss_step", mean, on_step=True, on_epoch=False, batch_size=len(batch))

    def _log_epoch(self, split: str, batch_size: int) -> None:
        """Hand the metrics to Lightning, which reads them when the epoch ends: once is enough."""
        shown = ("train/loss", "val/loss", f"val/{self.score}")
        for name, metric in self._metrics_of(split).items():
            self.log(
                f"{split}/{name}",
                metric,
                on_step=False,
                on_epoch=True,
                prog_bar=f"{split}/{name}" in shown,
                batch_size=batch_size,
            )
