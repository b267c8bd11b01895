"""Signed distances to any set of triangles, watertight or not."""

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_dws.inrs.meshes import Floats, Mesh

_POINTS_AT_ONCE = 2**17  # bounds the memory


class SignedDistance:
    """The signed distance function of a mesh: negative inside.

    Inside is where the generalised winding number (Jacobson et al., 2013; here its fast
    approximation, Barill et al., 2018) exceeds one half; the magnitude is the plain distance to
    the nearest triangle. Never their product: doubled faces have the winding number 2, and around
    an open surface it has all values between.

    Args:
        mesh: With at least one triangle that has an area.
    """

    def __init__(self, mesh: Mesh) -> None:
        self.vertices = np.ascontiguousarray(mesh.vertices)
        self.faces = np.ascontiguousarray(mesh.faces)

    @cached_property
    def _winding_tree(self) -> Any:
        import igl

        tree = igl.FastWindingNumberBVH()
        tree.init(self.vertices, self.faces)
        return tree

    @cached_property
    def _distance_tree(self) -> Any:
        import igl

        tree = igl.AABB()
        tree.init(self.vertices, self.faces)
        return tree

    def winding_number(self, points: Floats) -> Floats:
        """Give the generalised winding number at points (N, 3): (N,), 1 inside a closed mesh."""
        parts = _cut(points)
        return np.concatenate([self._winding_tree.winding_number(part) for part in parts])

    def is_inside(self, points: Floats) -> NDArray[np.bool_]:
        """Tell which points (N, 3) the mesh encloses: (N,)."""
        return self.winding_number(points) > 0.5

    def distance(self, points: Floats) -> Floats:
        """Give the unsigned distance of points (N, 3) to the nearest triangle: (N,)."""
        squares = [
            self._distance_tree.squared_distance(self.vertices, self.faces, part)[0]
            for part in _cut(points)
        ]
        found: Floats = np.sqrt(np.concatenate(squares))
        return found

    def __call__(self, points: Floats) -> Floats:
        """Give the signed distance at points (N, 3): (N,), negative inside."""
        distance = self.distance(points)
        return np.where(self.is_inside(points), -distance, distance)


def _cut(points: Floats) -> list[Floats]:
    points = np.ascontiguousarray(points, dtype=np.float64)
    starts = range(0, max(1, len(points)), _POINTS_AT_ONCE)
    return [points[start : start + _POINTS_AT_ONCE] for start in starts]
