"""TensorBoard's embedding projector over the pooled features of INRs."""

from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor

from lightning_dws.callbacks.leaving_out import left_out_if_it_fails
from lightning_dws.inrs.pictures import fine_grid, render_images
from lightning_dws.inrs.store.convention import ImageConvention
from lightning_dws.weight_space import WeightBatch

_WHAT = "TensorBoard's embedding projector"


class EmbeddingProjector(pl.Callback):
    """Put the features of tested INRs, with their classes and images, into the projector.

    Works for every network with ``embed(batch) -> (B, F)``; others are left alone.

    Args:
        num_inrs: At most so many, the first of the test split; on several devices, of the share of
            it that the first of them tests.
    """

    def __init__(self, num_inrs: int = 1000) -> None:
        if num_inrs < 1:
            raise ValueError(f"num_inrs must be at least 1, got {num_inrs}")
        self.num_inrs = num_inrs
        self._features: list[Tensor] = []
        self._inrs: list[WeightBatch] = []
        self._told: set[str] = set()

    def on_test_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: WeightBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        network: Any = pl_module.network
        room = self.num_inrs - sum(map(len, self._inrs))
        if trainer.is_global_zero and room > 0 and hasattr(network, "embed"):
            chosen = batch[:room]
            with left_out_if_it_fails(_WHAT, self._told), torch.no_grad():
                self._features.append(network.embed(chosen).float().cpu())
                self._inrs.append(chosen)

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        with left_out_if_it_fails(_WHAT, self._told):
            self._publish(trainer)
        self._features, self._inrs = [], []

    def _publish(self, trainer: pl.Trainer) -> None:
        data = trainer.datamodule  # type: ignore[attr-defined]
        if self._inrs:
            labels = [int(label) for part in self._inrs for label in part.label]
            names = [data.classes[label] for label in labels] if data.classes else None
            for logger in trainer.loggers:
                if isinstance(logger, TensorBoardLogger):
                    logger.experiment.add_embedding(
                        torch.cat(self._features),
                        metadata=names,
                        label_img=self._thumbnails(data.grid_shape, data.store.header.convention),
                        global_step=trainer.global_step,
                        tag="features",
                    )

    def _thumbnails(
        self, grid_shape: tuple[int, ...], convention: ImageConvention
    ) -> Tensor | None:
        """Render (B, channels, height, width) images of 2-D INRs; TensorBoard wants squares."""
        if len(grid_shape) != 2 or grid_shape[0] != grid_shape[1]:
            return None
        parts = [render_images(part, fine_grid(grid_shape), convention) for part in self._inrs]
        images = torch.cat(parts).permute(0, 3, 1, 2)
        return images if images.shape[1] == 3 else images[:, :1]
