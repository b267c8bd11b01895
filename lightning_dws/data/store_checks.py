"""Whether a store holds what a run asks of it, in one error where it does not."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from lightning_dws.augmentations import Augmentation, Scaling
from lightning_dws.counting import counted
from lightning_dws.data.placement import Table
from lightning_dws.errors import DataError
from lightning_dws.inrs.store import INRStore, StoreHeader


def check_augmentations(augmentations: Sequence[Augmentation], header: StoreHeader) -> None:
    """Refuse an augmentation that is wrong for INRs.

    Raises:
        DataError: It says which, and why.
    """
    for augmentation in augmentations:
        try:
            augmentation.check_architecture(header.architecture)
        except ValueError as error:
            raise DataError(f"augmentations: {error}") from error
        if header.convention.is_volume and _rescales_distances(augmentation):
            raise DataError(
                "augmentations: Scaling with rescale_output is for signed distances, and these "
                "INRs are of volumes"
            )


def _rescales_distances(augmentation: Augmentation) -> bool:
    parts = getattr(augmentation, "augmentations", ())  # of a combination
    own = isinstance(augmentation, Scaling) and augmentation.rescale_output
    return own or any(map(_rescales_distances, parts))


def check_split(store: INRStore, directory: Path, split: str, views: int) -> None:
    """Refuse a split that is not there, or that has fewer views.

    Raises:
        DataError: It says what there is, and how to have the rest.
    """
    if split not in store.splits:
        remedy = (
            "hold some training objects out by importing its source with --num_val N into "
            "another folder"
            if split == "val"
            else "import a source that has them"
        )
        raise DataError(
            f"{directory}: has no {split} split, only {', '.join(store.splits)}; {remedy}"
        )
    if split == "train" and views > store.num_views("train"):
        raise DataError(
            f"{directory}: holds {counted(store.num_views('train'), 'view')} of its training "
            f"objects, and data.views is {views}; --data.views "
            f"{store.num_views('train')} takes all there are"
        )


def check_share(table: Table, directory: Path, split: str, world_size: int) -> None:
    """Refuse fewer INRs than processes.

    Raises:
        DataError: It names both numbers.
    """
    if len(table) < world_size:
        raise DataError(
            f"{directory}: the {counted(len(table), f'{split} INR')} of this run cannot be split "
            f"over {world_size} processes; every one needs at least one"
        )


def check_classes(table: Table, directory: Path, classes: tuple[str, ...]) -> None:
    """Refuse training INRs that are not of all classes.

    Raises:
        DataError: It names the missing ones.
    """
    if not classes:
        raise DataError(
            f"{directory}: has no classes, which classification learns and contrastive learning "
            "is measured by"
        )
    counts = torch.bincount(table.label.cpu(), minlength=len(classes))
    missing = [name for name, count in zip(classes, counts, strict=True) if count == 0]
    if missing:
        inrs = counted(
            len(table), "training INR of this run holds", "training INRs of this run hold"
        )
        raise DataError(
            f"{directory}: the {inrs} none of the "
            f"class {', '.join(missing)}; every class needs at least one"
        )


def first_training_inr(store: INRStore, directory: Path) -> Tensor:
    """Give the parameters (P,) of the INR that canonical forms compare with.

    Raises:
        DataError: There is no train split.
    """
    if "train" not in store.splits:
        raise DataError(
            f"{directory}: has no train split, whose first INR is the one that canonical "
            "forms compare with"
        )
    return store.split("train", num_objects=1, views=1).parameters[0]
