"""Polygons in space, of any number of corners each, as files of meshes hold them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_dws.errors import DataError

Floats = NDArray[np.floating[Any]]
Integers = NDArray[np.signedinteger[Any]]


@dataclass(frozen=True, eq=False)
class Polygons:
    """Polygons that share vertices.

    Attributes:
        vertices: (n, 3) float64.
        corners: (c,) int64 indices of vertices, polygon by polygon.
        sizes: (m,) int64, the number of each polygon's corners; with fewer than three it is an
            edge or a point, which bounds nothing.

    Raises:
        DataError: A corner is not among the vertices.
    """

    vertices: Floats
    corners: Integers
    sizes: Integers

    def __post_init__(self) -> None:
        count = len(self.vertices)
        wrong = (self.corners < 0) | (self.corners >= count)
        if wrong.any():
            raise DataError(f"a face of vertex {self.corners[wrong][0]}, there are {count}")

    @classmethod
    def of_triangles(cls, vertices: Floats, faces: Integers) -> "Polygons":
        """Take triangles (m, 3)."""
        return cls(vertices, faces.reshape(-1), np.full(len(faces), 3))


def gather(starts: Integers, sizes: Integers) -> Integers:
    """Give the indices of runs within a flat array: start, start + 1, ... of each.

    >>> gather(np.array([10, 20]), np.array([2, 3])).tolist()
    [10, 11, 20, 21, 22]
    """
    ends = np.cumsum(sizes)
    total = int(ends[-1]) if len(ends) else 0
    indices: Integers = np.arange(total) + np.repeat(starts - (ends - sizes), sizes)
    return indices


def strip_triangles(corners: Integers) -> Integers:
    """Give the triangles (n - 2, 3) of a strip (n,), whose every second one runs the other way."""
    first = np.arange(max(len(corners) - 2, 0))
    odd = first % 2
    triangles: Integers = corners[np.stack([first + odd, first + 1 - odd, first + 2], axis=1)]
    return triangles
