"""Signed distances to any set of triangles, watertight or not."""

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_dws.inrs.shapes.mesh_files.polygons import Floats
from lightning_dws.inrs.shapes.meshes import Mesh

_POINTS_AT_ONCE = 2**17  # bounds the memory
_LONGEST_EDGE = 0.05  # of the mesh's size
_MOST_PIECES = 2**18
_CELLS = 16  # along the size of a set of points


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

        fine = _cut_long_edges(Mesh(self.vertices, self.faces))
        tree = igl.FastWindingNumberBVH()
        tree.init(np.ascontiguousarray(fine.vertices), np.ascontiguousarray(fine.faces))
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
        order = _neighbours_together(points)
        points = points[order]
        distance = self.distance(points)
        found = np.empty_like(distance)
        found[order] = np.where(self.is_inside(points), -distance, distance)
        return found


def _neighbours_together(points: Floats) -> NDArray[np.signedinteger[Any]]:
    """Order points (N, 3) so that those close in space, which visit the same nodes, follow."""
    low = points.min(axis=0, initial=0.0)
    size = float(np.ptp(points, axis=0).max()) if len(points) else 0.0
    cells = np.floor((points - low) * (_CELLS / max(size, 1e-300)))
    return np.lexsort(cells.T)


def _cut(points: Floats) -> list[Floats]:
    points = np.ascontiguousarray(points, dtype=np.float64)
    starts = range(0, max(1, len(points)), _POINTS_AT_ONCE)
    return [points[start : start + _POINTS_AT_ONCE] for start in starts]


def _cut_long_edges(mesh: Mesh) -> Mesh:
    """Cut long triangles into small ones, whose winding numbers are cheap to approximate.

    A tree of triangles that are as long as the mesh has no far field: every point would be
    compared with all of them. The surface, and so the winding number, stays the same.
    """
    from trimesh.remesh import subdivide_to_size

    corners = mesh.corners
    longest = np.linalg.norm(np.roll(corners, -1, axis=1) - corners, axis=2).max(axis=1)
    limit = _LONGEST_EDGE * float(np.ptp(corners.reshape(-1, 3), axis=0).max())
    if limit == 0 or np.square(longest / limit).clip(min=1).sum() > _MOST_PIECES:
        return mesh
    vertices, faces = subdivide_to_size(mesh.vertices, mesh.faces, limit, max_iter=12)
    return Mesh(np.asarray(vertices), np.asarray(faces, np.int64))
