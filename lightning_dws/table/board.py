"""The finished cells for TensorBoard: its HParams tab lists them, with their curves."""

import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from torch.utils.tensorboard.summary import hparams
from torch.utils.tensorboard.writer import SummaryWriter

from lightning_dws.table.cells import Record
from lightning_dws.table.grid import Coordinates

_CURVES = {
    "train/loss": "train_loss",
    "train/accuracy": "train_accuracy",
    "val/loss": "val_loss",
    "val/accuracy": "val_accuracy",
}


def write_board(finished: Mapping[Coordinates, Record], folder: Path) -> None:
    """Write one session for every finished cell; what was there before is replaced.

    Args:
        finished: The cells' records.
        folder: For ``tensorboard --logdir``.
    """
    shutil.rmtree(folder, ignore_errors=True)
    for place, record in finished.items():
        metrics = {
            "hp/test_accuracy": record["test"]["accuracy"],
            "hp/test_loss": record["test"]["loss"],
            "hp/best_val_accuracy": record["best"]["val_accuracy"],
        }
        session = folder / str(place).replace(" | ", ", ").replace("/", "-")
        with SummaryWriter(str(session)) as writer:
            for summary in hparams({**asdict(place), "steps": record["steps"]}, metrics):
                writer._get_file_writer().add_summary(summary)
            for name, value in metrics.items():
                writer.add_scalar(name, value)
            _write_curves(writer, record)


def _write_curves(writer: SummaryWriter, record: Record) -> None:
    for tag, name in _CURVES.items():
        for step, value in zip(record["history"]["step"], record["history"][name], strict=True):
            if value is not None:
                writer.add_scalar(tag, value, step)
