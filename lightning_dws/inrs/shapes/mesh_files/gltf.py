"""glTF 2.0, as .gltf and .glb: the triangles of a scene."""

import base64
import binascii
import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from lightning_dws.errors import DataError
from lightning_dws.inrs.shapes.mesh_files.polygons import (
    Floats,
    Integers,
    Polygons,
    strip_triangles,
)

_COMPONENTS = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}
_POINTS_AND_LINES = (0, 1, 2, 3)
_TRIANGLES, _STRIP, _FAN = 4, 5, 6
_HARMLESS = ("KHR_materials_", "KHR_texture_", "EXT_texture_", "KHR_lights_")  # to a shape
_QUANTIZATION = "KHR_mesh_quantization"  # positions as integers, which are read anyway
_MOST_ZEROS = 2**26  # that an accessor without data may stand for
_INSTANCES = "EXT_mesh_gpu_instancing"
_COMPRESSED = "EXT_meshopt_compression"


def read_gltf(path: Path) -> Polygons:
    """Read the triangles, strips and fans of a glTF file's scene, each node's where it is placed.

    Sparse accessors and the morph targets' own weights count; points and lines do not. All buffers
    must lie in the file or in its folder.

    Raises:
        DataError: It is no glTF 2.0, is not whole, or needs what is not read here: skins,
            instances and compressed meshes.
    """
    try:
        return _Document.open(path).polygons()
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        # a JSON of another structure leads to any of these
        raise DataError(f"no sound glTF ({type(error).__name__}: {error})") from error


@dataclass(frozen=True, eq=False)
class _Document:
    """A glTF file.

    Attributes:
        content: Its JSON.
        binary: The second chunk of a .glb, or None.
        folder: Of the file, which its buffers must not leave.
    """

    content: dict[str, Any]
    binary: bytes | None
    folder: Path

    @classmethod
    def open(cls, path: Path) -> "_Document":
        data = path.read_bytes()
        text, binary = _unpack(data) if data[:4] == b"glTF" else (data, None)
        document = cls(json.loads(text), binary, path.resolve().parent)
        version = str(document.content["asset"]["version"])
        if not version.startswith("2."):
            raise DataError(f"glTF {version}, expected 2.0")
        for name in document.content.get("extensionsRequired", []):
            if name != _QUANTIZATION and not name.startswith(_HARMLESS):
                raise DataError(f"needs the extension {name}, which is not read")
        return document

    def polygons(self) -> Polygons:
        vertices, faces, start = [np.empty((0, 3))], [np.empty((0, 3), np.int64)], 0
        for mesh, weights, matrix in self._placed_meshes():
            for primitive in mesh["primitives"]:
                if primitive.get("mode", _TRIANGLES) in _POINTS_AND_LINES:
                    continue
                places = self._positions(primitive, weights)
                triangles = self._triangles(primitive, len(places))
                with np.errstate(all="ignore"):  # not finite: told where meshes are cleaned
                    vertices.append(places @ matrix[:3, :3].T + matrix[:3, 3])
                    is_mirrored = np.linalg.det(matrix[:3, :3]) < 0
                faces.append(start + (triangles[:, ::-1] if is_mirrored else triangles))
                start += len(places)
        return Polygons.of_triangles(np.concatenate(vertices), np.concatenate(faces))

    def _placed_meshes(self) -> Iterator[tuple[dict[str, Any], list[float], Floats]]:
        """Give each mesh that a scene shows, its morph targets' weights and its matrix (4, 4)."""
        if not self.content.get("nodes"):
            for mesh in self.content.get("meshes", []):
                yield mesh, mesh.get("weights", []), np.eye(4)
            return
        pending = [(index, np.eye(4)) for index in self._roots()]
        seen: set[int] = set()
        while pending:
            index, above = pending.pop(0)
            if index in seen:
                raise DataError(f"node {index} hangs below two others, or below itself")
            seen.add(index)
            node = self._item("nodes", index)
            if _INSTANCES in node.get("extensions", {}):
                raise DataError(f"needs the extension {_INSTANCES}, which is not read")
            matrix = above @ _local_matrix(node)
            pending += [(child, matrix) for child in node.get("children", [])]
            if "mesh" in node:
                if "skin" in node:
                    raise DataError("a mesh in the pose of a skeleton, which is not read")
                mesh = self._item("meshes", node["mesh"])
                yield mesh, node.get("weights", mesh.get("weights", [])), matrix

    def _roots(self) -> list[int]:
        if self.content.get("scenes"):
            scene = self._item("scenes", self.content.get("scene", 0))
            return list(scene.get("nodes", []))
        nodes = self.content["nodes"]
        children = {child for node in nodes for child in node.get("children", [])}
        return [index for index in range(len(nodes)) if index not in children]

    def _positions(self, primitive: dict[str, Any], weights: list[float]) -> Floats:
        """Give the vertices (n, 3) of a primitive, moved by its morph targets."""
        places = self._accessor(primitive["attributes"]["POSITION"]).astype(np.float64)
        for weight, target in zip(weights, primitive.get("targets", []), strict=False):
            if weight and "POSITION" in target:
                places = places + weight * self._accessor(target["POSITION"])
        if places.shape[1:] != (3,):
            raise DataError(f"positions of {places.shape[1]} numbers, expected 3")
        return places

    def _triangles(self, primitive: dict[str, Any], num_vertices: int) -> Integers:
        """Give the triangles (m, 3) of a primitive, however it lists them."""
        corners = np.arange(num_vertices)
        if "indices" in primitive:
            corners = self._accessor(primitive["indices"])[:, 0].astype(np.int64)
        mode = primitive.get("mode", _TRIANGLES)
        if mode == _TRIANGLES:
            if len(corners) % 3:
                raise DataError(f"triangles of {len(corners)} corners")
            return corners.reshape(-1, 3)
        if mode == _STRIP:
            return strip_triangles(corners)
        if mode == _FAN:
            centre = np.broadcast_to(corners[:1], max(len(corners) - 2, 0))
            return np.stack([centre, corners[1:-1], corners[2:]], axis=1)
        raise DataError(f"a primitive of mode {mode}, expected 0 to 6")

    def _accessor(self, index: int) -> NDArray[Any]:
        """Read the numbers of an accessor, with what a sparse one puts in their place: (n, w)."""
        accessor = self._item("accessors", index)
        count, width = accessor["count"], _WIDTHS[accessor["type"]]
        dtype = np.dtype(_COMPONENTS[accessor["componentType"]])
        if "bufferView" in accessor:
            values = self._values(accessor, count, width, dtype)
        elif 0 <= count <= _MOST_ZEROS:
            values = np.zeros((count, width), dtype)
        else:
            raise DataError(f"an accessor of {count} zeros")
        if "sparse" in accessor:
            sparse = accessor["sparse"]
            places = np.dtype(_COMPONENTS[sparse["indices"]["componentType"]])
            where = self._values(sparse["indices"], sparse["count"], 1, places)[:, 0]
            values = values.copy()
            values[where] = self._values(sparse["values"], sparse["count"], width, dtype)
        if accessor.get("normalized") and dtype.kind != "f":
            return np.maximum(values / np.iinfo(dtype).max, -1)
        return values

    def _values(
        self, place: dict[str, Any], count: int, width: int, dtype: np.dtype[Any]
    ) -> NDArray[Any]:
        """Read numbers (count, width) where an accessor, or a part of a sparse one, has them."""
        view = self._item("bufferViews", place["bufferView"])
        if _COMPRESSED in view.get("extensions", {}):
            raise DataError(f"needs the extension {_COMPRESSED}, which is not read")
        start, length = view.get("byteOffset", 0), view["byteLength"]
        buffer = self._buffers[_checked(view["buffer"])]
        if start < 0 or length < 0 or start + length > len(buffer):
            raise DataError(f"a view of bytes {start} to {start + length} of {len(buffer)}")
        stride = view.get("byteStride", width * dtype.itemsize)
        offset = place.get("byteOffset", 0)
        # NumPy refuses what does not lie in the buffer
        return np.ndarray(
            (count, width), dtype, buffer[start : start + length], offset, (stride, dtype.itemsize)
        )

    @cached_property
    def _buffers(self) -> list[bytes]:
        buffers = []
        for number, buffer in enumerate(self.content["buffers"]):
            if "uri" in buffer:
                data = _read_uri(buffer["uri"], self.folder)
            elif number == 0 and self.binary is not None:
                data = self.binary
            else:
                data = b""  # of compressed meshes, for which a view says so
            if len(data) < buffer["byteLength"] and data:
                raise DataError(f"a buffer of {len(data)} bytes states {buffer['byteLength']}")
            buffers.append(data[: buffer["byteLength"]])
        return buffers

    def _item(self, kind: str, index: int) -> dict[str, Any]:
        item: dict[str, Any] = self.content[kind][_checked(index)]
        return item


def _checked(index: int) -> int:
    if index < 0:  # which Python would count from the end
        raise DataError(f"index {index}, expected at least 0")
    return index


def _local_matrix(node: dict[str, Any]) -> Floats:
    """Give a node's matrix (4, 4), whether it is given or made of its parts."""
    if "matrix" in node:
        return np.array(node["matrix"], np.float64).reshape(4, 4).T
    matrix = np.eye(4)
    rotation = Rotation.from_quat(node.get("rotation", [0, 0, 0, 1])).as_matrix()
    matrix[:3, :3] = rotation * np.array(node.get("scale", [1, 1, 1]), np.float64)
    matrix[:3, 3] = node.get("translation", [0, 0, 0])
    return matrix


def _unpack(data: bytes) -> tuple[bytes, bytes | None]:
    """Give the JSON and the binary chunk of a .glb."""
    if len(data) < 12:
        raise DataError("ends within its header")
    version, length = struct.unpack_from("<II", data, 4)
    if version != 2:
        raise DataError(f"GLB {version}, expected 2")
    if length > len(data):
        raise DataError(f"{length} bytes are stated, {len(data)} are there")
    chunks: dict[bytes, bytes] = {}
    position = 12
    while position + 8 <= length:
        size, kind = struct.unpack_from("<I4s", data, position)
        if position + 8 + size > length:
            raise DataError(f"a chunk of {size} bytes reaches beyond the end")
        chunks.setdefault(kind, data[position + 8 : position + 8 + size])
        position += 8 + size
    if b"JSON" not in chunks:
        raise DataError("no JSON in it")
    return chunks[b"JSON"], chunks.get(b"BIN\0")


def _read_uri(uri: str, folder: Path) -> bytes:
    """Read a buffer that is written into the JSON, or lies in the file's folder."""
    if uri.startswith("data:"):
        header, _, text = uri.partition(",")
        if not header.endswith(";base64"):
            raise DataError(f"a buffer as {header[:40]!r}, expected base64")
        try:
            return base64.b64decode(text, validate=True)
        except binascii.Error as error:
            raise DataError(f"a buffer that is no base64 ({error})") from error
    path = (folder / unquote(uri)).resolve()
    if not path.is_relative_to(folder):
        raise DataError(f"a buffer outside the file's folder: {uri[:80]!r}")
    if path.exists() and not path.is_file():  # reading a pipe or a device may never end
        raise DataError(f"its buffer {uri[:80]!r} is not a regular file")
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"its buffer {uri[:80]!r} cannot be read ({error.strerror})") from error
