"""An optimizer that continues, with the options that are asked for now."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pytorch_lightning as pl
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from lightning_dws.errors import DataError

_SCHEDULED = "initial_lr"  # where a schedule keeps the rate that it scales


def apply_options(checkpoint: Mapping[str, Any], optimizer: Optimizer) -> None:
    """Put an optimizer's options in place of the ones that a checkpoint was trained with.

    The moments and the step count stay. Options that are the same are not touched.

    Args:
        checkpoint: Its ``optimizer_states`` and ``lr_schedulers`` are changed in place.
        optimizer: A new one, which has made no step and is not scheduled.

    Raises:
        DataError: The checkpoint is of another optimizer.
    """
    states = checkpoint.get("optimizer_states")
    if not states:
        return
    saved_groups = states[0]["param_groups"]
    for saved, group in zip(saved_groups, optimizer.param_groups, strict=False):
        options = {name: value for name, value in group.items() if name != "params"}
        found = {name for name in saved if name not in ("params", _SCHEDULED)}
        if found != options.keys():
            differing = ", ".join(sorted(found ^ options.keys()))
            raise DataError(
                f"the checkpoint is of another optimizer than {type(optimizer).__name__}: "
                f"only one of them has {differing}"
            )
        rate = options.pop("lr")
        if not _same(saved.get(_SCHEDULED, saved["lr"]), rate):
            saved["lr"] = saved[_SCHEDULED] = rate
        for name, value in options.items():
            if not _same(saved[name], value):
                saved[name] = value
    for schedule in checkpoint.get("lr_schedulers", []):
        if "base_lrs" in schedule:
            schedule["base_lrs"] = [g.get(_SCHEDULED, g["lr"]) for g in saved_groups]


def _same(saved: Any, wanted: Any) -> bool:
    if isinstance(saved, (list, tuple)) and isinstance(wanted, (list, tuple)):
        return list(saved) == list(wanted)  # betas
    return bool(saved == wanted)


def make_with_rate(
    make: Callable[..., Optimizer], rate: float, parameters: Iterable[nn.Parameter]
) -> Optimizer:
    """Make an optimizer with another learning rate than its maker gives."""
    optimizer = make(parameters)
    for settings in (optimizer.defaults, *optimizer.param_groups):
        settings["lr"] = rate
    return optimizer


def set_full_rate(trainer: pl.Trainer, rate: float) -> None:
    """Let the schedules of a training scale another learning rate from now on."""
    for config in trainer.lr_scheduler_configs:
        if isinstance(config.scheduler, LambdaLR):
            config.scheduler.base_lrs = [rate for _ in config.scheduler.base_lrs]
            for group in config.scheduler.optimizer.param_groups:
                group[_SCHEDULED] = rate
            restart_schedule(config.scheduler)


def restart_schedule(scheduler: LambdaLR) -> None:
    """Set the learning rate of the next step, which a schedule of another length may change."""
    rates = [
        base * share(scheduler.last_epoch)
        for base, share in zip(scheduler.base_lrs, scheduler.lr_lambdas, strict=True)
    ]
    for group, rate in zip(scheduler.optimizer.param_groups, rates, strict=True):
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate
