"""What INRs of shapes are fitted to and compared with: signed distances at points, and a grid."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise
from torch import Tensor

from lightning_dws.errors import DataError
from lightning_dws.files import check_regular, json_sha256, payload_sha256, write_atomically
from lightning_dws.inrs.shapes.mesh_files.polygons import Floats
from lightning_dws.inrs.shapes.meshes import Mesh, normalise
from lightning_dws.inrs.shapes.signed_distance import SignedDistance
from lightning_dws.randomness import stream_seed

VERSION = 1  # of what is drawn and how: another version samples anew
_METADATA_KEY = "lightning_dws"


@dataclass(frozen=True)
class Sampling:
    """Where the signed distance of a shape is sampled.

    Attributes:
        num_points: Points per shape.
        near_share: Share of them near the surface; the others are uniform in the cube [-1, 1]^3.
        near_scales: Standard deviations of the distances from the surface, in equal shares.
        margin: Shapes lie in the sphere of radius ``1 - margin``.
        grid_size: Points along each side of the grid in [-1, 1]^3 on which insides are compared.
        seed: Of the points.

    Raises:
        ValueError: An argument out of its range.
    """

    num_points: int = 16384
    near_share: float = 0.7
    near_scales: tuple[float, ...] = (0.01, 0.03, 0.1)
    margin: float = 0.1
    grid_size: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "near_scales", tuple(self.near_scales))
        if self.num_points < 1:
            raise ValueError(f"num_points must be at least 1, got {self.num_points}")
        if not 0 <= self.near_share <= 1:
            raise ValueError(f"near_share must be in [0, 1], got {self.near_share}")
        if not self.near_scales or not all(0 <= scale < 1 for scale in self.near_scales):
            raise ValueError(f"near_scales must be numbers in [0, 1), got {self.near_scales}")
        if not 0 <= self.margin < 1:
            raise ValueError(f"margin must be in [0, 1), got {self.margin}")
        if not 2 <= self.grid_size <= 256:
            raise ValueError(f"grid_size must be in [2, 256], got {self.grid_size}")

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all that decides the samples of a mesh."""
        return json_sha256({**asdict(self), "version": VERSION})


@dataclass(frozen=True, eq=False)
class ShapeSample:
    """A shape's signed distance function at some points, and its inside on a grid.

    Attributes:
        points: (N, 3) float32, in random order.
        distances: (N, 1) float32, negative inside.
        inside: (grid_size^3,) bool, x slowest.
    """

    points: Tensor
    distances: Tensor
    inside: Tensor


def grid_points(size: int) -> Tensor:
    """Give the points of a grid over [-1, 1]^3, x slowest: (size^3, 3) float32."""
    axis = torch.linspace(-1, 1, size)
    return torch.cartesian_prod(axis, axis, axis)


def sample_shape(mesh: Mesh, sampling: Sampling, object_id: int) -> ShapeSample:
    """Sample the signed distance function of a cleaned mesh, put into the unit sphere.

    The points depend on (the sampling's seed, object, mesh) alone.

    Raises:
        DataError: The mesh encloses no volume anywhere.
    """
    mesh = normalise(mesh, sampling.margin)
    seed = stream_seed(sampling.seed, object_id, "signed distance samples")
    points = _draw_points(mesh, sampling, np.random.default_rng(seed)).astype(np.float32)
    function = SignedDistance(mesh)
    distances = function(points)
    inside = function.is_inside(grid_points(sampling.grid_size).numpy())
    if not inside.any() and not (distances < 0).any():
        raise DataError("encloses no volume")
    return ShapeSample(
        torch.from_numpy(points),
        torch.from_numpy(distances.astype(np.float32))[:, None],
        torch.from_numpy(inside),
    )


def _draw_points(mesh: Mesh, sampling: Sampling, generator: np.random.Generator) -> Floats:
    num_near = round(sampling.near_share * sampling.num_points)
    surface = _draw_on_surface(mesh, num_near, generator)
    scales = np.resize(np.array(sampling.near_scales), num_near)
    near = surface + scales[:, None] * generator.standard_normal((num_near, 3))
    uniform = generator.uniform(-1, 1, (sampling.num_points - num_near, 3))
    points = np.concatenate([near.clip(-1, 1), uniform])
    return points[generator.permutation(len(points))]


def _draw_on_surface(mesh: Mesh, count: int, generator: np.random.Generator) -> Floats:
    """Draw points uniform on the triangles: (count, 3)."""
    corners = mesh.corners
    sides = corners[:, 1:] - corners[:, :1]
    areas = np.linalg.norm(np.cross(sides[:, 0], sides[:, 1]), axis=1)
    ends = areas.cumsum()
    chosen = np.searchsorted(ends, generator.uniform(0, ends[-1], count), side="right")
    chosen = chosen.clip(max=len(areas) - 1)
    shares = generator.uniform(size=(count, 2))
    beyond = shares.sum(axis=1) > 1
    shares[beyond] = 1 - shares[beyond]
    points: Floats = corners[chosen, 0] + np.einsum("ni,nid->nd", shares, sides[chosen])
    return points


def write_sample(path: Path, sample: ShapeSample, fingerprint: str) -> None:
    """Write a sample atomically.

    Raises:
        DataError: The file cannot be written.
    """
    tensors = {
        "points": sample.points,
        "distances": sample.distances,
        "inside": torch.from_numpy(np.packbits(sample.inside.numpy())),
    }
    note = json.dumps(
        {"fingerprint": fingerprint, "sha256": payload_sha256(tensors)}, sort_keys=True
    )
    write_atomically(path, serialise(tensors, {_METADATA_KEY: note}))


def read_sample(path: Path, sampling: Sampling, fingerprint: str) -> ShapeSample:
    """Read a sample that was written before.

    Raises:
        DataError: There is none, it is damaged, or of other settings.
    """
    check_regular(path)
    try:
        with safe_open(path, framework="pt") as file:
            note = json.loads((file.metadata() or {})[_METADATA_KEY])
            tensors = {name: file.get_tensor(name) for name in ("points", "distances", "inside")}
        if note["fingerprint"] != fingerprint or note["sha256"] != payload_sha256(tensors):
            raise ValueError("altered, or of other settings")
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        if shapes != _stored_shapes(sampling):
            raise ValueError(f"shapes {shapes}, expected {_stored_shapes(sampling)}")
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: not a readable sample of a shape ({error})") from error
    bits: NDArray[np.uint8] = tensors["inside"].numpy()
    inside = np.unpackbits(bits, count=sampling.grid_size**3).astype(bool)
    return ShapeSample(tensors["points"], tensors["distances"], torch.from_numpy(inside))


def _stored_shapes(sampling: Sampling) -> dict[str, tuple[int, ...]]:
    return {
        "points": (sampling.num_points, 3),
        "distances": (sampling.num_points, 1),
        "inside": (-(-(sampling.grid_size**3) // 8),),
    }
