"""The commands about INRs that need no model: ``inrs fit`` and ``inrs show``."""

import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from jsonargparse import ArgumentParser
from rich.console import Console, Group
from rich.table import Table

from lightning_dws.data import INRDataModule
from lightning_dws.errors import DataError
from lightning_dws.inrs.images import Digits, FashionMNIST
from lightning_dws.inrs.pictures import draw_reconstructions, save_figure
from lightning_dws.inrs.preparation import INRDatasetSpec
from lightning_dws.inrs.signals import SignalDataset
from lightning_dws.inrs.store import INRStore

_KNOWN_SIGNALS = {Digits.name: Digits, FashionMNIST.name: FashionMNIST}


def run_inrs(args: Sequence[str]) -> None:
    """Run ``inrs fit`` or ``inrs show`` with the words behind ``inrs``."""
    parser = ArgumentParser(
        prog="main.py inrs", description="Datasets of INRs: fit and show them.", allow_abbrev=False
    )
    subcommands = parser.add_subcommands(required=True)
    subcommands.add_subcommand("fit", _fit_parser(), help="fit a dataset, or what it lacks")
    subcommands.add_subcommand("show", _show_parser(), help="print a summary and draw a picture")
    config = parser.parse_args(list(args))
    if config.subcommand == "fit":
        options = parser.instantiate(config).fit
        spec = INRDatasetSpec(options.signals, options.architecture, options.recipe, options.seed)
        _fit(
            spec,
            **{name: options[name] for name in ("root", "store", "views", "device")},
            **{name: options[name] for name in _COUNTS},
        )
    else:
        _show(**{name: config.show[name] for name in ("directory", "output", "count", "split")})


_QUANTILES = {"min dB": 0.0, "5 %": 0.05, "50 %": 0.5, "95 %": 0.95}
_COUNTS = {f"num_{split}_objects": split for split in ("train", "val", "test")}


def _fit_parser() -> ArgumentParser:
    parser = ArgumentParser(
        allow_abbrev=False, description="Fit a dataset of INRs; what is fitted already is kept."
    )
    parser.add_argument("--config", action="config", help="a file such as conf/inrs/digits.yaml")
    parser.add_class_arguments(INRDatasetSpec)
    parser.add_argument("--root", type=str, default="data", help="folder under which stores live")
    parser.add_argument("--store", type=str | None, default=None, help="the store's own name")
    parser.add_argument("--views", type=int, default=1, help="neural views per training object")
    for name, split in _COUNTS.items():
        parser.add_argument(
            f"--{name}", type=int | None, default=None, help=f"only so many {split} objects"
        )
    parser.add_argument("--device", type=str, default="auto", help="where to fit: cpu, cuda, auto")
    return parser


def _show_parser() -> ArgumentParser:
    parser = ArgumentParser(allow_abbrev=False, description="Show what a dataset of INRs holds.")
    parser.add_argument("directory", type=str, help="the store's folder")
    parser.add_argument(
        "--output", type=str | None, default=None, help="the picture (default: DIR/inrs.png)"
    )
    parser.add_argument("--count", type=int, default=10, help="INRs in the picture")
    parser.add_argument("--split", type=str, default="train", help="the picture's split")
    return parser


def _fit(
    spec: INRDatasetSpec,
    *,
    root: str,
    store: str | None,
    views: int,
    device: str,
    num_train_objects: int | None,
    num_val_objects: int | None,
    num_test_objects: int | None,
) -> None:
    data = INRDataModule(
        spec,
        root=root,
        store=store,
        views=views,
        num_train_objects=num_train_objects,
        num_val_objects=num_val_objects,
        num_test_objects=num_test_objects,
        fitting_device=device,
    )
    data.prepare_data()
    sys.stdout.write(f"{data.directory}\n")


def _show(directory: str, output: str | None, count: int, split: str) -> None:
    store = INRStore(directory)
    Console(highlight=False).print(_summary(store))
    picture = Path(output) if output else store.directory / "inrs.png"
    figure = draw_reconstructions(store, _originals(store), split, count)
    try:
        save_figure(figure, picture)
    except OSError as error:
        raise DataError(f"{picture}: cannot be written ({error})") from error
    sys.stdout.write(f"{picture}\n")


def _originals(store: INRStore) -> SignalDataset | None:
    known = _KNOWN_SIGNALS.get(store.header.signals)
    return known() if known else None


def _summary(store: INRStore) -> Group:
    architecture, header = store.architecture, store.header
    recipe = ", ".join(f"{k} {v}" for k, v in header.recipe.items() if v not in (None, 0))
    lines = (
        f"{store.directory}: INRs of {header.signals}, {len(store.classes)} classes",
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
        counts = torch.bincount(store.split(split, views=1).label, minlength=len(store.classes))
        table.add_row(
            split,
            str(store.num_objects(split)),
            str(store.num_views(split)),
            f"{int(counts.min())}-{int(counts.max())}",
            *(f"{value:.1f}" for value in quantiles.tolist()),
            f"{float(psnr.mean()):.2f}",
        )
    return Group(*lines, table)
