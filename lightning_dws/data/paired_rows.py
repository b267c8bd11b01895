"""Batches of pairs: every INR together with another one of the same object."""

from typing import Literal

import torch
from torch import Tensor

from lightning_dws.errors import DataError
from lightning_dws.randomness import hashed_uniform, stream_seed

PairKind = Literal["draws", "views"]


def check_pairs(kind: PairKind | None, views: int, is_augmented: bool) -> None:
    """Refuse pairs of twice the same.

    Args:
        kind: Of the pairs, if there are to be any.
        views: Of each training object.
        is_augmented: Whether there are augmentations.

    Raises:
        DataError: It names the option that is missing.
    """
    if kind == "draws" and not is_augmented:
        raise DataError(
            "pairs of two draws need data.augmentations: without any, both are the same INR"
        )
    if kind == "views" and views < 2:
        raise DataError(f"pairs of views need data.views of at least 2, got {views}")


class PairedRows:
    """Give every row of a table a partner that shows the same object.

    Args:
        kind: ``draws``: the row itself, for augmentations to draw for it twice; ``views``: the
            object in another neural view.
        num_objects: N. The table holds them view after view.
        views: V.
        seed: Of the choice of views, which depends on (seed, epoch, row) alone.

    Example:
        >>> pairs = PairedRows("views", num_objects=3, views=2, seed=0)
        >>> pairs(torch.tensor([0, 5]), epoch=0).tolist()
        [0, 5, 3, 2]
    """

    def __init__(self, kind: PairKind, num_objects: int, views: int, seed: int) -> None:
        self.kind = kind
        self.num_objects = num_objects
        self.views = views
        self.seed = seed

    def __call__(self, rows: Tensor, epoch: int) -> Tensor:
        """Give rows (B,), then their partners (B,): (2B,)."""
        if self.kind == "draws":
            return torch.cat([rows, rows])
        seed = stream_seed(self.seed, epoch, "pairs")
        uniform = hashed_uniform(seed, (rows,), 1)[:, 0]
        others = 1 + (uniform * (self.views - 1)).long().clamp_max(self.views - 2)
        partners = (rows + others * self.num_objects) % (self.views * self.num_objects)
        return torch.cat([rows, partners])
