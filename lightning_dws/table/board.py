"""The finished cells for TensorBoard: its HParams tab lists them, with their curves."""

import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from torch.utils.tensorboard.summary import hparams
from torch.utils.tensorboard.writer import SummaryWriter

from lightning_dws.table.cells import Record
from lightning_dws.table.grid import Coordinates


def write_board(finished: Mapping[Coordinates, Record], folder: Path) -> None:
    """Write one session for every finished cell; what was there before is replaced.

    Args:
        finished: The cells' records.
        folder: For ``tensorboard --logdir``.
    """
    shutil.rmtree(folder, ignore_errors=True)
    for place, record in finished.items():
        best = {f"best_{name}": value for name, value in record["best"].items() if name != "step"}
        found = {**{f"test_{name}": value for name, value in record["test"].items()}, **best}
        metrics = {f"hp/{name}": value for name, value in found.items() if value is not None}
        session = folder / str(place).replace(" | ", ", ").replace("/", "-")
        with SummaryWriter(str(session)) as writer:
            for summary in hparams({**asdict(place), "steps": record["steps"]}, metrics):
                writer._get_file_writer().add_summary(summary)
            for name, value in metrics.items():
                writer.add_scalar(name, value)
            _write_curves(writer, record)


def _write_curves(writer: SummaryWriter, record: Record) -> None:
    curves = dict(record["history"])
    steps = curves.pop("step")
    for name, curve in curves.items():
        for step, value in zip(steps, curve, strict=True):
            if value is not None:
                writer.add_scalar(name.replace("_", "/", 1), value, step)
