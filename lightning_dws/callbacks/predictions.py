"""Write predictions to a file."""

import csv
import io
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_info
from torch import Tensor

from lightning_dws.callbacks.folder import run_folder
from lightning_dws.files import write_atomically
from lightning_dws.weight_space import WeightBatch


class PredictionFile(pl.Callback):
    """Write ``predictions.csv``: object_id, view, label, prediction, one probability per class.

    Args:
        path: The file. Default: ``predictions.csv`` in the run's folder.
    """

    def __init__(self, path: str | None = None) -> None:
        self.path = path
        self._batches: list[dict[str, Tensor]] = []

    def on_predict_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: WeightBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._batches.append({name: column.cpu() for name, column in outputs.items()})

    def on_predict_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        columns = ("object_id", "view", "label", "prediction", "probabilities")
        parts = [self._batches]
        if trainer.world_size > 1:
            parts = [[] for _ in range(trainer.world_size)]
            torch.distributed.all_gather_object(parts, self._batches)
        self._batches = []
        if not trainer.is_global_zero:
            return
        batches = [batch for part in parts for batch in part]
        ids, views, labels, predicted, probabilities = (
            torch.cat([batch[name] for batch in batches]) for name in columns
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
        path = Path(self.path) if self.path else run_folder(trainer) / "predictions.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text.getvalue().encode())
        rank_zero_info(f"predictions     {path}")
