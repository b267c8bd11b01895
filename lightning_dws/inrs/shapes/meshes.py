"""Meshes as triangles: read, cleaned, oriented, and put into the unit sphere."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from lightning_dws.errors import DataError
from lightning_dws.inrs.shapes.mesh_files import read_polygons, triangulate
from lightning_dws.inrs.shapes.mesh_files.polygons import Floats, Integers

_SMALLEST_AREA = 1e-14  # of a triangle that counts, in squares of the mesh's size
_SMALLEST_VOLUME = 1e-4  # that tells an outside from an inside, in surface areas to the power 3/2


@dataclass(frozen=True, eq=False)
class Mesh:
    """Triangles in space.

    Attributes:
        vertices: (n, 3) float64.
        faces: (m, 3) int64 indices of vertices, counter-clockwise seen from outside.
    """

    vertices: Floats
    faces: Integers

    @property
    def corners(self) -> Floats:
        """(m, 3, 3): each triangle's three points."""
        return self.vertices[self.faces]


def read_mesh(path: Path) -> Mesh:
    """Read a mesh file of a format in ``MESH_SUFFIXES``; several parts become one mesh.

    Raises:
        DataError: The file cannot be read, or holds no triangles; the message is the reason alone.
    """
    polygons = read_polygons(path)
    faces = triangulate(polygons)
    if not len(faces):
        raise DataError("no triangles in it")
    return Mesh(polygons.vertices, faces)


def clean(mesh: Mesh) -> Mesh:
    """Merge equal vertices, and drop triangles without area and all but one of equal ones.

    Triangles count as equal either way around: a face given twice, once with each side out, bounds
    nothing.

    Raises:
        DataError: A triangle has a vertex that is not finite or not there, or none has an area.
    """
    faces, vertices = mesh.faces, mesh.vertices
    if len(faces) == 0:
        raise DataError("no triangles in it")
    if faces.min() < 0 or faces.max() >= len(vertices):
        raise DataError(f"a triangle of vertex {faces.max()}, there are {len(vertices)}")
    used = np.zeros(len(vertices), bool)
    used[faces] = True
    finite = np.asarray(np.isfinite(vertices).all(axis=1))
    if not finite[used].all():
        raise DataError(f"{int((~finite & used).sum())} vertices are not finite")
    if np.abs(vertices[used]).max() > 1e100:
        raise DataError("vertices are too far away to compute with")
    merged = _merge_vertices(vertices, faces, used)
    size = float(np.ptp(merged.vertices, axis=0).max())
    areas = np.linalg.norm(_normals(merged.corners / max(size, 1e-300)), axis=1) / 2
    kept = merged.faces[areas > _SMALLEST_AREA]
    if size == 0 or len(kept) == 0:
        raise DataError("all triangles are degenerate")
    _, first = np.unique(np.sort(kept, axis=1), axis=0, return_index=True)
    return Mesh(merged.vertices, kept[np.sort(first)])


def _merge_vertices(vertices: Floats, faces: Integers, used: NDArray[np.bool_]) -> Mesh:
    known = np.full(len(vertices), -1)
    unique, number = np.unique(vertices[used] + 0.0, axis=0, return_inverse=True)  # -0 is 0
    known[used] = number.reshape(-1)
    return Mesh(unique, known[faces])


def orient(mesh: Mesh) -> Mesh:
    """Turn surfaces that are inside out, and neighbours that disagree.

    Triangles that share edges form a component. Within one that is no closed oriented surface,
    neighbours are made to agree, patch by patch between edges that more than two triangles share.
    Then what encloses a negative volume, seen from its own middle, is turned. So flipped meshes,
    parts and triangles count as what they were meant to be, and a cavity, whose surface encloses
    a negative volume, is filled. A flat sheet stays as it is.

    Args:
        mesh: Cleaned: equal vertices must be merged.
    """
    import igl

    edges, signs = _edges(mesh)
    component = _components(edges)
    balance = np.bincount(edges, signs)[edges].reshape(-1, 3)
    torn = np.zeros(component.max() + 1, bool)
    torn[component[(balance != 0).any(axis=1)]] = True
    faces, patch, in_torn = mesh.faces.copy(), component.copy(), torn[component]
    if in_torn.any():
        turned, own_patch = igl.bfs_orient(np.ascontiguousarray(faces[in_torn]))
        faces[in_torn], patch[in_torn] = turned, own_patch + len(torn)
    oriented = Mesh(mesh.vertices, faces)
    volume, area = _patch_volumes(oriented, patch)
    inside_out = volume < -_SMALLEST_VOLUME * area**1.5
    flipped = inside_out[patch]
    faces[flipped] = faces[flipped][:, ::-1]
    return oriented


def _edges(mesh: Mesh) -> tuple[Integers, Floats]:
    """Number the undirected edges: (3 m,) per triangle's side, and its direction, 1 or -1."""
    ends = mesh.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    keys = ends.min(axis=1) * len(mesh.vertices) + ends.max(axis=1)
    _, number = np.unique(keys, return_inverse=True)
    return number.reshape(-1), np.where(ends[:, 0] < ends[:, 1], 1.0, -1.0)


def _components(edges: Integers) -> Integers:
    """Number the components of triangles that share edges: (m,)."""
    num_faces = len(edges) // 3
    sides = np.repeat(np.arange(num_faces), 3)
    size = num_faces + int(edges.max()) + 1
    graph = coo_array((np.ones(len(edges), bool), (sides, num_faces + edges)), (size, size))
    label = connected_components(graph, directed=False)[1][:num_faces]
    return np.unique(label, return_inverse=True)[1].reshape(-1)


def _patch_volumes(mesh: Mesh, patch: Integers) -> tuple[Floats, Floats]:
    """Give the signed volume and the area of each patch, as seen from its middle."""
    corners = mesh.corners
    normals = _normals(corners)
    areas = np.linalg.norm(normals, axis=1) / 2
    area: Floats = np.bincount(patch, areas).astype(np.float64)
    centres = corners.mean(axis=1)
    sums = np.stack([np.bincount(patch, areas * c) for c in centres.T], axis=1)
    middle = sums / np.maximum(area, 1e-300)[:, None]
    heights = ((centres - middle[patch]) * normals).sum(axis=1)
    volume: Floats = np.bincount(patch, heights) / 6
    return volume, area


def _normals(corners: Floats) -> Floats:
    """Give normals of triangles (m, 3, 3), twice as long as their areas: (m, 3)."""
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    return np.cross(first, second)


def normalise(mesh: Mesh, margin: float) -> Mesh:
    """Move and scale a mesh into the sphere of radius ``1 - margin``.

    The middle of the bounding box goes to 0, the farthest vertex to the sphere.

    Args:
        mesh: Cleaned: every vertex counts.
        margin: In [0, 1).
    """
    used = mesh.vertices[np.unique(mesh.faces)]
    centre = (used.min(axis=0) + used.max(axis=0)) / 2
    extent = np.abs(used - centre).max()  # first, since squares of very small numbers are 0
    radius = np.linalg.norm((used - centre) / extent, axis=1).max()
    return Mesh((mesh.vertices - centre) / extent * ((1 - margin) / radius), mesh.faces)
