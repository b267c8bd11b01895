"""Simple closed meshes from which solids are put together; z is up."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from trimesh import Trimesh

Point = Sequence[float] | np.ndarray

_SECTIONS = 24  # of a circle


def box(low: Point, high: Point) -> "Trimesh":
    """Make the box between two opposite corners."""
    import trimesh

    made: Trimesh = trimesh.creation.box(bounds=np.array([low, high], np.float64))
    return made


def rod(start: Point, stop: Point, radius: float, sections: int = _SECTIONS) -> "Trimesh":
    """Make a cylinder, or a prism of few sections, around the line between two points."""
    import trimesh

    made: Trimesh = trimesh.creation.cylinder(
        radius, segment=np.array([start, stop]), sections=sections
    )
    return made


def lathe(profile: Sequence[tuple[float, float]]) -> "Trimesh":
    """Turn a profile of (radius, height), from the axis up and back to it, around the z axis."""
    import trimesh

    return trimesh.creation.revolve(np.array(profile, np.float64), sections=_SECTIONS)


def sweep(path: np.ndarray, radius: float) -> "Trimesh":
    """Move a disc along a path (n, 3) in a plane y = const, ends closed.

    Args:
        path: Points in the plane, with no sharp turns.
        radius: Of the disc.
    """
    import trimesh

    tangents = np.gradient(path, axis=0)
    tangents /= np.linalg.norm(tangents, axis=1, keepdims=True)
    across = np.array([0.0, 1.0, 0.0])
    normals = np.cross(tangents, across)
    angle = np.linspace(0, 2 * np.pi, _SECTIONS, endpoint=False)
    circle = np.cos(angle)[:, None, None] * normals + np.sin(angle)[:, None, None] * across
    rings = (path + radius * circle).swapaxes(0, 1)  # (n, sections, 3)
    vertices = np.concatenate([rings.reshape(-1, 3), path[[0, -1]]])
    first = np.arange(_SECTIONS)
    second = np.roll(first, -1)
    faces = []
    for ring in range(len(path) - 1):
        a, b = first + ring * _SECTIONS, second + ring * _SECTIONS
        c, d = a + _SECTIONS, b + _SECTIONS
        faces += [np.stack([a, b, c], 1), np.stack([b, d, c], 1)]
    last = (len(path) - 1) * _SECTIONS
    start, stop = len(vertices) - 2, len(vertices) - 1
    faces.append(np.stack([second, first, np.full(_SECTIONS, start)], 1))
    faces.append(np.stack([first + last, second + last, np.full(_SECTIONS, stop)], 1))
    swept = trimesh.Trimesh(vertices, np.concatenate(faces), process=False)
    if swept.volume < 0:
        swept.invert()
    return swept


def prism(outline: np.ndarray, low: float, high: float) -> "Trimesh":
    """Raise an outline (n, 2), counter-clockwise and star-shaped around 0, from low to high."""
    import trimesh

    count = len(outline)
    floors = [np.column_stack([outline, np.full(count, z)]) for z in (low, high)]
    vertices = np.concatenate([*floors, [[0, 0, low], [0, 0, high]]])
    a = np.arange(count)
    b = np.roll(a, -1)
    sides = [np.stack([a, b, b + count], 1), np.stack([a, b + count, a + count], 1)]
    bottom = np.stack([b, a, np.full(count, 2 * count)], 1)
    top = np.stack([a + count, b + count, np.full(count, 2 * count + 1)], 1)
    return trimesh.Trimesh(vertices, np.concatenate([*sides, bottom, top]), process=False)


def union(parts: Sequence["Trimesh"]) -> "Trimesh":
    """Join closed meshes into one without inner surfaces."""
    import trimesh

    joined: Trimesh = trimesh.boolean.union(list(parts), engine="manifold")
    return joined


def without(solid: "Trimesh", holes: Sequence["Trimesh"]) -> "Trimesh":
    """Cut closed meshes out of another."""
    import trimesh

    cut: Trimesh = trimesh.boolean.difference([solid, *holes], engine="manifold")
    return cut
