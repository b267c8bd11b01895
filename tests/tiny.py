"""A dataset small enough to fit in every test, and a network to train on it."""

import os
import signal

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from lightning_dws import INRArchitecture, WeightBatch
from lightning_dws.augmentations import Augmentation
from lightning_dws.errors import DataError
from lightning_dws.inrs import ImageSignals, INRDatasetSpec, Recipe
from lightning_dws.inrs.signals import SplitOrder
from lightning_dws.inrs.signals.splits import stratified_order

ARCHITECTURE = INRArchitecture((2, 6, 5, 1), w0=8.0)
EVERYTHING = {"train": None, "val": None, "test": None}
RECIPE = Recipe(steps=20, learning_rate=5e-3)


class Blobs(ImageSignals):
    """36 images of 5x6 pixels in 3 classes: where the blob is."""

    name = "blobs"
    classes = ("left", "middle", "right")
    grid_shape = (5, 6)

    def load_images(self) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(0)
        label = torch.arange(36) % 3
        images = torch.rand(36, 5, 6, 1, generator=generator) * 0.2
        for image, position in zip(images, label.tolist(), strict=True):
            image[1:4, 2 * position : 2 * position + 2] += 0.8
        return images, label

    def split(self, name: str) -> SplitOrder:
        order = stratified_order(self.label, 0)
        part = {"train": slice(0, 24), "val": slice(24, 30), "test": slice(30, 36)}[name]
        return SplitOrder(order[part], self.label[order[part]])


class FlatMLP(nn.Module):
    """The smallest network that takes a WeightBatch; with dropout, to test what it draws."""

    def __init__(
        self,
        architecture: INRArchitecture,
        num_classes: int,
        hidden_dim: int = 8,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.first = nn.Linear(architecture.num_parameters, hidden_dim)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(hidden_dim, num_classes)

    def embed(self, batch: WeightBatch) -> Tensor:
        return self.dropout(torch.relu(self.first(batch.parameters)))

    def forward(self, batch: WeightBatch) -> Tensor:
        return self.head(self.embed(batch))


class AddNoise(Augmentation):
    """An augmentation from outside the package."""

    def __init__(self, scale: float = 0.1, p: float = 1.0) -> None:
        super().__init__(p)
        self.scale = scale

    def draw(self, batch: WeightBatch, generator: torch.Generator) -> dict[str, Tensor]:
        shape = batch.parameters.shape
        return {"noise": torch.randn(shape, generator=generator, device=batch.device)}

    def transform(self, batch: WeightBatch, params: dict[str, Tensor]) -> WeightBatch:
        return batch.replace(parameters=batch.parameters + self.scale * params["noise"])


class Failing(pl.Callback):
    """Fails in the second batch of one rank: by bad data, or killed."""

    def __init__(self, rank: int, how: str) -> None:
        self.rank, self.how = rank, how

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if trainer.global_rank == self.rank and batch_idx == 1:
            if self.how == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            raise DataError("bad data")


def tiny_spec(**changes) -> INRDatasetSpec:
    return INRDatasetSpec(
        **{"signals": Blobs(), "architecture": ARCHITECTURE, "recipe": RECIPE, **changes}
    )


def random_batch(architecture: INRArchitecture = ARCHITECTURE, size: int = 4) -> WeightBatch:
    generator = torch.Generator().manual_seed(0)
    return WeightBatch.from_parameters(
        architecture, torch.randn(size, architecture.num_parameters, generator=generator)
    )


class ManyOutputs(Blobs):
    """The same images with four outputs, which are no colours."""

    name = "many-outputs"

    def load_images(self) -> tuple[Tensor, Tensor]:
        images, label = super().load_images()
        return images * torch.tensor([1.0, 0.5, 0.2, 0.1]), label
