"""Pictures of shapes: marching cubes of INRs, and meshes drawn with light and shade.

Drawing needs neither a display nor OpenGL: triangles are covered with points, and of the points in
a pixel the nearest counts.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from lightning_dws.errors import DataError
from lightning_dws.inrs.shapes.mesh_files.polygons import Floats, Integers
from lightning_dws.inrs.shapes.meshes import Mesh
from lightning_dws.inrs.shapes.samples import grid_points
from lightning_dws.inrs.siren import evaluate_field
from lightning_dws.weight_space import WeightBatch

if TYPE_CHECKING:
    pass

_SPLATS_AT_ONCE = 2**21
_SPLATS_PER_PIXEL = 1.4  # along each side of a triangle
_SUPERSAMPLING = 2
_AZIMUTH_DEGREES, _ELEVATION_DEGREES = 35.0, 25.0
_LIGHT = (-0.45, 0.75, 0.5)  # to the right, up, towards the viewer
_COLOUR = (0.62, 0.72, 0.86)
_AMBIENT = 0.35
_MESH_FORMATS = (".obj", ".ply", ".stl", ".off", ".glb")


def evaluate_on_grid(inr: WeightBatch, size: int) -> Tensor:
    """Evaluate one INR with 3 inputs on a grid over [-1, 1]^3: (size, size, size) on the CPU."""
    points = grid_points(size).to(inr.parameters)
    with torch.no_grad():
        values = evaluate_field(inr, points)
    return values.float().cpu().view(size, size, size)


def extract_surface(values: Tensor) -> Mesh | None:
    """Find where values on a grid over [-1, 1]^3 are 0, by marching cubes.

    Args:
        values: (n, n, n), x first, negative inside.

    Returns:
        A mesh whose triangles face outwards; None where no value is 0.
    """
    from skimage.measure import marching_cubes

    if not (values.min() < 0 < values.max()) or not bool(values.isfinite().all()):
        return None
    step = 2 / (len(values) - 1)
    vertices, faces, _, _ = marching_cubes(values.numpy(), 0.0, spacing=(step,) * 3)
    return Mesh(vertices.astype(np.float64) - 1, faces.astype(np.int64))


def write_mesh(mesh: Mesh, path: Path) -> None:
    """Write a mesh in the format that the file's name tells: .obj, .ply, .stl, .off or .glb.

    Raises:
        DataError: Another format, or the file cannot be written.
    """
    import trimesh

    if path.suffix.lower() not in _MESH_FORMATS:
        raise DataError(f"{path}: expected a name that ends in {', '.join(_MESH_FORMATS)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        trimesh.Trimesh(mesh.vertices, mesh.faces, process=False).export(path)
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{path}: cannot be written ({error})") from error


def render_shapes(batch: WeightBatch, size: int, pixels: int = 96) -> Tensor:
    """Draw the shapes that 3-D INRs encode: (B, pixels, pixels, 3) in [0, 1].

    Args:
        batch: INRs with 3 inputs, negative inside the shape.
        size: Of the grid for marching cubes.
        pixels: Height and width of the pictures.
    """
    surfaces = [
        extract_surface(evaluate_on_grid(batch[i : i + 1], size)) for i in range(len(batch))
    ]
    pictures = [render_mesh(surface, pixels) for surface in surfaces]
    return torch.stack(pictures) if pictures else torch.empty(0, pixels, pixels, 3)


def render_mesh(mesh: Mesh | None, pixels: int) -> Tensor:
    """Draw a mesh in the unit sphere from above and aside: (pixels, pixels, 3) in [0, 1].

    Args:
        mesh: None leaves the picture white.
        pixels: Height and width of the picture.
    """
    side = pixels * _SUPERSAMPLING
    image = np.ones((side * side, 3))
    if mesh is not None:
        corners = mesh.corners @ _camera().T
        shades = _shade(corners)
        depth = np.full(side * side, -np.inf)
        # twice: which point of a pixel is nearest is known once all were seen
        for pixel, height, _ in _splats(corners, side):
            np.maximum.at(depth, pixel, height)
        for pixel, height, triangle in _splats(corners, side):
            nearest = height >= depth[pixel]
            image[pixel[nearest]] = shades[triangle[nearest], None] * np.array(_COLOUR)
    image = image.reshape(pixels, _SUPERSAMPLING, pixels, _SUPERSAMPLING, 3).mean(axis=(1, 3))
    return torch.from_numpy(image).float()


def _camera() -> Floats:
    """Give the rotation to the camera's axes: right, up, towards the viewer."""
    azimuth, elevation = math.radians(_AZIMUTH_DEGREES), math.radians(_ELEVATION_DEGREES)
    right = np.array([math.cos(azimuth), math.sin(azimuth), 0.0])
    viewer = np.array([math.sin(azimuth), -math.cos(azimuth), 0.0]) * math.cos(elevation)
    viewer[2] = math.sin(elevation)
    return np.stack([right, np.cross(viewer, right), viewer])


def _shade(corners: Floats) -> Floats:
    """Give the brightness of triangles (m, 3, 3), both sides alike: (m,)."""
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True).clip(1e-300)
    normals *= np.where(normals[:, 2:] < 0, -1.0, 1.0)
    light = np.array(_LIGHT) / np.linalg.norm(_LIGHT)
    shade: Floats = _AMBIENT + (1 - _AMBIENT) * np.clip(normals @ light, 0, 1)
    return shade


def _splats(corners: Floats, side: int) -> Iterator[tuple[Integers, Floats, Integers]]:
    """Cover triangles (m, 3, 3) with points; give their pixels, heights and triangles, in parts."""
    scaled = (corners + 1) * (side / 2)
    lengths = np.linalg.norm((np.roll(scaled, -1, axis=1) - scaled)[..., :2], axis=2)
    first = lengths.argmax(axis=1)
    order = (first[:, None] + np.arange(3)) % 3  # the longest side comes first
    scaled = np.take_along_axis(scaled, order[:, :, None], axis=1)
    longest = lengths.max(axis=1)
    sides = scaled[:, 1:] - scaled[:, :1]
    doubled = np.abs(sides[:, 0, 0] * sides[:, 1, 1] - sides[:, 0, 1] * sides[:, 1, 0])
    along = np.ceil(longest * _SPLATS_PER_PIXEL).astype(np.int64) + 2
    up = np.ceil(doubled / longest.clip(1e-9) * _SPLATS_PER_PIXEL).astype(np.int64) + 2
    ends = (along * up).cumsum()
    start = 0
    while start < len(ends):
        before = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + _SPLATS_AT_ONCE)))
        counts = (along * up)[start:stop]
        triangle = np.repeat(np.arange(start, stop), counts)
        number = np.arange(len(triangle)) - np.repeat(counts.cumsum() - counts, counts)
        u = (number % along[triangle] / (along[triangle] - 1))[:, None]
        v = (number // along[triangle] / (up[triangle] - 1))[:, None]
        points = scaled[triangle, 0] + (1 - v) * u * sides[triangle, 0] + v * sides[triangle, 1]
        column = points[:, 0].astype(np.int64).clip(0, side - 1)
        row = (side - points[:, 1]).astype(np.int64).clip(0, side - 1)
        yield row * side + column, points[:, 2], triangle
        start = stop
