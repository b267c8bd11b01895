"""glTF files, built accessor by accessor."""

import base64
import json
import os
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lightning_dws.errors import DataError
from lightning_dws.inrs.shapes.meshes import Mesh, clean, orient, read_mesh

SQUARE = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]], np.float32)
TETRAHEDRON = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], np.float32)
FACES = np.array([0, 2, 1, 0, 1, 3, 1, 2, 3, 0, 3, 2], np.uint8)
TYPES = {"f4": 5126, "u1": 5121, "i1": 5120, "u2": 5123, "i2": 5122, "u4": 5125}


class Builder:
    """Collects accessors into one buffer."""

    def __init__(self) -> None:
        self.data = b""
        self.accessors: list[dict[str, Any]] = []
        self.views: list[dict[str, Any]] = []

    def view(self, content: bytes, **options: Any) -> int:
        self.data += bytes(-len(self.data) % 4)
        place = {"buffer": 0, "byteOffset": len(self.data), "byteLength": len(content)}
        self.views.append(place | options)
        self.data += content
        return len(self.views) - 1

    def accessor(self, values: np.ndarray, **options: Any) -> int:
        kind = {1: "SCALAR", 2: "VEC3"}[values.ndim]
        described = {
            "count": len(values),
            "type": kind,
            "componentType": TYPES[values.dtype.str[1:]],
        }
        self.accessors.append({"bufferView": self.view(values.tobytes())} | described | options)
        return len(self.accessors) - 1

    def document(self, primitives: list[dict[str, Any]], **content: Any) -> dict[str, Any]:
        uri = "data:application/octet-stream;base64," + base64.b64encode(self.data).decode()
        return {
            "asset": {"version": "2.0"},
            "accessors": self.accessors,
            "bufferViews": self.views,
            "buffers": [{"uri": uri, "byteLength": len(self.data)}],
            "meshes": [{"primitives": primitives}],
            "nodes": [{"mesh": 0}],
            "scenes": [{"nodes": [0]}],
            "scene": 0,
        } | content


def primitive(builder: Builder, places: np.ndarray, corners: Any = None, **options: Any):
    made = {"attributes": {"POSITION": builder.accessor(places)}} | options
    if corners is not None:
        made["indices"] = builder.accessor(np.asarray(corners))
    return made


def tetrahedron(**content: Any) -> dict[str, Any]:
    builder = Builder()
    return builder.document([primitive(builder, TETRAHEDRON, FACES)], **content)


def read(folder: Path, document: dict[str, Any]) -> Mesh:
    (folder / "mesh.gltf").write_text(json.dumps(document))
    return read_mesh(folder / "mesh.gltf")


def volume_of(mesh: Mesh) -> float:
    a, b, c = mesh.corners.transpose(1, 0, 2)
    return float((np.cross(a, b) * c).sum() / 6)


def area_of(mesh: Mesh) -> float:
    a, b, c = mesh.corners.transpose(1, 0, 2)
    return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2)


def shifted(places: np.ndarray, by: float) -> np.ndarray:
    return places + np.array([by, 0, 0], np.float32)


def test_triangles(tmp_path):
    mesh = read(tmp_path, tetrahedron())
    np.testing.assert_array_equal(mesh.vertices, TETRAHEDRON)
    np.testing.assert_array_equal(mesh.faces, FACES.reshape(-1, 3))
    assert volume_of(mesh) == pytest.approx(1 / 6)


def test_strips_fans_and_triangles_without_indices(tmp_path):
    """Points and lines (modes 0 to 3) are no surface."""
    builder = Builder()
    document = builder.document(
        [
            primitive(builder, SQUARE, mode=5),
            primitive(builder, shifted(SQUARE, 2), np.uint8([0, 1, 3, 2]), mode=6),
            primitive(builder, shifted(SQUARE[:3], 4)),
            primitive(builder, SQUARE, mode=0),
            primitive(builder, SQUARE, mode=3),
        ]
    )
    mesh = read(tmp_path, document)
    assert mesh.faces.tolist() == [[0, 1, 2], [2, 1, 3], [4, 5, 7], [4, 7, 6], [8, 9, 10]]
    assert area_of(mesh) == pytest.approx(2.5)
    corners = mesh.corners
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert (normals[:, 2] > 0).all()


@pytest.mark.parametrize("has_data", [True, False])
def test_sparse_accessors_override_what_is_below_them(tmp_path, has_data):
    builder = Builder()
    part = primitive(builder, TETRAHEDRON * (1 if has_data else 3), FACES)
    moved = np.array([[5, 0, 0], [0, 6, 0], [0, 0, 7]], np.float32)
    places = builder.accessors[part["attributes"]["POSITION"]]
    if not has_data:
        del places["bufferView"]
    places["sparse"] = {
        "count": 3,
        "indices": {"bufferView": builder.view(bytes([1, 2, 3])), "componentType": 5121},
        "values": {"bufferView": builder.view(moved.tobytes())},
    }
    mesh = read(tmp_path, builder.document([part]))
    np.testing.assert_array_equal(mesh.vertices, [[0, 0, 0], *moved])
    assert volume_of(mesh) == pytest.approx(35)


def test_nodes_place_mirror_and_repeat_meshes(tmp_path):
    """A mirrored one keeps its outside out; what the scene does not show is not there."""
    quarter = 0.5**0.5
    nodes = [
        {"children": [1, 2], "translation": [10, 0, 0], "scale": [2, 2, 2]},
        {"mesh": 0, "rotation": [0, 0, quarter, quarter]},  # x to y
        {"mesh": 0, "matrix": [-1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 5, 1]},
        {"mesh": 0},
    ]
    content = {"nodes": nodes, "scenes": [{"nodes": [3]}, {"nodes": [0]}], "scene": 1}
    mesh = read(tmp_path, tetrahedron(**content))
    turned = [[10, 0, 0], [10, 2, 0], [8, 0, 0], [10, 0, 2]]
    mirrored = [[10, 0, 10], [8, 0, 10], [10, 2, 10], [10, 0, 12]]
    np.testing.assert_allclose(mesh.vertices, turned + mirrored, atol=1e-6)
    assert volume_of(mesh) == pytest.approx(2 * 8 / 6)
    content["scenes"] = []  # then all roots are shown
    assert len(read(tmp_path, tetrahedron(**content)).faces) == 12
    assert len(read(tmp_path, tetrahedron(nodes=[], scenes=[])).faces) == 4


def test_interleaved_and_quantised_positions(tmp_path):
    builder = Builder()
    records = b"".join(struct.pack("<4h", *(32767 * place).astype(int), 9) for place in TETRAHEDRON)
    builder.accessors.append(
        {
            "bufferView": builder.view(records, byteStride=8),
            "count": 4,
            "type": "VEC3",
            "componentType": 5122,
            "normalized": True,
        }
    )
    part = {"attributes": {"POSITION": 0}, "indices": builder.accessor(FACES)}
    required = ["KHR_mesh_quantization", "KHR_materials_unlit"]
    mesh = read(tmp_path, builder.document([part], extensionsRequired=required))
    np.testing.assert_array_equal(mesh.vertices, TETRAHEDRON)


def test_morph_targets_move_vertices_by_their_weights(tmp_path):
    builder = Builder()
    part = primitive(builder, TETRAHEDRON, FACES)
    part["targets"] = [{"POSITION": builder.accessor(TETRAHEDRON)}, {"NORMAL": 0}]
    document = builder.document([part])
    np.testing.assert_array_equal(read(tmp_path, document).vertices, TETRAHEDRON)
    document["meshes"][0]["weights"] = [0.5, 1]
    np.testing.assert_array_equal(read(tmp_path, document).vertices, TETRAHEDRON * 1.5)
    document["nodes"][0]["weights"] = [1, 0]
    np.testing.assert_array_equal(read(tmp_path, document).vertices, TETRAHEDRON * 2)


def as_glb(document: dict[str, Any]) -> bytes:
    uri = document["buffers"][0].pop("uri")
    binary = base64.b64decode(uri.partition(",")[2])
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text
    chunks += struct.pack("<I4s", len(binary), b"BIN\0") + binary
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


def test_glb_and_buffers_beside_the_file(tmp_path):
    content = as_glb(tetrahedron())
    (tmp_path / "mesh.glb").write_bytes(content)
    np.testing.assert_array_equal(read_mesh(tmp_path / "mesh.glb").vertices, TETRAHEDRON)
    (tmp_path / "mesh.glb").write_bytes(content[:-1])
    with pytest.raises(DataError, match="bytes are stated"):
        read_mesh(tmp_path / "mesh.glb")
    document = tetrahedron()
    data = base64.b64decode(document["buffers"][0]["uri"].partition(",")[2])
    (tmp_path / "a b.bin").write_bytes(data)
    document["buffers"][0]["uri"] = "a%20b.bin"
    np.testing.assert_array_equal(read(tmp_path, document).vertices, TETRAHEDRON)
    inner = tmp_path / "inner"
    inner.mkdir()
    document["buffers"][0]["uri"] = "../a%20b.bin"
    with pytest.raises(DataError, match="a buffer outside the file's folder"):
        read(inner, document)
    document["buffers"][0]["uri"] = "gone.bin"
    with pytest.raises(DataError, match=r"its buffer 'gone.bin' cannot be read"):
        read(inner, document)
    os.mkfifo(inner / "gone.bin")
    with pytest.raises(DataError, match=r"its buffer 'gone.bin' is not a regular file"):
        read(inner, document)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"asset": {"version": "1.0"}}, "glTF 1.0, expected 2.0"),
        ({"extensionsRequired": ["KHR_draco_mesh_compression"]}, "extension KHR_draco"),
        ({"nodes": [{"mesh": 0, "skin": 0}]}, "in the pose of a skeleton"),
        ({"nodes": [{"mesh": 0, "extensions": {"EXT_mesh_gpu_instancing": {}}}]}, "instancing"),
        ({"nodes": [{"mesh": 0, "children": [0]}]}, "node 0 hangs below"),
        ({"nodes": [{"mesh": -1}]}, "index -1, expected at least 0"),
        ({"nodes": [{"mesh": 7}]}, "no sound glTF"),
        ({"buffers": [{"uri": "data:;base64,AAAA", "byteLength": 9}]}, "3 bytes states 9"),
        ({"buffers": [{"uri": "data:;base64,?", "byteLength": 1}]}, "no base64"),
        ({"buffers": [{"byteLength": 0}]}, "a view of bytes 0 to 48 of 0"),
        ({"meshes": [{"primitives": [{"attributes": {}}]}]}, "no sound glTF"),
        ({"accessors": [{"count": 2**40, "type": "VEC3", "componentType": 5126}]}, "of .* zeros"),
    ],
)
def test_what_is_not_read_has_its_reason(tmp_path, content, reason):
    with pytest.raises(DataError, match=reason):
        read(tmp_path, tetrahedron(**content))


def test_malformed_primitives_are_one_error(tmp_path):
    for change, reason in (
        ({"mode": 7}, "mode 7, expected 0 to 6"),
        ({"indices": 0}, "a face of vertex|triangles of"),
    ):
        document = tetrahedron()
        document["meshes"][0]["primitives"][0] |= change
        with pytest.raises(DataError, match=reason):
            read(tmp_path, document)


def test_damaged_files_are_meshes_or_one_error(tmp_path):
    generator = np.random.default_rng(0)
    path = tmp_path / "mesh.glb"
    whole = as_glb(tetrahedron())
    for _ in range(100):
        content = bytearray(whole)
        for place in generator.integers(len(content), size=2):
            content[place] = generator.integers(256)
        path.write_bytes(content)
        with suppress(DataError):
            orient(clean(read_mesh(path)))
