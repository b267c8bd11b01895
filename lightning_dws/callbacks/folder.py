"""Where a run keeps its files."""

from pathlib import Path

import pytorch_lightning as pl


def run_folder(trainer: pl.Trainer) -> Path:
    """Give the folder of the run's log, or the root folder where nothing is logged.

    As ``trainer.log_dir``, but without its broadcast, so that one rank alone may ask.
    """
    for logger in trainer.loggers:
        if logger.log_dir or logger.save_dir:
            return Path(str(logger.log_dir or logger.save_dir))
    return Path(trainer.default_root_dir)
