"""Record what a run was: its config as a file, as text and in TensorBoard's HParams tab."""

from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.cli import SaveConfigCallback
from pytorch_lightning.loggers import TensorBoardLogger

from lightning_dws.callbacks.leaving_out import left_out_if_it_fails

_METRIC = "hp/val_accuracy"


class RunRecord(SaveConfigCallback):
    """Save ``config.yaml``; show it in TensorBoard; list the run in the HParams tab.

    The HParams metric ``hp/val_accuracy`` is the best validation accuracy so far.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._told: set[str] = set()

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if stage == "fit":  # the run's settings are those it was trained with
            super().setup(trainer, pl_module, stage)

    def save_config(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        with left_out_if_it_fails("the run's settings in its log", self._told):
            self._log_config(trainer)

    def _log_config(self, trainer: pl.Trainer) -> None:
        text = self.parser.dump(self.config, skip_none=False)
        settings = flatten(
            {name: self.config[name].as_dict() for name in ("data", "model", "trainer")}
        )
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_text("config", f"```yaml\n{text}\n```")
                logger.log_hyperparams(settings, {_METRIC: 0.0})

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        callback = trainer.checkpoint_callback
        best = getattr(callback, "best_model_score", None)
        current = trainer.callback_metrics.get("val/accuracy")
        if trainer.sanity_checking or not trainer.is_global_zero or current is None:
            return
        value = current.cpu() if best is None else torch.maximum(best.cpu(), current.cpu())
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.log_metrics({_METRIC: float(value)}, trainer.global_step)


def flatten(settings: Any, prefix: str = "") -> dict[str, str | int | float | bool]:
    """Flatten nested settings to ``a.b.c``, leaving out what is not set.

    Example:
        >>> flatten({"a": {"b": 1, "c": None}, "d": [1, 2]})
        {'a.b': 1, 'd': '[1, 2]'}
    """
    if isinstance(settings, dict):
        flat: dict[str, str | int | float | bool] = {}
        for name, value in settings.items():
            flat |= flatten(value, f"{prefix}.{name}" if prefix else str(name))
        return flat
    if settings is None:
        return {}
    return {prefix: settings if isinstance(settings, (int, float, bool, str)) else str(settings)}
