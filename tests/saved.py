"""Checkpoints of networks that nobody trained, and images as files: what predictions need."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tiny import ARCHITECTURE, RECIPE, Blobs, FlatMLP

from lightning_dws.checkpoints import CHECKPOINT_KEY
from lightning_dws.inrs import INRDatasetSpec
from lightning_dws.inrs.preparation.fitting_record import FittingRecord
from lightning_dws.inrs.signals import SignalDataset

CLASSES = ("left", "middle", "right")


def save_checkpoint(path: Path, signals: SignalDataset | None = None, **changes) -> Path:
    """Save a network as a trained one: what it says is arbitrary, but always the same."""
    spec = INRDatasetSpec(signals or Blobs(), **{"architecture": ARCHITECTURE, **changes})
    record = FittingRecord.of_store(path.parent / "data" / "blobs", spec.header, spec.signals)
    torch.manual_seed(0)
    network = FlatMLP(spec.architecture, 3)
    arguments = {"architecture": spec.architecture.to_dict(), "num_classes": 3}
    note = {
        "network": {"class_path": "tiny.FlatMLP", "init_args": arguments},
        "num_classes": 3,
        "classes": list(CLASSES),
        "task": {},
        "settings": None,
        "inrs": record.to_dict(),
    }
    state = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    content = {"state_dict": state, "pytorch-lightning_version": "2", CHECKPOINT_KEY: note}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path)
    return path


def rewrite_note(path: Path, **changes) -> None:
    """Change what a checkpoint says of itself."""
    content = torch.load(path, weights_only=True)
    content[CHECKPOINT_KEY] |= changes
    torch.save(content, path)


def save_network(path: Path) -> Path:
    """Save one whose INRs are fitted in a moment."""
    return save_checkpoint(path, recipe=RECIPE)


def blob_images(count: int = 6) -> np.ndarray:
    """Give images (count, 5, 6) of uint8."""
    return (Blobs().load_images()[0][:count, ..., 0].clamp(0, 1) * 255).round().byte().numpy()


def write_images(folder: Path, count: int = 6) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"image_{number}.png" for number in range(count)]
    for path, image in zip(paths, blob_images(count), strict=True):
        Image.fromarray(image).save(path)
    return paths
