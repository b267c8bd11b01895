"""Time an epoch's training steps inside ``fit``, and bare steps of the same network, in turns."""

import copy
import time
from typing import Any, ClassVar

import pytorch_lightning as pl
import torch
import torch.nn.functional as F

from lightning_dws import WeightBatch


class LoopTimer(pl.Callback):
    """Before every epoch, take bare training steps; then time the epoch's own.

    A bare step is forward, cross-entropy, backward and the optimizer's step, with a copy of the
    network, the same optimizer and a batch that is there already. What else happens in an epoch
    counts for the loop: sampler, augmentations, MixUp, hooks, logging, progress bar, the pictures
    of training. Validation and what is saved and drawn then do not; they are timed by themselves.

    Attributes:
        timers: Those that have been used, so that a script finds what the command line made.
        bare: Seconds of a bare step, the mean of each round.
        inside: Seconds of a step inside ``fit``, the mean of each epoch.
        validation: Seconds of each validation, with checkpoints and pictures.
    """

    timers: ClassVar[list[Any]] = []

    def __init__(self, bare_steps: int = 50) -> None:
        self.bare_steps = bare_steps
        self.bare: list[float] = []
        self.inside: list[float] = []
        self.validation: list[float] = []
        self._started = self._paused = 0.0
        self._in_validation = 0.0
        self.timers.append(self)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self.bare.append(self._take_bare_steps(trainer, pl_module))
        self._in_validation = 0.0
        self._started = time.perf_counter()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._paused = time.perf_counter()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._in_validation += time.perf_counter() - self._paused

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        seconds = time.perf_counter() - self._started - self._in_validation
        self.inside.append(seconds / trainer.num_training_batches)
        self.validation.append(self._in_validation)

    def _take_bare_steps(self, trainer: pl.Trainer, task: Any) -> float:
        network = copy.deepcopy(task.network).train()
        optimizer = task.optimizer(network.parameters())
        table = trainer.datamodule.tables["train"]  # type: ignore[attr-defined]
        batch = table.gather(torch.arange(min(trainer.datamodule.batch_size, len(table))))  # type: ignore[attr-defined]
        self._step(network, optimizer, batch)
        _synchronize()
        start = time.perf_counter()
        for _ in range(self.bare_steps):
            self._step(network, optimizer, batch)
        _synchronize()
        return (time.perf_counter() - start) / self.bare_steps

    @staticmethod
    def _step(network: Any, optimizer: torch.optim.Optimizer, batch: WeightBatch) -> None:
        loss = F.cross_entropy(network(batch), batch.label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
