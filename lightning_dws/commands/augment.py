"""The command ``inrs augment``."""

from collections.abc import Callable, Sequence
from functools import partial
from inspect import signature
from pathlib import Path

from jsonargparse import ArgumentError, Namespace
from jsonargparse.typing import PositiveInt
from pytorch_lightning import Callback

from lightning_dws import augmentations
from lightning_dws.augmentations import Augmentation
from lightning_dws.config_files import Settings, read_settings
from lightning_dws.data.store_checks import check_augmentations
from lightning_dws.errors import DataError
from lightning_dws.figures import write_figure
from lightning_dws.inrs.store import INRStore
from lightning_dws.mixup import MixUp
from lightning_dws.mixup.pictures import draw_augmentations, draw_mixup_walk
from lightning_dws.parse_errors import ArgumentParser
from lightning_dws.randomness import make_generator
from lightning_dws.weight_space import WeightBatch, require_inrs


def augment_parser() -> ArgumentParser:
    """Make the parser of ``inrs augment``."""
    parser = ArgumentParser(
        description="Draw INRs after augmentation, one column a config, and MixUp between two."
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


def run_augment(options: Namespace) -> None:
    """Draw INRs after augmentation, and what MixUp walks through between two.

    Raises:
        DataError: A store or a config cannot be read, or a picture cannot be written.
    """
    store, seed = INRStore(options.directory), options.seed
    require_inrs(store.architecture, f"{store.directory}: pictures")
    num_objects = min(max(options.count, 2), store.num_objects(options.split))
    inrs = store.split(options.split, num_objects=num_objects, views=1)
    columns = {Path(path).stem: _column(path, store, seed) for path in options.config}
    if not options.config:
        columns = {
            name: partial(_apply, [augmentation], store.header.num_labels, seed)
            for name, augmentation in _fitting_augmentations(inrs).items()
        }
    picture = Path(options.output)
    grid_shape, convention = store.header.grid_shape, store.header.convention
    shown = inrs[: options.count]
    write_figure(draw_augmentations(shown, columns, grid_shape, convention), picture)
    walk = draw_mixup_walk(inrs[:1], inrs[1:2], grid_shape, convention)
    write_figure(walk, picture.with_stem(f"{picture.stem}-mixup"))


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
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--augmentations", type=list[Augmentation])
    parser.add_argument("--callbacks", type=list[Callback])
    try:
        options = parser.instantiate(
            parser.parse_object({"augmentations": chosen, "callbacks": callbacks})
        )
    except (ArgumentError, TypeError, ValueError) as error:
        raise DataError(f"{path}: {error}") from error
    check_augmentations(options.augmentations, store.header)
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
