"""Figures: their axes, what is drawn on them, and their files.

Matplotlib is imported when something is drawn, never before.
"""

import math
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lightning_dws.errors import DataError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_CHART_COLOURS = 64  # with those between a line and the background


def new_figure(rows: int, columns: int, cell: float = 1.0) -> tuple["Figure", Any]:
    """Make a grid of axes without frames; no display and no pyplot state are involved.

    Returns:
        The figure, and its axes as an array (rows, columns).
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(cell * columns, cell * rows * 1.15 + 0.3), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.set_xticks([])
        axis.set_yticks([])
        for spine in axis.spines.values():
            spine.set_visible(False)
    return figure, axes


def visible_channels(images: Tensor) -> Tensor:
    """Give images (..., height, width, channels) as grey or RGB ones: three channels are RGB.

    Which colours others stand for nobody knows: each is a grey image, in rows, white between them.
    """
    height, width, channels = images.shape[-3:]
    if channels in (1, 3):
        return images
    columns = math.ceil(math.sqrt(channels))
    rows, gap = -(-channels // columns), max(1, max(height, width) // 16)
    shape = (rows * (height + gap) - gap, columns * (width + gap) - gap, 1)
    grid = images.new_ones(*images.shape[:-3], *shape)
    for number in range(channels):
        row, column = divmod(number, columns)
        top, left = row * (height + gap), column * (width + gap)
        grid[..., top : top + height, left : left + width, 0] = images[..., number]
    return grid


def draw_image(axis: "Axes", image: Tensor) -> None:
    """Draw an image (height, width, channels), grey or RGB, in [0, 1]; or a line (points, out)."""
    if image.ndim == 2:
        axis.plot(torch.linspace(-1, 1, len(image)).numpy(), image.numpy(), linewidth=0.6)
        return
    visible = visible_channels(image)
    pixels = (visible if visible.shape[-1] == 3 else visible[..., 0]).numpy()
    axis.imshow(pixels, cmap="gray", vmin=0, vmax=1)


def share_heights(axes: Iterable["Axes"]) -> None:
    """Let lines that are to be compared have one scale; images are left alone."""
    with_lines = [axis for axis in axes if axis.lines]
    limits = [axis.get_ylim() for axis in with_lines]
    for axis in with_lines:
        axis.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))


def save_figure(figure: "Figure", path: Path) -> None:
    """Save a figure as PNG, making its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def save_chart(figure: "Figure", path: Path) -> None:
    """Save a figure of lines and bars as PNG of few colours, a third of the size, for a repository.

    Args:
        figure: Without photographs or shades.
        path: Its folder is made.
    """
    from PIL import Image

    save_figure(figure, path)
    with Image.open(path) as image:
        chart = image.convert("RGB").quantize(_CHART_COLOURS)
    chart.save(path, optimize=True)


def write_figure(figure: "Figure", path: Path) -> None:
    """Save a figure that a command was asked for, and print its path.

    Raises:
        DataError: The file cannot be written.
    """
    try:
        save_figure(figure, path)
    except (OSError, ValueError) as error:  # matplotlib: ValueError for an unknown file type
        raise DataError(f"{path}: cannot be written ({error})") from error
    sys.stdout.write(f"{path}\n")
