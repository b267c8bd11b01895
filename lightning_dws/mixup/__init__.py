"""MixUp in weight space, and the alignment of INRs that it profits from."""

from lightning_dws.mixup.alignment import Alignment, align

__all__ = ["Alignment", "align"]
