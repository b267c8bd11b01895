"""Pictures of INRs. Matplotlib is imported when something is drawn, never before."""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lightning_dws.figures import draw_image, new_figure, share_heights
from lightning_dws.inrs.shapes import ShapeSignals
from lightning_dws.inrs.shapes.rendering import render_mesh, render_shapes
from lightning_dws.inrs.signals import SignalDataset
from lightning_dws.inrs.signals.arrays.volume_slices import (
    TITLE,
    as_volumes,
    draw_slices,
    drawable_size,
)
from lightning_dws.inrs.signals.base import grid_coordinates, line_coordinates
from lightning_dws.inrs.siren import evaluate_inr, evaluate_inrs
from lightning_dws.inrs.sounds import SoundSignals
from lightning_dws.inrs.sounds.base import SNR, encodes_sound
from lightning_dws.inrs.sounds.spectrogram import spectrogram
from lightning_dws.inrs.sounds.wav_files import write_wav
from lightning_dws.inrs.store import INRStore, StoreHeader
from lightning_dws.inrs.store.convention import DEFAULT, ImageConvention
from lightning_dws.weight_space import WeightBatch, require_inrs

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MIN_PIXELS = 28  # smaller grids are drawn finer: an INR has no pixels of its own
_LINE_POINTS = (256, 2**14)  # at least and at most so many points of a line are drawn


def render_images(
    batch: WeightBatch, grid_shape: tuple[int, ...], convention: ImageConvention = DEFAULT
) -> Tensor:
    """Render INRs as what they encode, on the CPU.

    Returns:
        (B, height, width, out) images in [0, 1], of 3-D INRs of the shapes, or of volumes their
        slices; of 1-D INRs lines, (B, points, out), whose values are as they are.
    """
    if convention.is_volume:
        return _render_volumes(batch, drawable_size(grid_shape))
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
    return convention.to_visible(convention.to_unit_range(images.float())).cpu()


def _render_volumes(batch: WeightBatch, size: tuple[int, int, int]) -> Tensor:
    points = grid_coordinates(size).to(batch.parameters)
    with torch.no_grad():
        pictures = [
            draw_slices(as_volumes(evaluate_inr(inr, points)[None].cpu(), size)) for inr in batch
        ]
    if pictures:
        return torch.cat(pictures)
    return draw_slices(torch.empty(0, *size, require_inrs(batch.architecture, "").out_features))


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


def name_class(classes: Sequence[str], label: int) -> str:
    """Give a class's name for a title; nothing where there are no classes."""
    return classes[label] if classes else ""


def draw_reconstructions(
    store: INRStore, originals: SignalDataset | None, split: str, count: int
) -> "Figure":
    """Draw objects above the INRs that encode them, one class after another.

    Of sounds also the spectrograms are drawn, and of volumes slices.

    Args:
        store: Of INRs of lines, images or volumes.
        originals: Where the objects come from; None draws the INRs alone.
        split: Of the store.
        count: Number of objects.
    """
    inrs = store.split(split, views=1)
    chosen = _choose(inrs, count)
    shown = inrs[chosen]
    grid_shape = fine_grid(store.header.grid_shape)
    rows = {"INR": render_images(shown, grid_shape, store.header.convention)}
    if originals is not None:
        values = originals.values(shown.object_id)
        rows = {"original": _draw_originals(values, store.header)} | rows
    if encodes_sound(store.header.measures):
        rows |= {f"{name},\nspectrogram": spectrogram(lines) for name, lines in rows.items()}
        known = [f"SNR {value:.1f} dB" for value in store.measure(SNR, split)[chosen].tolist()]
    else:
        known = _in_decibels(store.psnr(split)[chosen])
    if not store.header.convention.is_volume:
        return _draw_rows(rows, store, shown, known, 1.2)
    figure = _draw_rows(rows, store, shown, known, 1.8)
    figure.suptitle(TITLE, fontsize=8)
    return figure


def _draw_originals(values: Tensor, header: StoreHeader) -> Tensor:
    """Draw what INRs were fitted to, values (B, N, out), as these are drawn."""
    if header.convention.is_volume:
        return draw_slices(as_volumes(values, header.grid_shape))
    return header.convention.to_visible(values.unflatten(1, header.grid_shape)).float()


def draw_shapes(
    store: INRStore, originals: ShapeSignals | None, split: str, count: int, size: int = 64
) -> "Figure":
    """Draw objects above the INRs that encode them, one class after another.

    Args:
        store: Of INRs of shapes.
        originals: Where the objects come from; None draws the INRs alone.
        split: Of the store.
        count: Number of objects.
        size: Of the grid for marching cubes.
    """
    inrs = store.split(split, views=1)
    chosen = _choose(inrs, count)
    shown, pixels = inrs[chosen], 192
    rows = {"INR": render_shapes(shown, size, pixels)}
    if originals is not None:
        meshes = [originals.normalised_mesh(index) for index in shown.object_id.tolist()]
        rows = {"original": torch.stack([render_mesh(mesh, pixels) for mesh in meshes])} | rows
    measure = "iou" if "iou" in store.header.measures else None
    found = store.measure(measure, split) if measure else store.psnr(split)
    found = found[: len(inrs)][chosen]
    known = [f"IoU {value:.2f}" for value in found.tolist()] if measure else _in_decibels(found)
    return _draw_rows(rows, store, shown, known, 1.6)


def write_sounds(
    store: INRStore,
    originals: SoundSignals | None,
    split: str,
    count: int,
    rate: int,
    folder: Path,
) -> list[Path]:
    """Write the sounds that ``draw_reconstructions`` draws as WAV files, to be listened to.

    Args:
        store: Of INRs of sounds.
        originals: Where the objects come from; None writes the INRs alone.
        split: Of the store.
        count: Number of objects.
        rate: Samples in a second.
        folder: Made if missing.

    Returns:
        The files: of each object ``CLASS-ID-inr.wav``, and ``CLASS-ID-original.wav``.

    Raises:
        DataError: A file cannot be written.
    """
    inrs = store.split(split, views=1)
    shown = inrs[_choose(inrs, count)]
    heard = {"inr": render_images(shown, store.header.grid_shape)}
    if originals is not None:
        heard["original"] = originals.values(shown.object_id)
    paths = []
    for row, (label, number) in enumerate(
        zip(shown.label.tolist(), shown.object_id.tolist(), strict=True)
    ):
        stem = re.sub(r"[^A-Za-z0-9_-]+", "_", f"{name_class(store.classes, label)}-{number}")
        for name, sounds in heard.items():
            paths.append(folder / f"{stem}-{name}.wav")
            write_wav(paths[-1], sounds[row, :, 0], rate)
    return paths


def _choose(inrs: WeightBatch, count: int) -> Tensor:
    """Choose INRs spread evenly over the classes, one class after another: (n,) rows."""
    by_class = torch.sort(inrs.label, stable=True).indices
    return by_class[torch.linspace(0, len(inrs) - 1, min(count, len(inrs))).round().long()]


def _in_decibels(psnr: Tensor) -> list[str]:
    return [f"{format_psnr(value)} dB" for value in psnr.tolist()]


def _draw_rows(
    rows: dict[str, Tensor], store: INRStore, shown: WeightBatch, known: list[str], cell: float
) -> "Figure":
    """Draw named rows of images, each column under its class and what is known of its INR."""
    figure, axes = new_figure(len(rows), len(shown), cell)
    for row, (name, images) in zip(axes, rows.items(), strict=True):
        row[0].set_ylabel(name)
        for axis, image in zip(row, images, strict=True):
            draw_image(axis, image)
    for column in axes.T:
        share_heights(column)
    for axis, label, text in zip(axes[0], shown.label.tolist(), known, strict=True):
        axis.set_title(f"{name_class(store.classes, label)}\n{text}".strip(), fontsize=8)
    return figure
