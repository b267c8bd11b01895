"""Pictures of INRs. Matplotlib is imported when something is drawn, never before."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lightning_dws.inrs.convention import DEFAULT, ImageConvention
from lightning_dws.inrs.shape_pictures import render_shapes
from lightning_dws.inrs.signals import SignalDataset, line_coordinates
from lightning_dws.inrs.siren import evaluate_inrs
from lightning_dws.inrs.store import INRStore
from lightning_dws.weight_space import WeightBatch

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MIN_PIXELS = 28  # smaller grids are drawn finer: an INR has no pixels of its own
_LINE_POINTS = (256, 2**14)  # at least and at most so many points of a line are drawn


def render_images(
    batch: WeightBatch, grid_shape: tuple[int, ...], convention: ImageConvention = DEFAULT
) -> Tensor:
    """Render INRs as what they encode, on the CPU.

    Returns:
        (B, height, width, out) images in [0, 1], of 3-D INRs of the shapes; of 1-D INRs lines,
        (B, points, out), whose values are as they are.
    """
    if len(grid_shape) == 3:
        return render_shapes(batch, max(grid_shape))
    if len(grid_shape) == 1:
        with torch.no_grad():
            lines = evaluate_inrs(batch, line_coordinates(*grid_shape).to(batch.parameters))
        return lines.float().cpu()
    height, width = grid_shape
    with torch.no_grad():
        coordinates = convention.coordinates(height, width).to(batch.parameters)
        values = evaluate_inrs(batch, coordinates)
    images: Tensor = values.unflatten(1, grid_shape)
    return convention.to_unit_range(images.float()).cpu()


def format_psnr(psnr: float, digits: int = 1) -> str:
    """Write a PSNR in dB, ``-`` where it is not known (imported INRs).

    Example:
        >>> format_psnr(21.46), format_psnr(float("nan"))
        ('21.5', '-')
    """
    return "-" if math.isnan(psnr) else f"{psnr:.{digits}f}"


def fine_grid(grid_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Give a grid of the same proportions that is fine enough to look at; lines not too fine."""
    if len(grid_shape) == 1:
        fewest, most = _LINE_POINTS
        return (min(max(grid_shape[0], fewest), most),)
    factor = max(1, -(-_MIN_PIXELS // min(grid_shape)))
    return tuple(size * factor for size in grid_shape)


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
    """Give what can be shown of images (..., channels): three are RGB, of others the first, grey.

    Which colours two or four outputs stand for nobody knows: the first is at least what it is.
    """
    return images if images.shape[-1] == 3 else images[..., :1]


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


def name_class(classes: Sequence[str], label: int) -> str:
    """Give a class's name for a title; nothing where there are no classes."""
    return classes[label] if classes else ""


def draw_reconstructions(
    store: INRStore, originals: SignalDataset | None, split: str, count: int
) -> "Figure":
    """Draw objects above the INRs that encode them, one class after another.

    Args:
        store: Of 1-D or 2-D INRs.
        originals: Where the objects come from; None draws the INRs alone.
        split: Of the store.
        count: Number of objects.
    """
    inrs = store.split(split, views=1)
    psnr = store.psnr(split)[: len(inrs)]
    first = torch.sort(inrs.label, stable=True).indices
    chosen = first[torch.linspace(0, len(inrs) - 1, min(count, len(inrs))).round().long()]
    shown = inrs[chosen]
    grid_shape = fine_grid(store.header.grid_shape)
    rows = [render_images(shown, grid_shape, store.header.convention)]
    names = ["INR"]
    if originals is not None:
        pixels = originals.values(shown.object_id)
        rows.insert(0, pixels.unflatten(1, store.header.grid_shape).float())
        names.insert(0, "original")
    figure, axes = new_figure(len(rows), len(chosen), 1.2)
    for row, (images, name) in enumerate(zip(rows, names, strict=True)):
        axes[row][0].set_ylabel(name)
        for axis, image in zip(axes[row], images, strict=True):
            draw_image(axis, image)
    for column in range(len(chosen)):
        share_heights(axes[:, column])
    for axis, label, value in zip(axes[0], shown.label, psnr[chosen], strict=True):
        name = name_class(store.classes, int(label))
        axis.set_title(f"{name}\n{format_psnr(float(value))} dB".strip(), fontsize=8)
    return figure


def save_figure(figure: "Figure", path: Path) -> None:
    """Save a figure as PNG, making its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
