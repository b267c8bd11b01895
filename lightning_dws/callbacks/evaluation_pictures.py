"""Pictures of what validation and test come to: when they are drawn."""

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.trainer.states import TrainerFn

from lightning_dws.weight_space import WeightBatch


class EvaluationPictures(pl.Callback):
    """Collect the batches of an evaluation, and draw what they came to.

    Validation is drawn every ``every_n_epochs`` and at the end of training, test always.

    Args:
        every_n_epochs: How often validation is drawn.

    Raises:
        ValueError: It is below 1.
    """

    def __init__(self, every_n_epochs: int) -> None:
        if every_n_epochs < 1:
            raise ValueError(f"every_n_epochs must be at least 1, got {every_n_epochs}")
        self.every_n_epochs = every_n_epochs
        self._told: set[str] = set()

    def _begin(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Forget the evaluation before."""
        raise NotImplementedError

    def _collect(self, outputs: Any, batch: WeightBatch) -> None:
        """Take what a step gave of a batch."""
        raise NotImplementedError

    def _draw(self, trainer: pl.Trainer, split: str) -> None:
        """Draw what was collected, on all ranks."""
        raise NotImplementedError

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._begin(trainer, pl_module)

    def on_test_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._begin(trainer, pl_module)

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: WeightBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._collect(outputs, batch)

    def on_test_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: WeightBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._collect(outputs, batch)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        epoch = trainer.current_epoch + 1
        fitting = trainer.state.fn == TrainerFn.FITTING
        last = not fitting or epoch == trainer.max_epochs or trainer.should_stop
        if not trainer.sanity_checking and (last or epoch % self.every_n_epochs == 0):
            self._draw(trainer, "val")

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._draw(trainer, "test")
