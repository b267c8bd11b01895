"""Options that no run can have, found before anything is fitted and any folder is made."""

import math
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
from jsonargparse import Namespace
from pytorch_lightning import Callback
from pytorch_lightning.callbacks import BatchSizeFinder, LearningRateFinder
from pytorch_lightning.plugins import TorchSyncBatchNorm
from torch import nn

from lightning_dws.config_files import own_settings, values_of
from lightning_dws.counting import counted
from lightning_dws.errors import DataError

_LARGEST = 2**53  # whole numbers that are exact everywhere, and more than any run has of anything
_MOST_NODES, _MOST_VIEWS = 2**20, 2**20
_DEVICES = re.compile(r"auto|-1|[1-9][0-9]*|[0-9]+(, *[0-9]+)+,?|[0-9]+,")
_MIXUP = "MixUp"


@dataclass(frozen=True)
class _Range:
    """What numbers an option takes: whole ones from ``low``, and maybe shares in (0, 1].

    Attributes:
        low: The smallest.
        shares: Whether a fraction is a share, of the batches of an epoch.
        whole: Whether other numbers must be whole.
        high: The largest whole number.
    """

    low: float
    shares: bool = False
    whole: bool = True
    high: int = _LARGEST

    def __contains__(self, value: float) -> bool:
        if self.shares and isinstance(value, float):
            return 0 <= value <= 1 and (value > 0 or self.low <= 0)
        if self.whole and value != int(value):
            return False
        return self.low <= value and (value <= self.high or not self.whole)

    def __str__(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        share = " or a share in (0, 1]" if self.shares else ""
        limit = f" and at most {self.high}" if self.high < _LARGEST else ""
        return f"{kind} of at least {self.low:g}{limit}{share}"


_BATCHES = _Range(0, shares=True)
_RANGES = {
    "seed_everything": _Range(0, high=2**32 - 1),
    "data.seed": _Range(0, high=2**32 - 1),
    "trainer.max_epochs": _Range(-1),
    "trainer.min_epochs": _Range(0),
    "trainer.max_steps": _Range(-1),
    "trainer.min_steps": _Range(0),
    "trainer.num_nodes": _Range(1, high=_MOST_NODES),
    "trainer.fast_dev_run": _Range(0),
    "trainer.limit_train_batches": _BATCHES,
    "trainer.limit_val_batches": _BATCHES,
    "trainer.limit_test_batches": _BATCHES,
    "trainer.limit_predict_batches": _BATCHES,
    "trainer.overfit_batches": _BATCHES,
    "trainer.val_check_interval": _Range(1, shares=True),
    "trainer.check_val_every_n_epoch": _Range(1),
    "trainer.num_sanity_val_steps": _Range(-1),
    "trainer.log_every_n_steps": _Range(0),
    "trainer.accumulate_grad_batches": _Range(1),
    "trainer.gradient_clip_val": _Range(0, whole=False),
    "trainer.reload_dataloaders_every_n_epochs": _Range(0),
    "checkpoint.save_top_k": _Range(-1),
    "checkpoint.every_n_epochs": _Range(0),
    "checkpoint.every_n_train_steps": _Range(0),
    "model.warmup_steps": _Range(0),
    "data.batch_size": _Range(1),
    "data.eval_batch_size": _Range(1),
    "data.views": _Range(1, high=_MOST_VIEWS),
}


def seed_of(given: bool | int) -> int:
    """Give the seed of what the user said of it: ``true`` leaves the choice to us, the same always.

    Example:
        >>> seed_of(7), seed_of(False)
        (7, 0)
    """
    if given is True:
        chosen = os.environ.get("PL_GLOBAL_SEED", "")  # Lightning's, of a run that starts others
        return int(chosen) if chosen.isdecimal() else 0
    return int(given)


def check_options(config: Namespace, words: Sequence[str] = ()) -> None:
    """Refuse options out of their range.

    Args:
        config: Options of ``fit`` and its like, parsed.
        words: The command line, to name the files that an option came from.

    Raises:
        ValueError: It names the option, what was found and what was expected.
    """
    for name, value in _options(config):
        if isinstance(value, float) and math.isnan(value):
            raise ValueError(f"{name} must be a number, got {value}")
        if isinstance(value, str) and "\0" in value:
            raise ValueError(f"{name} must be text without NUL characters, got {value!r}")
    for name, allowed in _RANGES.items():
        value = config.get(name)
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if is_number and not (math.isfinite(value) and value in allowed):
            raise ValueError(f"{name} must be {allowed}, got {value}")
    _check_devices(config)
    _check_mixups(config, words)


def _options(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Go through all single options, with their names."""
    if isinstance(value, Namespace):
        value = vars(value)
    if isinstance(value, dict):
        for key, part in value.items():
            yield from _options(part, f"{name}.{key}" if name else str(key))
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _options(part, name)
    else:
        yield name, value


def _check_devices(config: Namespace) -> None:
    devices = config.get("trainer.devices")
    known = isinstance(devices, list) or _DEVICES.fullmatch(str(devices))
    if not known or (str(devices) == "-1" and config.get("trainer.accelerator") == "cpu"):
        raise ValueError(
            "trainer.devices must be auto, a number of at least 1, a list of numbers, or -1 for "
            f"all GPUs, got {devices}"
        )


def _check_mixups(config: Namespace, words: Sequence[str]) -> None:
    callbacks = config.get("trainer.callbacks")
    if len(_mixups(callbacks)) < 2:
        return
    files = [path for path in values_of(("-c", "--config"), words) if _file_has_mixup(path)]
    where = f" ({', '.join(files)})" if files else ""
    raise DataError(
        f"two MixUps in one run would mix what is mixed{where}; choose one, or replace the first "
        "by 'callbacks' instead of 'callbacks+'"
    )


def _mixups(callbacks: Any) -> list[Any]:
    given = callbacks if isinstance(callbacks, list) else [callbacks]
    names = [c.get("class_path", "") if isinstance(c, (dict, Namespace)) else c for c in given]
    return [name for name in names if str(name).rpartition(".")[2] == _MIXUP]


def _file_has_mixup(path: str) -> bool:
    if "\n" in path or path.lstrip().startswith("{"):  # settings, not the name of a file
        return False
    trainer = own_settings(path).get("trainer")
    settings = trainer if isinstance(trainer, dict) else {}
    return any(_mixups(settings.get(name)) for name in ("callbacks", "callbacks+"))


def check_optimizer(task: Any) -> None:
    """Try the optimizer on one number, so that wrong options of it are found before training.

    Raises:
        ValueError: The optimizer refuses its options.
    """
    try:
        optimizer = task.optimizer([nn.Parameter(torch.zeros(1))])
    except (ValueError, TypeError, RuntimeError) as error:
        raise ValueError(f"model.optimizer: {error}") from error
    rate = optimizer.defaults.get("lr")
    if isinstance(rate, float) and not math.isfinite(rate):
        raise ValueError(f"model.optimizer: lr must be finite, got {rate}")


def check_run(trainer: pl.Trainer, task: Any, data: Any) -> None:
    """Ask data, task and callbacks, before any INR is fitted, whether they go together.

    Args:
        trainer: With its callbacks; those with a method ``check_run`` are asked.
        task: Asked by ``check_run``.
        data: Likewise.

    Raises:
        DataError: They do not; the message says why.
    """
    data.check_run(task)
    task.check_run(data)
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if check := getattr(callback, "check_run", None):
            check(task, data)


def check_precision(precision: str) -> None:
    """Refuse a trainer's precision that would convert the INRs themselves.

    Raises:
        DataError: It would.
    """
    if precision.endswith("-true") and precision != "32-true":
        raise DataError(f"precision {precision} would convert the INRs; use 32-true or bf16-mixed")


def check_batch_norm(trainer: pl.Trainer, network: nn.Module) -> None:
    """Refuse a trainer that would make torch's synchronised batch norm of a network's own.

    Raises:
        DataError: It would; it names the plugin that synchronises the network's own.
    """
    from lightning_dws.models.batch_norm import PositionBatchNorm  # loads Numba

    plugin = getattr(trainer.strategy, "_layer_sync", None)
    if type(plugin) is TorchSyncBatchNorm and any(
        isinstance(module, PositionBatchNorm) for module in network.modules()
    ):
        raise DataError(
            f"sync_batchnorm: torch's cannot take the features of {type(network).__name__}; give "
            "the trainer plugins=[lightning_dws.plugins.SyncBatchNorm()], as the command line does"
        )


def check_finders(trainer: pl.Trainer, data: Any) -> None:
    """Keep Lightning's finders of batch size and learning rate to what the training has.

    The one would go on to batches of more than all INRs, the other take the best of the first
    rates, far too small, where the epochs end before it has tried all.

    Args:
        trainer: With its callbacks.
        data: The datamodule, set up.

    Raises:
        DataError: The learning rate's would; it says how many batches there are and are wanted.
    """
    if not hasattr(data, "tables"):  # somebody's own, which may have no length
        return
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    for finder in callbacks:
        if isinstance(finder, BatchSizeFinder):
            finder._max_val = min(finder._max_val, len(data.tables["train"]))
        if not isinstance(finder, LearningRateFinder) or trainer.max_epochs in (None, -1):
            continue
        wanted, in_epoch = finder._num_training_steps, len(data.train_dataloader())
        if in_epoch * trainer.max_epochs < wanted:
            batches = counted(in_epoch, "batch", "batches")
            raise DataError(
                f"LearningRateFinder: tries {wanted} rates on a batch each, and the training has "
                f"{counted(trainer.max_epochs, 'epoch')} of {batches}; give trainer.max_epochs "
                f"{-(-wanted // in_epoch)} or more, or the finder's num_training_steps"
            )


def check_monitors(trainer: pl.Trainer, metrics: Sequence[str]) -> None:
    """Refuse a callback that watches a metric which no part of the run measures.

    Args:
        trainer: With its callbacks.
        metrics: What the task measures in training.

    Raises:
        ValueError: It names the metrics that there are.
    """
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    own = [c for c in callbacks if type(c).__module__.partition(".")[0] not in _KNOWN_PACKAGES]
    if own:  # they may measure whatever they like
        return
    for callback in callbacks:
        monitor = getattr(callback, "monitor", None)
        if isinstance(monitor, str) and monitor not in metrics:
            raise ValueError(
                f"{type(callback).__name__}: monitor {monitor!r} is measured by nothing; "
                f"there are {', '.join(metrics)}"
            )


_KNOWN_PACKAGES = ("lightning_dws", "pytorch_lightning", "lightning")
