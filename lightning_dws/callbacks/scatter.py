"""A picture of numbers that were predicted, beside the true ones."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from lightning_dws.callbacks.evaluation_pictures import EvaluationPictures
from lightning_dws.callbacks.leaving_out import left_out_if_it_fails
from lightning_dws.callbacks.pictures import publish
from lightning_dws.figures import new_figure
from lightning_dws.weight_space import WeightBatch

if TYPE_CHECKING:
    from matplotlib.figure import Figure


_INCHES = 3.8  # of each name's axes


class ScatterPlot(EvaluationPictures):
    """Draw what a regression predicts over what is true, a point an INR.

    They go to TensorBoard and, as PNG, into ``pictures/`` of the run's folder: for validation
    every ``every_n_epochs`` and at the end of training, and for test.

    Args:
        every_n_epochs: How often validation is drawn.
        num_inrs: At most so many, the first of the split, or of the first device's share of it.
    """

    def __init__(self, every_n_epochs: int = 10, num_inrs: int = 2000) -> None:
        super().__init__(every_n_epochs)
        if num_inrs < 1:
            raise ValueError(f"num_inrs must be at least 1, got {num_inrs}")
        self.num_inrs = num_inrs
        self._points: list[tuple[Tensor, Tensor]] = []  # true and predicted, (B, K) each
        self._targets: Sequence[str] = ()

    def _begin(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._points, self._targets = [], pl_module.targets  # type: ignore[assignment]

    def _collect(self, outputs: Any, batch: WeightBatch) -> None:
        room = self.num_inrs - sum(len(true) for true, _ in self._points)
        if room > 0 and batch.target is not None:
            self._points.append((batch.target[:room], outputs["prediction"][:room]))

    def _draw(self, trainer: pl.Trainer, split: str) -> None:
        if trainer.is_global_zero and self._points:
            true, predicted = (torch.cat(parts) for parts in zip(*self._points, strict=True))
            tag = f"{split}/predictions"
            with left_out_if_it_fails(f"the picture {tag}", self._told):
                publish(trainer, tag, draw_scatter(true.cpu(), predicted.cpu(), self._targets))


def draw_scatter(true: Tensor, predicted: Tensor, names: Sequence[str]) -> "Figure":
    """Draw predicted over true values (N, K), on axes of their own for each of K names."""
    from matplotlib.ticker import MaxNLocator

    figure, axes = new_figure(1, len(names))
    figure.set_size_inches(_INCHES * len(names), _INCHES)
    for axis, name, x, y in zip(axes[0], names, true.T, predicted.float().T, strict=True):
        low, high = (float(bound) for bound in torch.cat([x, y]).aminmax())
        margin = 0.04 * (high - low) or 1.0
        bounds = (low - margin, high + margin)
        axis.plot(bounds, bounds, color="0.6", linewidth=0.8)
        axis.scatter(x.numpy(), y.numpy(), s=8, alpha=0.5, linewidths=0)
        axis.set(xlim=bounds, ylim=bounds, xlabel=f"true {name}", ylabel=f"predicted {name}")
        axis.set_aspect("equal")
        ticks = [t for t in MaxNLocator(5).tick_values(*bounds) if bounds[0] <= t <= bounds[1]]
        axis.set_xticks(ticks)
        axis.set_yticks(ticks)
        for spine in axis.spines.values():
            spine.set_visible(True)
    return figure
