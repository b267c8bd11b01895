"""Shapes as signals: meshes, their signed distances, and pictures of them."""

from lightning_dws.inrs.shapes.base import ShapeSignals
from lightning_dws.inrs.shapes.solids import Solids

__all__ = ["ShapeSignals", "Solids"]
