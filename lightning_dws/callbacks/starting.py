"""How a run's loggers start: what was logged before is kept, and a missing server is one error."""

import csv
import os
import warnings
from collections.abc import Iterable
from pathlib import Path

from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger

from lightning_dws.callbacks.leaving_out import guard_logger
from lightning_dws.errors import DataError
from lightning_dws.runs import is_first_process

_ROWS, _EARLIER = "metrics.csv", "earlier_metrics.csv"


def start_loggers(loggers: Iterable[Logger]) -> None:
    """Start the loggers of a command, before any INR is fitted.

    Lightning would start them later, and a CSVLogger would then remove what its run has logged
    before. TensorBoard, which needs nothing and keeps everything, is left to Lightning. What fails
    later is told once and ends no run.

    Raises:
        DataError: A logger cannot start, as where its server asks for a key.
    """
    for logger in loggers:
        guard_logger(logger)
        if not is_first_process():
            continue
        if isinstance(logger, CSVLogger):
            _go_on_with_rows(logger)
        elif not isinstance(logger, TensorBoardLogger):
            try:
                getattr(logger, "experiment", None)
            except Exception as error:  # whatever a client of a server raises
                reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
                raise DataError(
                    f"trainer.logger: {type(logger).__name__} cannot start ({reason}); "
                    "CSVLogger, or false, needs no server"
                ) from error


def _go_on_with_rows(logger: CSVLogger) -> None:
    """Start a logger behind the rows of its file; at no moment are they on the disk nowhere."""
    path = Path(logger.log_dir, _ROWS)
    kept = path.with_name(_EARLIER)
    if path.is_file():
        os.replace(path, kept)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that the file will be removed
        writer = logger.experiment
    if kept.is_file():
        os.replace(kept, path)
        with open(path, newline="") as file:
            writer.metrics_keys = next(csv.reader(file), [])
