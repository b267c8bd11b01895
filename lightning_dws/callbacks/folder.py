"""Where a run keeps its files."""

from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint


def run_folder(trainer: pl.Trainer) -> Path:
    """Give the folder of the run's log, or the root folder where no logger keeps a folder.

    Unlike ``trainer.log_dir``, it needs no broadcast, so that one rank alone may ask, and is no
    folder of all runs (MLflow's, W&B's).
    """
    folders = [logger.log_dir for logger in trainer.loggers if logger.log_dir]
    return Path(folders[0] if folders else trainer.default_root_dir)


def last_checkpoint() -> ModelCheckpoint:
    """Save every epoch as ``last.ckpt``; Lightning's ``save_last`` follows the best, not epochs."""
    return ModelCheckpoint(
        filename="last", save_on_train_epoch_end=True, enable_version_counter=False
    )


def place_checkpoints(trainer: pl.Trainer, folder: Path) -> None:
    """Keep checkpoints in the run's folder where the first logger has none: W&B's, MLflow's.

    Lightning would put them beside what such a logger keeps of all runs.
    """
    if trainer.loggers and trainer.loggers[0].log_dir is None:
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, ModelCheckpoint) and callback.dirpath is None:
                callback.dirpath = str(folder)
