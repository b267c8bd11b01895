"""Shapes as signals: meshes, their signed distances, and pictures of them."""

from lightning_dws.inrs.shapes.base import ShapeSignals
from lightning_dws.inrs.shapes.mesh_folder import MeshFolder
from lightning_dws.inrs.shapes.modelnet import ModelNet10, ModelNet40
from lightning_dws.inrs.shapes.samples import Sampling
from lightning_dws.inrs.shapes.solids import Solids

__all__ = ["MeshFolder", "ModelNet10", "ModelNet40", "Sampling", "ShapeSignals", "Solids"]
