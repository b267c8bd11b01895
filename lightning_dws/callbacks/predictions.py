"""Write predictions to a file."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import BasePredictionWriter

from lightning_dws.inrs.store import write_atomically


class PredictionFile(BasePredictionWriter):
    """Write ``predictions.csv``: object_id, view, label, prediction, one probability per class.

    Args:
        path: The file. Default: ``predictions.csv`` in the run's folder.
    """

    def __init__(self, path: str | None = None) -> None:
        super().__init__(write_interval="epoch")
        self.path = path

    def write_on_epoch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        predictions: Sequence[Any],
        batch_indices: Sequence[Any],
    ) -> None:
        columns = ("object_id", "view", "label", "prediction", "probabilities")
        table = [torch.cat([batch[name].cpu() for batch in predictions]) for name in columns]
        parts = [table]
        if trainer.world_size > 1:
            parts = [[] for _ in range(trainer.world_size)]
            torch.distributed.all_gather_object(parts, table)
        if not trainer.is_global_zero:
            return
        ids, views, labels, predicted, probabilities = (
            torch.cat(column) for column in zip(*parts, strict=True)
        )
        classes = trainer.datamodule.classes  # type: ignore[attr-defined]
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([*columns[:-1], *(f"probability {name}" for name in classes)])
        for row in ids.argsort(stable=True).tolist():
            shares = [f"{share:.6f}" for share in probabilities[row].tolist()]
            writer.writerow(
                [int(ids[row]), int(views[row]), int(labels[row]), int(predicted[row]), *shares]
            )
        path = Path(
            self.path or Path(trainer.log_dir or trainer.default_root_dir) / "predictions.csv"
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text.getvalue().encode())
