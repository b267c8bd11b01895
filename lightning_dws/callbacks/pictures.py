"""Pictures of how a network does: the confusion matrix, and INRs with their predictions."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import MLFlowLogger, TensorBoardLogger
from pytorch_lightning.utilities import rank_zero_info
from torch import Tensor
from torchmetrics.classification import MulticlassConfusionMatrix

from lightning_dws.callbacks.evaluation_pictures import EvaluationPictures
from lightning_dws.callbacks.folder import run_folder
from lightning_dws.callbacks.leaving_out import left_out_if_it_fails
from lightning_dws.callbacks.tiles import COLUMNS, draw_tiles
from lightning_dws.figures import draw_image, new_figure
from lightning_dws.inrs.pictures import fine_grid, render_images
from lightning_dws.inrs.sounds.base import encodes_sound
from lightning_dws.inrs.sounds.spectrogram import spectrogram
from lightning_dws.weight_space import Architecture, INRArchitecture, WeightBatch

if TYPE_CHECKING:
    from matplotlib.figure import Figure


_DOTS_PER_INCH = 110
_NO_INRS = "pictures        none of signals, which INRs alone encode: these are"

Pixels = npt.NDArray[np.uint8]


class Pictures(EvaluationPictures):
    """Draw a confusion matrix and a grid of INRs with predicted and true classes.

    They go to TensorBoard and, as PNG, into ``pictures/`` of the run's folder: for validation
    every ``every_n_epochs`` and at the end of training, and for test. At the same epochs, the
    first training batch is drawn as the network saw it, augmented and mixed.

    Args:
        every_n_epochs: How often validation is drawn.
        num_inrs: INRs in the grid: the first of the split, or of the first device's share of it.
    """

    def __init__(self, every_n_epochs: int = 10, num_inrs: int = 32) -> None:
        super().__init__(every_n_epochs)
        if num_inrs < 1:
            raise ValueError(f"num_inrs must be at least 1, got {num_inrs}")
        self.num_inrs = num_inrs
        self._confusion: MulticlassConfusionMatrix | None = None
        self._shown: WeightBatch | None = None
        self._shown_predictions: Tensor | None = None

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: WeightBatch,
        batch_idx: int,
    ) -> None:
        drawn = batch_idx == 0 and trainer.current_epoch % self.every_n_epochs == 0
        if drawn and trainer.is_global_zero and self._are_drawn(batch.architecture):
            data = trainer.datamodule  # type: ignore[attr-defined]
            shown = batch[: self.num_inrs]
            with left_out_if_it_fails("the picture train/inrs", self._told):
                images, names = _render(data, shown), name_targets(shown, data.classes)
                publish(trainer, "train/inrs", draw_titled(images, names))
                if encodes_sound(data.store.header.measures):
                    publish(trainer, "train/spectrograms", draw_titled(spectrogram(images), names))

    def _begin(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        num_classes = trainer.datamodule.num_classes  # type: ignore[attr-defined]
        self._confusion = MulticlassConfusionMatrix(num_classes).to(pl_module.device)
        self._shown = self._shown_predictions = None

    def _collect(self, outputs: Any, batch: WeightBatch) -> None:
        assert self._confusion is not None
        predictions = outputs["logits"].argmax(dim=1)
        self._confusion.update(predictions, batch.label)
        if self._shown is None:
            self._shown = batch[: self.num_inrs]
            self._shown_predictions = predictions[: self.num_inrs]

    def _draw(self, trainer: pl.Trainer, split: str) -> None:
        assert self._confusion is not None
        counts = self._confusion.compute().cpu()  # on every rank: it adds up theirs
        if not trainer.is_global_zero or self._shown is None or self._shown_predictions is None:
            return
        data = trainer.datamodule  # type: ignore[attr-defined]
        with left_out_if_it_fails(f"the picture {split}/confusion_matrix", self._told):
            publish(trainer, f"{split}/confusion_matrix", draw_confusion(counts, data.classes))
        if self._are_drawn(self._shown.architecture):
            predictions, label = self._shown_predictions.cpu(), self._shown.label.cpu()
            with left_out_if_it_fails(f"the picture {split}/inrs", self._told):
                images = _render(data, self._shown)
                grid = draw_predictions(images, label, predictions, data.classes)
                publish(trainer, f"{split}/inrs", grid)
                if encodes_sound(data.store.header.measures):
                    heard = spectrogram(images)
                    grid = draw_predictions(heard, label, predictions, data.classes)
                    publish(trainer, f"{split}/spectrograms", grid)

    def _are_drawn(self, architecture: Architecture) -> bool:
        """Whether such networks encode something that can be drawn; what are no INRs is told."""
        if isinstance(architecture, INRArchitecture):
            return architecture.in_features in (1, 2, 3)
        if _NO_INRS not in self._told:
            self._told.add(_NO_INRS)
            rank_zero_info(f"{_NO_INRS} {architecture.summary}")
        return False


def _render(data: Any, inrs: WeightBatch) -> Tensor:
    """Render INRs of a datamodule as the lines, images or shapes that they encode."""
    return render_images(inrs, fine_grid(data.grid_shape), data.store.header.convention)


def draw_confusion(counts: Tensor, classes: tuple[str, ...]) -> "Figure":
    """Draw how often class i (row) was taken for class j (column): counts (K, K)."""
    figure, axes = new_figure(1, 1, cell=max(3.0, 0.45 * len(classes) + 1.5))
    axis = axes[0][0]
    shares = counts / counts.sum(dim=1, keepdim=True).clamp_min(1)
    axis.imshow(shares.numpy(), cmap="Blues", vmin=0, vmax=1)
    axis.set_xticks(range(len(classes)), classes, rotation=90, fontsize=8)
    axis.set_yticks(range(len(classes)), classes, fontsize=8)
    axis.set_xlabel("predicted")
    axis.set_ylabel("true")
    for row, column in torch.nonzero(counts).tolist() if len(classes) <= 20 else ():
        dark = shares[row, column] > 0.5
        text = str(int(counts[row, column]))
        axis.text(
            column, row, text, ha="center", va="center", fontsize=7, color="w" if dark else "k"
        )
    return figure


def draw_predictions(
    images: Tensor, label: Tensor, predictions: Tensor, classes: tuple[str, ...]
) -> "Figure":
    """Draw images (B, height, width, channels), titled by their classes, red where wrong."""
    titles, colours = [], []
    for true, predicted in zip(label.tolist(), predictions.tolist(), strict=True):
        right = true == predicted
        titles.append(classes[predicted] if right else f"{classes[predicted]}\nis {classes[true]}")
        colours.append("black" if right else "red")
    return draw_titled(images, titles, colours)


def name_targets(batch: WeightBatch, classes: tuple[str, ...]) -> list[str]:
    """Name each INR's class, or the two largest shares of a soft target."""
    if batch.target is None:
        return [classes[label] for label in batch.label.tolist()]
    shares, labels = batch.target.float().topk(min(2, len(classes)))
    return [
        "\n".join(f"{s:.2f} {classes[k]}" for s, k in zip(own, which, strict=True) if s > 0)
        for own, which in zip(shares.tolist(), labels.tolist(), strict=True)
    ]


def draw_titled(
    images: Tensor, titles: Sequence[str], colours: Sequence[str] | None = None
) -> "Figure":
    """Draw images (B, height, width, channels) in rows of eight, each with its title.

    Lines (B, points, out) are drawn as well, on axes of their own.
    """
    colours = colours or ["black"] * len(titles)
    if images.ndim == 4:
        return draw_tiles(images, titles, colours)
    rows = -(-len(images) // COLUMNS)
    figure, axes = new_figure(rows, min(COLUMNS, len(images)), 1.3)
    for axis, image, title, colour in zip(axes.flat, images, titles, colours, strict=False):
        draw_image(axis, image)
        axis.set_title(title, fontsize=8, color=colour)
    for axis in axes.flat[len(images) :]:
        axis.remove()
    return figure


def publish(trainer: pl.Trainer, tag: str, figure: "Figure") -> None:
    """Send a figure, drawn once, to loggers that show images and into the run's ``pictures/``."""
    pixels = draw_pixels(figure)
    for logger in trainer.loggers:
        _send(pixels, tag, logger, trainer.global_step)
    save_pixels(pixels, run_folder(trainer) / "pictures" / f"{tag.replace('/', '_')}.png")


def _send(pixels: Pixels, tag: str, logger: Any, step: int) -> None:
    if isinstance(logger, TensorBoardLogger):
        logger.experiment.add_image(tag, pixels, step, dataformats="HWC")
    elif isinstance(logger, MLFlowLogger):
        logger.experiment.log_image(logger.run_id, pixels, key=tag, step=step)
    elif hasattr(logger, "log_image"):  # W&B's counts its own steps, and drops what is before them
        logger.log_image(tag, [pixels])


def draw_pixels(figure: "Figure") -> Pixels:
    """Draw a figure as an image (height, width, 3)."""
    figure.set_dpi(_DOTS_PER_INCH)
    canvas: Any = figure.canvas
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def save_pixels(pixels: Pixels, path: Path) -> None:
    """Save an image (height, width, 3) as PNG, making its folder."""
    from matplotlib.image import imsave

    path.parent.mkdir(parents=True, exist_ok=True)
    imsave(path, np.ascontiguousarray(pixels), dpi=_DOTS_PER_INCH)
