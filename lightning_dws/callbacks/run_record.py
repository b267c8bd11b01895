"""Record what a run was: its config as a file, as text and in TensorBoard's HParams tab."""

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.cli import SaveConfigCallback
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger

from lightning_dws.callbacks.folder import run_folder
from lightning_dws.callbacks.leaving_out import left_out_if_it_fails
from lightning_dws.files import write_atomically


class RunRecord(SaveConfigCallback):
    """Save ``config.yaml``; show it in TensorBoard; list the run in the HParams tab.

    The HParams metric ``hp/val_accuracy``, or what else the task is judged by, is the best of
    validation so far.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "save_to_log_dir": False})  # but to the run's folder
        self._told: set[str] = set()
        self._best: float | None = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if stage == "fit":  # the run's settings are those it was trained with
            super().setup(trainer, pl_module, stage)

    def save_config(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        folder = run_folder(trainer)
        folder.mkdir(parents=True, exist_ok=True)
        text = self.parser.dump(self.config, skip_none=False)
        write_atomically(folder / self.config_filename, text.encode())
        with left_out_if_it_fails("the run's settings in its log", self._told):
            self._log_config(trainer, pl_module, text)

    def _log_config(self, trainer: pl.Trainer, task: Any, text: str) -> None:
        settings = flatten(
            {name: self.config[name].as_dict() for name in ("data", "model", "trainer")}
        )
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_text("config", f"```yaml\n{text}\n```")
                logger.log_hyperparams(settings, {f"hp/val_{task.score}": 0.0})
            elif not isinstance(logger, CSVLogger):  # its file would be beside the config's
                logger.log_hyperparams(settings)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        current = trainer.callback_metrics.get(f"val/{pl_module.score}")
        if trainer.sanity_checking or not trainer.is_global_zero or current is None:
            return
        values = [float(current), *self._best_before(trainer.checkpoint_callback, pl_module)]
        self._best = max(values) if pl_module.mode == "max" else min(values)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.log_metrics({f"hp/val_{pl_module.score}": self._best}, trainer.global_step)

    def _best_before(self, callback: Any, task: Any) -> list[float]:
        """Give the best so far: of this process, and of the run that it continues."""
        known = [] if self._best is None else [self._best]
        score = getattr(callback, "best_model_score", None)
        if score is not None and callback.monitor == f"val/{task.score}":
            known.append(float(score))
        return known


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
