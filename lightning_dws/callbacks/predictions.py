"""Write predictions to a file."""

import csv
import io
from collections.abc import Mapping, Sequence
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
    """Write ``predictions.csv``: what the task's ``predict_step`` gives, a row an INR.

    Of a classification that is object_id, view, label, prediction, and one probability per class.
    What has several columns gets their names from the task's ``column_names``.

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
        parts = [self._batches]
        if trainer.world_size > 1:
            parts = [[] for _ in range(trainer.world_size)]
            torch.distributed.all_gather_object(parts, self._batches)
        self._batches = []
        if not trainer.is_global_zero:
            return
        batches = [batch for part in parts for batch in part]
        columns = {name: torch.cat([b[name] for b in batches]) for name in batches[0]}
        known: Mapping[str, Sequence[str]] = getattr(pl_module, "column_names", {})
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(
            [n for name, values in columns.items() for n in _names(name, values, known)]
        )
        for row in columns["object_id"].argsort(stable=True).tolist():
            own = ((n, values[row].reshape(-1).tolist()) for n, values in columns.items())
            writer.writerow([_text(name, value) for name, values in own for value in values])
        path = Path(self.path) if self.path else run_folder(trainer) / "predictions.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        content = text.getvalue().encode()
        were_others = path.is_file() and path.read_bytes() != content
        write_atomically(path, content)
        told = ", in the place of others that were there" if were_others else ""
        rank_zero_info(f"predictions     {path}{told}")


def _names(name: str, values: Tensor, known: Mapping[str, Sequence[str]]) -> Sequence[str]:
    if values.ndim == 1:
        return [name]
    return known.get(name) or [f"{name} {number}" for number in range(values.shape[1])]


def _text(name: str, value: float) -> str:
    """Write whole numbers as they are, probabilities with six decimals, others with six digits."""
    if isinstance(value, int):
        return str(value)
    return f"{value:.6f}" if name == "probabilities" else f"{value:.6g}"
