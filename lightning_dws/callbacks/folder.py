"""Where a run keeps its files."""

from pathlib import Path

import pytorch_lightning as pl


def run_folder(trainer: pl.Trainer) -> Path:
    """Give the folder of the run's log, or the root folder where no logger keeps a folder.

    Unlike ``trainer.log_dir``, it needs no broadcast, so that one rank alone may ask, and is no
    folder of all runs (MLflow's, W&B's).
    """
    folders = [logger.log_dir for logger in trainer.loggers if logger.log_dir]
    return Path(folders[0] if folders else trainer.default_root_dir)
