"""What editing comes to: pictures of edited INRs, and the INRs themselves."""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_info
from torch import Tensor

from lightning_dws.callbacks.evaluation_pictures import EvaluationPictures
from lightning_dws.callbacks.folder import run_folder
from lightning_dws.callbacks.leaving_out import left_out_if_it_fails
from lightning_dws.callbacks.pictures import publish
from lightning_dws.callbacks.tiles import COLUMNS, draw_tiles
from lightning_dws.inrs.store import INRStore
from lightning_dws.weight_space import WeightBatch, cat

_ROWS = ("before", "after", "target")


class EditPictures(EvaluationPictures):
    """Draw INRs before and after they are edited, and what they are edited to, a row each.

    They go to TensorBoard and, as PNG, into ``pictures/`` of the run's folder: for validation
    every ``every_n_epochs`` and at the end of training, and for test.

    Args:
        every_n_epochs: How often validation is drawn.
        num_inrs: At most so many, the first of the split, or of the first device's share of it.
    """

    def __init__(self, every_n_epochs: int = 10, num_inrs: int = 16) -> None:
        super().__init__(every_n_epochs)
        if num_inrs < 1:
            raise ValueError(f"num_inrs must be at least 1, got {num_inrs}")
        self.num_inrs = num_inrs
        self._shown: dict[str, Tensor] | None = None

    def _begin(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._shown = None

    def _collect(self, outputs: Any, batch: WeightBatch) -> None:
        if self._shown is None:
            self._shown = {name: outputs[name][: self.num_inrs] for name in _ROWS}

    def _draw(self, trainer: pl.Trainer, split: str) -> None:
        if not trainer.is_global_zero or self._shown is None:
            return
        convention = trainer.datamodule.store.header.convention  # type: ignore[attr-defined]
        shown = {
            name: convention.to_visible(images.float().clamp(0, 1).cpu())
            for name, images in self._shown.items()
        }
        blocks, names = [], []  # of a row of each kind
        for start in range(0, len(shown["target"]), COLUMNS):
            for name, images in shown.items():
                row = images[start : start + COLUMNS]
                blank = row.new_ones(COLUMNS - len(row), *row.shape[1:])
                blocks += [row] if start == 0 else [row, blank]
                names += [name] * len(row) + ([] if start == 0 else [""] * len(blank))
        with left_out_if_it_fails(f"the picture {split}/edited", self._told):
            images = torch.cat(blocks)
            publish(trainer, f"{split}/edited", draw_tiles(images, names, ["black"] * len(names)))


class EditedStore(pl.Callback):
    """Write the edited INRs of the test split as a store of their own, in ``predict``.

    Args:
        path: The store's folder. Default: ``edited`` in the run's folder.
    """

    def __init__(self, path: str | None = None) -> None:
        self.path = path
        self._batches: list[WeightBatch] = []

    def on_predict_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: WeightBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        edited = batch.replace(parameters=outputs["parameters"], target=None)
        self._batches.append(edited.to("cpu"))

    def on_predict_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        parts = [self._batches]
        if trainer.world_size > 1:
            parts = [[] for _ in range(trainer.world_size)]
            torch.distributed.all_gather_object(parts, self._batches)
        self._batches = []
        data = trainer.datamodule  # type: ignore[attr-defined]
        folder = Path(self.path) if self.path else run_folder(trainer) / "edited"
        if trainer.is_global_zero:
            inrs = cat([batch for part in parts for batch in part])
            convention = data.store.header.convention
            INRStore.write(
                folder,
                {"test": inrs},
                data.classes,
                grid_shape=data.grid_shape,
                convention=convention,
            )
            rank_zero_info(f"edited INRs     {folder}")
