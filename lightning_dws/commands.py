"""The commands about INRs that need no model."""

import sys
from collections.abc import Callable, Sequence
from functools import partial
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jsonargparse import ArgumentError, Namespace
from jsonargparse.typing import PositiveInt
from pytorch_lightning import Callback
from rich.console import Console, Group
from rich.table import Table

from lightning_dws import augmentations
from lightning_dws.augmentations import Augmentation
from lightning_dws.config_files import Settings, expand_includes, read_settings
from lightning_dws.data.datamodule import check_augmentations
from lightning_dws.errors import DataError
from lightning_dws.fit_command import fit_parser, run_fit
from lightning_dws.format_commands import export_parser, import_parser, run_export, run_import
from lightning_dws.inrs import CIFAR10, MNIST, Digits, FashionMNIST, ShapeSignals, Solids
from lightning_dws.inrs.header import StoreHeader
from lightning_dws.inrs.index import read_index
from lightning_dws.inrs.pictures import draw_reconstructions, format_psnr, save_figure
from lightning_dws.inrs.quality import describe_low
from lightning_dws.inrs.shape_pictures import (
    draw_shapes,
    evaluate_on_grid,
    extract_surface,
    write_mesh,
)
from lightning_dws.inrs.signals import SignalDataset
from lightning_dws.inrs.store import INRStore
from lightning_dws.inrs.verification import verify_store
from lightning_dws.mixup import MixUp
from lightning_dws.mixup.pictures import draw_augmentations, draw_mixup_walk
from lightning_dws.parse_errors import ArgumentParser
from lightning_dws.randomness import make_generator
from lightning_dws.weight_space import WeightBatch

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_KNOWN_SIGNALS: tuple[Callable[[], SignalDataset], ...] = (
    Digits,
    FashionMNIST,
    MNIST,
    CIFAR10,
    Solids,
)
_MESH_GRID_SIZE = 128


def run_inrs(args: Sequence[str]) -> None:
    """Run the command that the words behind ``inrs`` name."""
    parser = ArgumentParser(
        prog="main.py inrs",
        description="Datasets of INRs: fit, import, export, verify, show and augment them.",
        allow_abbrev=False,
    )
    subcommands = parser.add_subcommands(required=True)
    subcommands.add_subcommand("fit", fit_parser(), help="fit a dataset, or what it lacks")
    subcommands.add_subcommand("show", _show_parser(), help="print a summary and draw a picture")
    subcommands.add_subcommand("import", import_parser(), help="read published INR datasets")
    subcommands.add_subcommand("export", export_parser(), help="write a store in their layouts")
    subcommands.add_subcommand("verify", _verify_parser(), help="check all that can be checked")
    subcommands.add_subcommand("augment", _augment_parser(), help="draw what augmentations do")
    words = list(args)
    if words[:1] == ["fit"]:  # its files follow one another, those of 'augment' are columns
        words = expand_includes(words)
    config = parser.parse_args(words)
    try:
        _run(parser, config)
    except DataError:
        raise
    except ValueError as error:
        parser.error(str(error))


def _run(parser: ArgumentParser, config: Namespace) -> None:
    if config.subcommand == "fit":
        run_fit(parser.instantiate(config).fit)
    elif config.subcommand == "show":
        options = parser.instantiate(config).show
        _show(**{name: options[name] for name in signature(_show).parameters})
    elif config.subcommand == "import":
        run_import(config["import"])
    elif config.subcommand == "export":
        run_export(config.export)
    elif config.subcommand == "verify":
        options = parser.instantiate(config).verify
        _verify(**{name: options[name] for name in signature(_verify).parameters})
    else:
        names = ("directory", "config", "output", "count", "split", "seed")
        _augment(**{name: config.augment[name] for name in names})


_QUANTILES = {"min dB": 0.0, "5 %": 0.05, "50 %": 0.5, "95 %": 0.95}


def _show_parser() -> ArgumentParser:
    parser = ArgumentParser(allow_abbrev=False, description="Show what a dataset of INRs holds.")
    parser.add_argument("directory", type=str, help="the store's folder")
    parser.add_argument(
        "--output", type=str | None, default=None, help="the picture (default: DIR/inrs.png)"
    )
    parser.add_argument("--count", type=PositiveInt, default=10, help="INRs in the picture")
    parser.add_argument("--split", type=str, default="train", help="the picture's split")
    _add_signals(parser)
    parser.add_argument(
        "--mesh", type=str | None, default=None, help="also write a 3-D INR as FILE.obj, .ply, .stl"
    )
    parser.add_argument(
        "--object", type=int | None, default=None, help="its object_id (default: the split's first)"
    )
    return parser


def _add_signals(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--signals",
        type=SignalDataset | None,
        default=None,
        help="what the INRs were fitted to, where that is not known by its name",
    )


def _show(
    directory: str,
    output: str | None,
    count: int,
    split: str,
    signals: SignalDataset | None,
    mesh: str | None,
    object: int | None,
) -> None:
    store = INRStore(directory)
    Console(highlight=False).print(_summary(store))
    picture = Path(output) if output else store.directory / "inrs.png"
    originals = _originals(store.directory, store.header, signals)
    if store.architecture.in_features == 3:
        shapes = originals if isinstance(originals, ShapeSignals) else None
        _save(draw_shapes(store, shapes, split, count), picture)
    else:
        _save(draw_reconstructions(store, originals, split, count), picture)
    if mesh is not None:
        _export_mesh(store, split, object, Path(mesh))


def _export_mesh(store: INRStore, split: str, object_id: int | None, path: Path) -> None:
    if store.architecture.in_features != 3:
        raise DataError(
            f"{store.directory}: mesh is for 3-D INRs, these have "
            f"{store.architecture.in_features} inputs"
        )
    inrs = store.split(split, views=1)
    chosen = inrs[:1] if object_id is None else inrs[inrs.object_id == object_id]
    if len(chosen) == 0:
        raise DataError(f"{store.directory}: no object_id {object_id} in split {split!r}")
    surface = extract_surface(evaluate_on_grid(chosen, _MESH_GRID_SIZE))
    if surface is None:
        raise DataError(f"{store.directory}: object_id {int(chosen.object_id)} has no surface")
    write_mesh(surface, path)
    sys.stdout.write(f"{path}\n")


def _verify_parser() -> ArgumentParser:
    parser = ArgumentParser(
        allow_abbrev=False,
        description="Check sums, shapes, finiteness, labels, duplicates; where the signals are at "
        "hand, compare objects, labels and classes with theirs, and render a sample.",
    )
    parser.add_argument("directory", type=str, help="the store's folder")
    parser.add_argument(
        "--sample", type=PositiveInt, default=64, help="INRs to render, of each split and view"
    )
    _add_signals(parser)
    return parser


def _verify(directory: str, sample: int, signals: SignalDataset | None) -> None:
    folder = Path(directory)
    originals = _originals(folder, read_index(folder).header, signals)
    result = verify_store(folder, originals, sample)
    for problem in result.problems:
        sys.stderr.write(f"{problem}\n")
    if result.problems:
        raise DataError(f"{directory}: problems: {len(result.problems)} in {result.num_inrs} INRs")
    rendered = f"{result.num_rendered} rendered" if result.num_rendered else "none rendered"
    sys.stdout.write(f"{directory}: {result.num_inrs} INRs verified, {rendered}\n")


def _save(figure: "Figure", path: Path) -> None:
    try:
        save_figure(figure, path)
    except (OSError, ValueError) as error:  # matplotlib: ValueError for an unknown file type
        raise DataError(f"{path}: cannot be written ({error})") from error
    sys.stdout.write(f"{path}\n")


def _augment_parser() -> ArgumentParser:
    parser = ArgumentParser(
        allow_abbrev=False,
        description="Draw INRs after augmentation, one column a config, and MixUp between two.",
    )
    parser.add_argument("directory", type=str, help="the store's folder")
    parser.add_argument(
        "--config",
        type=str,
        nargs="+",
        default=[],
        help="files such as conf/augmentation/*.yaml (default: every augmentation that fits)",
    )
    parser.add_argument("--output", type=str, default="augmentations.png", help="the picture")
    parser.add_argument("--count", type=PositiveInt, default=6, help="INRs in the picture")
    parser.add_argument("--split", type=str, default="train", help="where the INRs come from")
    parser.add_argument("--seed", type=int, default=0, help="of the random draws")
    return parser


def _augment(
    directory: str, config: list[str], output: str, count: int, split: str, seed: int
) -> None:
    store = INRStore(directory)
    inrs = store.split(split, num_objects=min(max(count, 2), store.num_objects(split)), views=1)
    columns = {Path(path).stem: _column(path, store, seed) for path in config}
    if not config:
        columns = {
            name: partial(_apply, [augmentation], store.header.num_labels, seed)
            for name, augmentation in _fitting_augmentations(inrs).items()
        }
    picture = Path(output)
    grid_shape, convention = store.header.grid_shape, store.header.convention
    _save(draw_augmentations(inrs[:count], columns, grid_shape, convention), picture)
    walk = draw_mixup_walk(inrs[:1], inrs[1:2], grid_shape, convention)
    _save(walk, picture.with_stem(f"{picture.stem}-mixup"))


def _fitting_augmentations(inrs: WeightBatch) -> dict[str, Augmentation]:
    """Give every augmentation that works with its defaults on these INRs."""
    chosen = {}
    for name in augmentations.__all__:
        kind = getattr(augmentations, name)
        if issubclass(kind, Augmentation) and "augmentations" not in signature(kind).parameters:
            try:
                chosen[name] = kind()
                chosen[name].check_architecture(inrs.architecture)
            except (TypeError, ValueError):  # the abstract base, or wrong for the architecture
                chosen.pop(name, None)
    return chosen


def _column(path: str, store: INRStore, seed: int) -> Callable[[WeightBatch], WeightBatch]:
    """Read the augmentations and MixUp callbacks of a config file, whatever else it holds."""
    content = read_settings(path)
    chosen = _part(content, "data", path).get("augmentations") or []
    callbacks = _part(content, "trainer", path).get("callbacks") or []
    parser = ArgumentParser(allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--augmentations", type=list[Augmentation])
    parser.add_argument("--callbacks", type=list[Callback])
    try:
        options = parser.instantiate(
            parser.parse_object({"augmentations": chosen, "callbacks": callbacks})
        )
    except (ArgumentError, TypeError, ValueError) as error:
        raise DataError(f"{path}: {error}") from error
    check_augmentations(options.augmentations, store.architecture)
    mixups = [callback for callback in options.callbacks if isinstance(callback, MixUp)]
    return partial(_apply, [*options.augmentations, *mixups], store.header.num_labels, seed)


def _part(content: Settings, name: str, path: str) -> Settings:
    part = content.get(name) or {}
    if not isinstance(part, dict):
        raise DataError(f"{path}: {name}: expected settings by name, found {part!r}")
    return part


def _apply(
    steps: Sequence[Augmentation | MixUp], num_classes: int, seed: int, batch: WeightBatch
) -> WeightBatch:
    for number, step in enumerate(steps):
        generator = make_generator(seed, rank=0, counter=number, stream="picture")
        if isinstance(step, MixUp):
            batch = step.mix(batch, num_classes, generator)
        else:
            batch = step(batch, generator)
    return batch


def _originals(
    directory: Path, header: StoreHeader, given: SignalDataset | None = None
) -> SignalDataset | None:
    """Give the signals that a store was fitted to, if they are known and to be had here."""
    if given is not None and given.name != header.signals:
        raise DataError(
            f"{directory}: INRs of {header.signals}, the signals given are {given.name}"
        )
    known = (given,) if given is not None else (kind() for kind in _KNOWN_SIGNALS)
    signals = next((s for s in known if s.name == header.signals), None)
    if signals is None:
        return None
    try:
        signals.first("test", 1)
    except DataError as error:
        sys.stderr.write(f"without originals: {error}\n")
        return None
    return signals


def _summary(store: INRStore) -> Group:
    architecture, header = store.architecture, store.header
    recipe = ", ".join(f"{k} {v}" for k, v in header.recipe.items() if v not in (None, 0))
    lines = (
        f"{store.directory}: INRs of {header.signals}, {len(store.classes) or 'no'} classes",
        f"architecture: {'-'.join(map(str, architecture.widths))}, {architecture.activation}, "
        f"w0 {architecture.w0:g}, {architecture.num_parameters} parameters",
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
