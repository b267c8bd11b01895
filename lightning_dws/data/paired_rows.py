"""Batches of pairs: every INR together with another one of the same object."""

from typing import Literal

import torch
from torch import Tensor

from lightning_dws.randomness import hashed_uniform, stream_seed

PairKind = Literal["draws", "views"]


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
