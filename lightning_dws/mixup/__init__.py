"""MixUp in weight space, and the alignment of INRs that it profits from."""

from lightning_dws.mixup.alignment import Alignment, align
from lightning_dws.mixup.barrier import midpoint_error, squared_distance
from lightning_dws.mixup.mixup import MixUp, mix_up

__all__ = ["Alignment", "MixUp", "align", "midpoint_error", "mix_up", "squared_distance"]
