"""Many small images with titles as one image, which is drawn much faster than each on axes."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lightning_dws.figures import draw_image, visible_channels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = 8
_TILE_INCHES, _GAP_INCHES = 1.15, 0.1
_TITLE_INCHES, _TITLE_PAD_INCHES = 0.33, 0.03  # two lines of text, and below them


def draw_tiles(images: Tensor, titles: Sequence[str], colours: Sequence[str]) -> "Figure":
    """Draw images (B, height, width, channels) in rows of eight, each below its title.

    Args:
        images: In [0, 1].
        titles: Of each, of up to two lines.
        colours: Of the titles.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    visible = visible_channels(images)
    count, height, width, channels = visible.shape
    columns = min(COLUMNS, count)
    rows = -(-count // columns)
    inches = _TILE_INCHES / width  # of a pixel
    gap, room = (math.ceil(size / inches) for size in (_GAP_INCHES, _TITLE_INCHES))
    tiles = visible.new_ones(rows * columns, room + height + gap, gap + width, channels)
    tiles[:count, room : room + height, gap:] = visible
    grid = tiles.unflatten(0, (rows, columns)).transpose(1, 2).flatten(0, 1).flatten(1, 2)
    grid = torch.nn.functional.pad(grid, (0, 0, 0, gap), value=1.0)
    figure = Figure(figsize=(grid.shape[1] * inches, grid.shape[0] * inches))
    FigureCanvasAgg(figure)
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set_axis_off()
    draw_image(axis, grid)
    for number, (title, colour) in enumerate(zip(titles, colours, strict=True)):
        row, column = divmod(number, columns)
        x = column * (gap + width) + gap + width / 2 - 0.5
        y = row * tiles.shape[1] + room - 0.5 - _TITLE_PAD_INCHES / inches
        axis.text(x, y, title, fontsize=8, color=colour, ha="center", va="bottom")
    return figure
