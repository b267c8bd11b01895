"""Polygons cut into triangles, concave ones too."""

import numpy as np
from numpy.typing import NDArray

from lightning_dws.inrs.shapes.mesh_files.polygons import Floats, Integers, Polygons, gather

_ROUNDING = 1e-12  # of a triangle's area, in areas of its polygon


def triangulate(polygons: Polygons) -> Integers:
    """Cut polygons into triangles: (k, 3) indices of vertices, in the polygons' order.

    A polygon's plane is that of Newell's normal, the sum of the cross products around it. A fan
    from the first corner is right where none of its triangles is turned against that; the others
    are cut there by manifold3d's ear clipping. Those with fewer than three corners have none.
    """
    first = np.cumsum(polygons.sizes) - polygons.sizes
    num_triangles = np.maximum(polygons.sizes - 2, 0)
    owner = np.repeat(np.arange(len(first)), num_triangles)
    second = gather(first + 1, num_triangles)
    fans = polygons.corners[np.stack([first[owner], second, second + 1], axis=1)]
    with np.errstate(all="ignore"):  # what is not finite is told where meshes are cleaned
        turned, newell = _find_turned(polygons.vertices[fans], owner, num_triangles)
    if not turned.any():
        return fans
    kept = ~turned[owner]
    faces, owners = [fans[kept]], [owner[kept]]
    for index in np.flatnonzero(turned):
        corners = polygons.corners[first[index] : first[index] + polygons.sizes[index]]
        cut = corners[_clip_ears(polygons.vertices[corners], newell[index])]
        faces.append(cut)
        owners.append(np.full(len(cut), index))
    order = np.argsort(np.concatenate(owners), kind="stable")
    return np.concatenate(faces)[order]


def _find_turned(
    fans: Floats, owner: Integers, num_triangles: Integers
) -> tuple[NDArray[np.bool_], Floats]:
    """Tell which polygons (m,) have a fan with a turned triangle; give their normals (m, 3).

    Args:
        fans: (k, 3, 3): the corners of all triangles of all fans.
        owner: (k,): the polygon of each.
        num_triangles: (m,): how many each polygon has.
    """
    normals = np.cross(fans[:, 1] - fans[:, 0], fans[:, 2] - fans[:, 0])
    count = len(num_triangles)
    sums = [np.bincount(owner, axis, count) for axis in normals.T]
    newell: Floats = np.stack(sums, axis=1).astype(np.float64)
    heights = (normals * newell[owner]).sum(axis=1)
    limits = -_ROUNDING * (newell * newell).sum(axis=1)
    turned = np.bincount(owner, heights < limits[owner], count) > 0
    return turned & (num_triangles > 1), newell


def _clip_ears(points: Floats, normal: Floats) -> Integers:
    """Cut one polygon (n, 3), seen along its normal: (n - 2, 3) indices of its corners."""
    import manifold3d

    axis = int(np.abs(normal).argmax())
    plane = points[:, [(axis + 1) % 3, (axis + 2) % 3]]
    if normal[axis] < 0:
        plane = plane[:, ::-1]
    plane = plane - plane.mean(axis=0)
    plane = np.ascontiguousarray(plane / np.abs(plane).max())
    return np.asarray(manifold3d.triangulate([plane]), np.int64).reshape(-1, 3)
