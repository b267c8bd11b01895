"""The command ``inrs show``."""

import sys
from pathlib import Path

import torch
from jsonargparse import Namespace
from jsonargparse.typing import PositiveInt
from rich.console import Console, Group
from rich.table import Table

from lightning_dws.commands.originals import add_signals
from lightning_dws.counting import counted
from lightning_dws.errors import DataError
from lightning_dws.figures import write_figure
from lightning_dws.inrs.known_signals import find_originals
from lightning_dws.inrs.pictures import (
    draw_reconstructions,
    draw_shapes,
    format_psnr,
    write_sounds,
)
from lightning_dws.inrs.shapes import ShapeSignals
from lightning_dws.inrs.shapes.rendering import evaluate_on_grid, extract_surface, write_mesh
from lightning_dws.inrs.sounds import SoundSignals
from lightning_dws.inrs.sounds.base import encodes_sound
from lightning_dws.inrs.store import INRStore, is_address
from lightning_dws.inrs.store.verification import describe_low
from lightning_dws.parse_errors import ArgumentParser
from lightning_dws.weight_space import INRArchitecture, require_inrs

_MESH_GRID_SIZE = 128


_QUANTILES = {"min dB": 0.0, "5 %": 0.05, "50 %": 0.5, "95 %": 0.95}


def show_parser() -> ArgumentParser:
    """Make the parser of ``inrs show``."""
    parser = ArgumentParser(description="Show what a dataset of INRs holds.")
    parser.add_argument("directory", type=str, help="the store's folder, or its address")
    parser.add_argument(
        "--output", type=str | None, default=None, help="the picture (default: DIR/inrs.png)"
    )
    parser.add_argument("--count", type=PositiveInt, default=10, help="INRs in the picture")
    parser.add_argument("--split", type=str, default="train", help="the picture's split")
    add_signals(parser)
    parser.add_argument(
        "--mesh", type=str | None, default=None, help="also write a shape as FILE.obj, .ply, .stl"
    )
    parser.add_argument(
        "--object", type=int | None, default=None, help="its object_id (default: the split's first)"
    )
    parser.add_argument(
        "--sounds",
        type=str | None,
        default=None,
        help="also write the sounds in the picture into a folder, as WAV files: of every INR, and "
        "of its original where that is at hand",
    )
    parser.add_argument(
        "--rate",
        type=PositiveInt | None,
        default=None,
        help="of these: samples in a second (default: that of the originals)",
    )
    return parser


def run_show(options: Namespace) -> None:
    """Print what a store holds, and draw a picture of it.

    Raises:
        DataError: The store cannot be read, a file cannot be written, or one is asked for of
            networks that are no INRs.
    """
    store = INRStore(options.directory)
    Console(highlight=False).print(_summary(store))
    asked_for = [name for name in ("output", "mesh", "sounds") if getattr(options, name)]
    if not isinstance(store.architecture, INRArchitecture) and not asked_for:
        sys.stdout.write("no picture: only INRs are drawn\n")
        return
    inputs = require_inrs(store.architecture, f"{store.directory}: pictures").in_features
    of_shapes = inputs == 3 and not store.header.convention.is_volume
    folder = Path() if is_address(options.directory) else store.directory
    picture = Path(options.output) if options.output else folder / "inrs.png"
    originals = find_originals(store.directory, store.header, options.signals)
    if of_shapes:
        shapes = originals if isinstance(originals, ShapeSignals) else None
        figure = draw_shapes(store, shapes, options.split, options.count)
    else:
        figure = draw_reconstructions(store, originals, options.split, options.count)
    write_figure(figure, picture)
    if options.sounds is not None:
        sounds = originals if isinstance(originals, SoundSignals) else None
        _write_sounds(store, sounds, options)
    if options.mesh is not None:
        if not of_shapes:
            found = "volumes" if inputs == 3 else f"signals with {counted(inputs, 'input')}"
            raise DataError(f"{store.directory}: mesh is for INRs of shapes, these are of {found}")
        _export_mesh(store, options.split, options.object, Path(options.mesh))


def _write_sounds(store: INRStore, originals: SoundSignals | None, options: Namespace) -> None:
    rate: int | None = options.rate or (originals.rate if originals else None)
    if not encodes_sound(store.header.measures):
        raise DataError(f"{store.directory}: sounds are for INRs of sounds, see SoundSignals")
    if rate is None:
        raise DataError(
            f"{store.directory}: does not know the rate of its sounds; give what they were fitted "
            "with, such as --rate 8000"
        )
    folder = Path(options.sounds)
    for path in write_sounds(store, originals, options.split, options.count, rate, folder):
        sys.stdout.write(f"{path}\n")


def _export_mesh(store: INRStore, split: str, object_id: int | None, path: Path) -> None:
    inrs = store.split(split, views=1)
    chosen = inrs[:1] if object_id is None else inrs[inrs.object_id == object_id]
    if len(chosen) == 0:
        raise DataError(f"{store.directory}: no object_id {object_id} in split {split!r}")
    surface = extract_surface(evaluate_on_grid(chosen, _MESH_GRID_SIZE))
    if surface is None:
        raise DataError(f"{store.directory}: object_id {int(chosen.object_id)} has no surface")
    write_mesh(surface, path)
    sys.stdout.write(f"{path}\n")


def _summary(store: INRStore) -> Group:
    architecture, header = store.architecture, store.header
    recipe = ", ".join(f"{k} {v}" for k, v in header.recipe.items() if v not in (None, 0))
    described = architecture.summary
    if isinstance(architecture, INRArchitecture):
        widths = "-".join(map(str, architecture.widths))
        encoding = "" if architecture.encoding is None else f"{architecture.encoding}, "
        function = f"{architecture.activation}, w0 {architecture.w0:g}"
        described = f"{encoding}{widths}, {function}"
    kind = f"{architecture.noun} of {header.signals}"
    classes = counted(len(store.classes), "class", "classes")
    lines = (
        f"{store.directory}: {kind}, {classes if store.classes else 'no classes'}",
        f"architecture: {described}, {architecture.num_parameters} parameters",
        f"fitting: {recipe}, seed {header.seed}",
    )
    table = Table()
    for column in ("split", "objects", "views", "per class", *_QUANTILES, "mean dB"):
        table.add_column(column, justify="left" if column == "split" else "right")
    for split in store.splits:
        psnr = store.psnr(split)
        quantiles = torch.quantile(psnr, torch.tensor(list(_QUANTILES.values())))
        counts = torch.bincount(store.split(split, views=1).label, minlength=header.num_labels)
        table.add_row(
            split,
            str(store.num_objects(split)),
            str(store.num_views(split)),
            f"{int(counts.min())}-{int(counts.max())}" if store.classes else "-",
            *(format_psnr(value) for value in quantiles.tolist()),
            format_psnr(float(psnr.mean()), digits=2),
        )
    means = [
        f"mean {name}, {split}: {float(store.measure(name, split).nanmean()):.4f}"
        for name in header.measures
        for split in store.splits
    ]
    return Group(*lines, table, *means, *describe_low(store))
