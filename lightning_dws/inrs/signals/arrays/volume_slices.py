"""Volumes as images: what is in their middle, and their maximum."""

import torch
from torch import Tensor

TITLE = "above: slices across z and x; below: across y, and the maximum along z"


def draw_slices(volumes: Tensor) -> Tensor:
    """Draw volumes (B, depth, height, width, channels) as square images (B, side, side, channels).

    Above the slices in the middle across z (rows are y, columns x) and across x (y, z), below the
    one across y (z, x) and the maximum along z (y, x); white around what is smaller.
    """
    depth, height, width = volumes.shape[1:4]
    size, gap = max(depth, height, width), max(1, max(depth, height, width) // 16)
    tiles = (
        volumes[:, depth // 2],
        volumes[:, :, :, width // 2].transpose(1, 2),
        volumes[:, :, height // 2],
        volumes.amax(dim=1),
    )
    side = 2 * size + gap
    images = volumes.new_ones(len(volumes), side, side, volumes.shape[-1])
    for number, tile in enumerate(tiles):
        rows, columns = tile.shape[1:3]
        top = number // 2 * (size + gap) + (size - rows) // 2
        left = number % 2 * (size + gap) + (size - columns) // 2
        images[:, top : top + rows, left : left + columns] = tile
    return images


def drawable_size(grid_shape: tuple[int, ...], most: int = 64) -> tuple[int, int, int]:
    """Give a grid of the same proportions that is not too fine to evaluate many volumes on."""
    share = min(1.0, most / max(grid_shape))
    depth, height, width = (max(1, round(share * size)) for size in grid_shape)
    return depth, height, width


def as_volumes(values: Tensor, size: tuple[int, ...]) -> Tensor:
    """Give values (B, N, channels) at a grid's points as volumes (B, *size, channels) in [0, 1]."""
    volumes: Tensor = torch.unflatten(values, 1, size)
    return volumes.float().clamp(0, 1)
