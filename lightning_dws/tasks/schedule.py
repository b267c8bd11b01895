"""How far a training is, for its learning rate, and what to say of a schedule that does nothing."""

import math
import sys
from datetime import timedelta

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Timer
from pytorch_lightning.utilities import rank_zero_only


def learning_rate_share(trainer: pl.Trainer, step: int, schedule: str, warmup_steps: int) -> float:
    """Give the share of the full learning rate at an optimizer step, counted from 0."""
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    if schedule == "constant" or step == warmup_steps:
        return 1.0
    # Asked for only now: in configure_optimizers it would make Lightning set up the data
    # before it restores a checkpoint, and then forget the loader's place in the epoch.
    return 0.5 * (1 + math.cos(math.pi * training_progress(trainer, step, warmup_steps)))


def training_progress(trainer: pl.Trainer, step: int, warmup_steps: int) -> float:
    """Give the share of the training behind its warm-up that is over, in [0, 1].

    By steps where their number is known; else by the time, of ``max_time``; else it is 0 for ever.
    """
    total = trainer.estimated_stepping_batches
    if math.isfinite(total):
        return min(1.0, (step - warmup_steps) / max(1, total - warmup_steps))
    timer = _timer(trainer)
    if timer is None:
        return 0.0
    elapsed, left = timer.time_elapsed("train"), timer.time_remaining("train") or 0.0
    share = min(1.0, elapsed / max(elapsed + left, 1e-9))
    return float(trainer.strategy.broadcast(share))  # the same rate on all ranks


def tell_about_schedule(trainer: pl.Trainer, schedule: str, warmup_steps: int) -> None:
    """Say in one line that a warm-up or a cosine never ends, if it is so."""
    total = trainer.estimated_stepping_batches
    line = None
    if math.isfinite(total) and warmup_steps >= total > 0:
        line = (
            f"model.warmup_steps is {warmup_steps}, and this training has {total:g} steps: its "
            f"learning rate reaches {100 * total / (warmup_steps + 1):.3g} % of the full one"
        )
    elif schedule == "cosine" and not math.isfinite(total):
        timer = _timer(trainer)
        line = (
            "model.schedule: without trainer.max_epochs, max_steps or max_time the training has "
            "no end, and its learning rate stays constant"
            if timer is None
            else f"model.schedule: the learning rate falls with the time, {_duration(timer)}"
        )
    if line is not None:
        rank_zero_only(sys.stderr.write)(f"{line}\n")


def _timer(trainer: pl.Trainer) -> Timer | None:
    callbacks = trainer.callbacks  # type: ignore[attr-defined]
    return next(
        (c for c in callbacks if isinstance(c, Timer) and c.time_remaining() is not None), None
    )


def _duration(timer: Timer) -> timedelta:
    seconds = timer.time_elapsed("train") + (timer.time_remaining("train") or 0.0)
    return timedelta(seconds=round(seconds))
