"""Curves of how training goes: samples per second and the gradient's norm."""

import time
from typing import Any

import pytorch_lightning as pl
import torch
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from lightning_dws.weight_space import WeightBatch

CALLBACK_METRICS = ("train/samples_per_second", "train/gradient_norm")


class Throughput(pl.Callback):
    """Log ``train/samples_per_second`` of all ranks together, over the training part of an epoch.

    Validation is not counted; what callbacks do after a batch is.
    """

    def __init__(self) -> None:
        self._samples = 0
        self._seconds = 0.0
        self._started = 0.0
        self._in_epoch = False

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._samples = 0
        self._seconds = 0.0
        self._started = time.perf_counter()
        self._in_epoch = True

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: WeightBatch,
        batch_idx: int,
    ) -> None:
        self._samples += len(batch) * trainer.world_size
        if trainer.is_last_batch:
            self._stop_clock(pl_module)
            self._in_epoch = False

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._in_epoch:
            self._stop_clock(pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._started = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._seconds > 0:
            rate = self._samples / self._seconds
            pl_module.log("train/samples_per_second", rate, sync_dist=True)

    def _stop_clock(self, pl_module: pl.LightningModule) -> None:
        if pl_module.device.type == "cuda":
            torch.cuda.synchronize(pl_module.device)
        now = time.perf_counter()
        self._seconds += now - self._started
        self._started = now


class GradientNorm(pl.Callback):
    """Log ``train/gradient_norm``, the Euclidean norm over all parameters before any clipping."""

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        every = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if every and (trainer.global_step + 1) % every == 0:  # when Lightning writes to the log
            gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
            pl_module.log("train/gradient_norm", get_total_norm(gradients))
