"""Files of meshes against plain Python: every corner, area and volume, or the reason."""

import struct
import tarfile
import zipfile
from contextlib import suppress
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from plain_meshes import (
    CUBE,
    Polyhedron,
    as_files,
    as_obj,
    as_off,
    as_ply,
    prism,
    read_plain_obj,
    read_plain_off,
)

from lightning_dws.errors import DataError
from lightning_dws.inrs import MeshFolder, Solids
from lightning_dws.inrs.shapes import mesh_folder
from lightning_dws.inrs.shapes.mesh_files import READING_VERSION
from lightning_dws.inrs.shapes.meshes import Mesh, clean, orient, read_mesh
from lightning_dws.inrs.shapes.signed_distance import SignedDistance

L_OUTLINE = [(0.0, 0.0), (2.0, 0.0), (2.0, 1.0), (1.0, 1.0), (1.0, 2.0), (0.0, 2.0)]
PENTAGON = [(1.0, 0.0), (0.3, 1.0), (-0.8, 0.6), (-0.8, -0.6), (0.3, -1.0)]


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def normals_of(mesh: Mesh) -> np.ndarray:
    """Half the cross product of each triangle: its area's vector."""
    corners = mesh.corners
    return np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]) / 2


def area_of(mesh: Mesh) -> float:
    return float(np.linalg.norm(normals_of(mesh), axis=1).sum())


def volume_of(mesh: Mesh) -> float:
    return float((mesh.corners[:, 0] * normals_of(mesh)).sum() / 3)


def assert_holds(mesh: Mesh, solid: Polyhedron) -> None:
    """A mesh has the vertices, the area of each flat polygon, and the volume of a polyhedron."""
    np.testing.assert_allclose(mesh.vertices, solid.vertices, atol=1e-6)
    counts = [max(len(polygon) - 2, 0) for polygon in solid.polygons]
    assert len(mesh.faces) == sum(counts)
    owner = np.repeat(np.arange(len(counts)), counts)
    areas = np.bincount(owner, np.linalg.norm(normals_of(mesh), axis=1), len(counts))
    np.testing.assert_allclose(areas, solid.areas(), rtol=1e-5, atol=1e-9)
    assert volume_of(mesh) == pytest.approx(solid.volume(), rel=1e-5, abs=1e-9)


def box_at(place: float) -> Polyhedron:
    return Polyhedron([(x + place, y, z) for x, y, z in CUBE.vertices], CUBE.polygons)


@pytest.mark.parametrize("first", range(4))
def test_concave_quads_are_cut_at_their_inner_corner(tmp_path, first):
    solid = prism([(0.0, 0.0), (2.0, 1.0), (0.0, 2.0), (0.5, 1.0)], 1.0, first)
    for path in as_files(solid, tmp_path):
        assert_holds(read_mesh(path), solid)


@pytest.mark.parametrize("first", range(6))
def test_concave_polygons_are_cut_right(tmp_path, first):
    """A fan from most corners of an L covers what the L leaves free, at the same volume."""
    solid = prism(L_OUTLINE, 1.0, first)
    free = np.array([[1.6, 1.6, 1.0], [1.6, 1.6, 0.5]])
    for path in as_files(solid, tmp_path):
        mesh = read_mesh(path)
        assert_holds(mesh, solid)
        assert area_of(mesh) == pytest.approx(14)
        distances = SignedDistance(orient(clean(mesh)))(free)
        np.testing.assert_allclose(distances, 0.6, atol=1e-6)


def test_polygons_of_mixed_sizes(tmp_path):
    """Triangles, quads, pentagons, and edges and points, which have no area."""
    solid = prism(PENTAGON, 2.0)
    a, b, c, d = solid.polygons[-1]
    mixed = Polyhedron(solid.vertices, [[a, b, c], *solid.polygons[:-1], [a, c, d], [a, b], [c]])
    for path in as_files(mixed, tmp_path):
        assert_holds(read_mesh(path), mixed)


def spiral(count: int, generator: np.random.Generator) -> np.ndarray:
    """A band wound once and a half around the middle: no point of it sees all others."""
    angle = np.linspace(0, 3 * np.pi, count // 2)
    radius = 1 + angle + generator.uniform(0, 0.5, len(angle))
    inner, outer = (
        np.stack([scale * np.cos(angle), scale * np.sin(angle)], axis=1)
        for scale in (radius, radius + 2)
    )
    return np.concatenate([outer, inner[::-1]])


@pytest.mark.parametrize("bend", [0.0, 0.3])
def test_polygons_in_any_plane_and_bent_ones(tmp_path, bend):
    """Flat ones keep their area; each is bounded by its own edges, each once."""
    generator = np.random.default_rng(0)
    for size in (30, 61, 200):
        flat = spiral(size, generator)
        height = bend * generator.standard_normal(len(flat))
        turn, _ = np.linalg.qr(generator.standard_normal((3, 3)))
        places = np.column_stack([flat, height]) @ turn * 1e3 + 5e3
        order = np.roll(np.arange(len(flat)), generator.integers(len(flat))).tolist()
        solid = Polyhedron([tuple(place) for place in places.tolist()], [order])
        mesh = read_mesh(write(tmp_path, "spiral.off", as_off(solid)))
        assert len(mesh.faces) == len(flat) - 2
        if not bend:
            assert area_of(mesh) == pytest.approx(solid.areas()[0])
        sides = {tuple(side) for side in mesh.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2).tolist()}
        rim = {side for side in sides if side[::-1] not in sides}
        assert rim == set(zip(order, order[1:] + order[:1], strict=True))


CUBE_OFF = as_off(CUBE)
CUBE_BODY = CUBE_OFF.split("\n", 2)[2]


def cube_with(prefix: str, extra: str, scale: float = 1, head: str = "8 6 12") -> str:
    lines = [" ".join(str(scale * number) for number in vertex) + extra for vertex in CUBE.vertices]
    faces = [" ".join(map(str, [4, *polygon])) for polygon in CUBE.polygons]
    return "\n".join([f"{prefix}OFF", head, *lines, *faces]) + "\n"


@pytest.mark.parametrize(
    "text",
    [
        CUBE_OFF,
        CUBE_OFF.replace("\n", "\r\n"),
        CUBE_OFF.replace("\n", "\r"),
        "\ufeff" + CUBE_OFF,
        CUBE_OFF.replace("8 6 0", "8 6 0 # vertices, faces, edges"),
        CUBE_OFF.replace("8 6 0", "8 6 0\n# the vertices: 1 2 3"),
        CUBE_OFF.replace("\n", " # note 1 2 3\n"),
        "# OFF by hand\n\n" + CUBE_OFF,
        "OFF 8 6 12\n" + CUBE_BODY,
        "OFF8 6 12\n" + CUBE_BODY,
        "OFF\n8 6\n" + CUBE_BODY,
        CUBE_OFF.replace("4 0 1 3 2", "4 0 1 3 2 255 0 0").replace("4 4 6 7 5", "4 4 6 7 5 0.5"),
        cube_with("", " 255 0 0"),
        cube_with("C", " 0.5 0.5 0.5 1"),
        cube_with("N", " 0 0 1"),
        cube_with("ST", " 0.1 0.2"),
        cube_with("STCN", " 0 0 1 255 0 0 255 0.1 0.2"),
        cube_with("4", " 2", scale=2),
        cube_with("n", "", head="3\n8 6 12"),
        cube_with("n", "", head="3 8 6 12"),
    ],
)
def test_off_in_all_its_spellings(tmp_path, text):
    assert_holds(read_mesh(write(tmp_path, "cube.off", text)), CUBE)


@pytest.mark.parametrize(
    ("prefix", "others"), [("", 0), ("N", 3), ("C", 4), ("STCN", 9), ("4", 0), ("n", 0)]
)
def test_binary_off(tmp_path, prefix, others):
    content = f"{prefix}OFF BINARY\n".encode()
    content += struct.pack(">i", 3) if prefix == "n" else b""
    content += struct.pack(">3i", 8, 6, 12)
    for vertex in CUBE.vertices:
        place = [*(2 * number for number in vertex), 2] if prefix == "4" else vertex
        content += struct.pack(f">{len(place) + others}f", *place, *[0.25] * others)
    for number, polygon in enumerate(CUBE.polygons):
        colour = [0.5] * (number % 4)
        content += struct.pack(">5i", 4, *polygon)
        content += struct.pack(f">i{len(colour)}f", len(colour), *colour)
    assert_holds(read_mesh(write(tmp_path, "cube.off", content)), CUBE)
    for wrong, reason in ((content[:-4], "face 5 is not whole"), (content + bytes(4), "1 words")):
        with pytest.raises(DataError, match=reason):
            read_mesh(write(tmp_path, "wrong.off", wrong))


def test_relative_indices_of_obj_count_back_from_their_face(tmp_path):
    """Three boxes, each behind its own vertices: not three times the last one."""
    text = ""
    for number in range(3):
        vertices = "".join(f"v {x} {y} {z}\n" for x, y, z in box_at(2.0 * number).vertices)
        faces = [" ".join(f"{i - 8}" for i in polygon) for polygon in CUBE.polygons]
        text += f"o box{number}\n{vertices}" + "".join(f"f {face}\n" for face in faces)
    mesh = read_mesh(write(tmp_path, "boxes.obj", text))
    assert volume_of(mesh) == pytest.approx(3)
    assert np.ptp(mesh.vertices[mesh.faces].reshape(-1, 3), axis=0).tolist() == [5, 1, 1]
    expected = read_plain_obj(text)
    assert_holds(mesh, expected)


CUBE_OBJ = as_obj(CUBE)


@pytest.mark.parametrize(
    "text",
    [
        CUBE_OBJ,
        CUBE_OBJ.replace("\n", "\r\n"),
        CUBE_OBJ.replace("f 1 2 4 3", "f 1/1 2/2 4/3 3/4").replace(
            "f 5 7 8 6", "f 5//1 7//1 8// 6/"
        ),
        CUBE_OBJ.replace("f 1 2 4 3", "f 1/1/1 2/2/1 4/3/1 3/4/1"),
        CUBE_OBJ.replace("f 1 2 4 3", "f 1 2 \\\n4 \\\n3 # one face"),
        CUBE_OBJ.replace("f 1 2 4 3", "fo -8 -7 -5 -6"),
        CUBE_OBJ.replace("v 0.0 0.0 0.0", "v 0.0 0.0 0.0 1.0").replace(
            "0 1.0\n", "0 1.0 0.1 1 1\n"
        ),
        "# from C:\\meshes\\\n" + CUBE_OBJ.replace("f 1", "g a b\nusemtl #1\ns off\nf\t1", 1),
        "mtllib C:\\meshes\\\n" + CUBE_OBJ + "l 1 2\np 3\nvt 0 1\nvn 0 0 1\nunheard of\n",
        "\n".join(sorted(CUBE_OBJ.split("\n"), key=lambda line: line[:1] == "v", reverse=False)),
    ],
)
def test_obj_in_all_its_spellings(tmp_path, text):
    assert_holds(read_mesh(write(tmp_path, "cube.obj", text)), CUBE)


@pytest.mark.parametrize("file_format", ["ascii", "binary_little_endian", "binary_big_endian"])
def test_ply_with_other_elements_and_line_ends(tmp_path, file_format):
    content = as_ply(CUBE, file_format)
    end = content.index(b"end_header") + len(b"end_header\n")
    header, body = content[:end], content[end:]
    for line_end in (b"\n", b"\r\n", b"\r"):
        changed = header.replace(b"\n", line_end) + body
        assert_holds(read_mesh(write(tmp_path, "cube.ply", changed)), CUBE)
    for wrong in (content[:-3], content + b"17"):
        with pytest.raises(DataError, match="not a readable mesh: "):
            read_mesh(write(tmp_path, "wrong.ply", wrong))


def test_strips_of_ply(tmp_path):
    """Every second triangle of a strip runs the other way, and -1 begins a new one."""
    header = (
        "ply\nformat ascii 1.0\nelement vertex 4\nproperty float x\nproperty float y\n"
        "property float z\nelement tristrips 1\nproperty list int int vertex_index\nend_header\n"
    )
    places = "0 0 0\n1 0 0\n0 1 0\n1 1 0\n"
    mesh = read_mesh(write(tmp_path, "strip.ply", f"{header}{places}8 0 1 2 3 -1 2 1 3\n"))
    assert mesh.faces.tolist() == [[0, 1, 2], [2, 1, 3], [2, 1, 3]]


def as_stl(solid: Polyhedron, binary: bool, name: str = "a vertex of facets") -> bytes:
    fans = [[p[0], p[i], p[i + 1]] for p in solid.polygons for i in range(1, len(p) - 1)]
    corners = [[solid.vertices[index] for index in fan] for fan in fans]
    if binary:
        body = b"".join(
            struct.pack("<12fH", 0, 0, 0, *(n for place in triangle for n in place), 5)
            for triangle in corners
        )
        return b"solid ".ljust(80, b" ") + struct.pack("<I", len(corners)) + body
    text = "".join(
        "facet normal 0 0 0\n outer loop\n"
        + "".join(f"  vertex {x:e} {y} {z}\n" for x, y, z in triangle)
        + " endloop\nendfacet\n"
        for triangle in corners
    )
    return f"solid {name}\n{text}endsolid {name}\n".encode()


def test_stl_binary_and_text_of_several_solids(tmp_path):
    binary = read_mesh(write(tmp_path, "binary.stl", as_stl(CUBE, binary=True)))
    assert (area_of(binary), volume_of(binary)) == pytest.approx((6, 1))
    several = b"".join(as_stl(box_at(2.0 * number), binary=False) for number in range(3))
    for content in (several, several.upper(), several.replace(b"\n", b"\r\n")):
        text = read_mesh(write(tmp_path, "text.stl", content))
        assert (area_of(text), volume_of(text)) == pytest.approx((18, 3))
        assert len(text.faces) == 36


HEADLESS_PLY = "ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\n"
TEXT_STL = as_stl(CUBE, binary=False).decode()


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.off", "3 1 0\n", "starts with '3 1 0.*expected OFF"),
        ("a.off", "OFF\n", "expected the numbers of vertices"),
        ("a.off", "OFF\n-1 2 0\n", "expected the numbers of vertices"),
        ("a.off", "OFF\n8 12 0\n0 0 0\n", "8 vertices and 12 faces are stated, 1 lines follow"),
        ("a.off", CUBE_OFF + "3 0 1 2\n", "8 vertices and 6 faces are stated, 15 lines follow"),
        ("a.off", "OFF\n1 1 0\n0 0\n3 0 0 0\n", "vertex 0 has 2 numbers, expected 3"),
        ("a.off", "OFF\n1 1 0\n0 0 x1\n3 0 0 0\n", "'x1' where a number is expected"),
        ("a.off", "OFF\n1 1 0\n0 0 0\n4 0 0 0\n", "face 0 states 4 corners and has 3"),
        ("a.off", "OFF\n1 1 0\n0 0 0\n3 0 0 1\n", "a face of vertex 1, there are 1"),
        ("a.off", "OFF\n1 1 0\n0 0 0\n3 0 0 0.5\n", "0.5 where a whole number is expected"),
        ("a.off", "nOFF\n4\n1 1 0\n0 0 0 0\n3 0 0 0\n", "vertices in 4 dimensions, expected 3"),
        ("a.off", "OFF BINARY\n\0\0", "2 bytes behind the header"),
        ("a.obj", "v 0 0\nf 1 1 1\n", "vertex 0 has 2 numbers, expected 3"),
        ("a.obj", "v 0 0 0\nf 0 1 1\n", "a face of vertex 0, with 1 before it"),
        ("a.obj", "v 0 0 0\nf -2 1 1\n", "a face of vertex -2, with 1 before it"),
        ("a.obj", "v 0 0 0\nf 2 1 1\n", "a face of vertex 2, with 1 before it and 1 in all"),
        ("a.obj", CUBE_OBJ + "surf 0 1 0 1 1 2 3\n", "a statement 'surf': only polygons"),
        ("a.obj", "v 0 0 0\nv 1 1 1\nl 1 2\n", "no triangles in it"),
        ("a.ply", "ply\nnothing", "expected ply and its header"),
        ("a.ply", f"{HEADLESS_PLY}end_header\n0\n", "no vertices with x, y and z"),
        ("a.ply", f"{HEADLESS_PLY}property list x y z\nend_header\n0\n", "'property list x y z'"),
        ("a.ply", f"{HEADLESS_PLY}element face 0\nend_header\n0\n", "has the properties"),
        ("a.ply", f"{HEADLESS_PLY}end_header\n0 1\n", "vertex 0 has more numbers"),
        ("a.ply", "ply\nformat ascii 2.0\nend_header\n", "'format ascii 2.0' in the header"),
        ("a.stl", TEXT_STL[:-30], "1 solids begin and 0 end"),
        ("a.stl", TEXT_STL.replace("endfacet", "", 1), "facet 0: 'facet' where 'endfacet'"),
        ("a.stl", TEXT_STL.replace("  vertex", "  vertex 0 0 0\n  vertex", 1), "facet 0: 'vertex'"),
        ("a.stl", as_stl(CUBE, binary=True)[:-1], "12 triangles are stated, which take 684 bytes"),
        ("a.stl", "solid\nendsolid\n", "no triangles in it"),
        ("a.glb", b"glTF\1\0\0\0\0\0\0\0", "GLB 1, expected 2"),
        ("a.gltf", "{", "no sound glTF"),
    ],
)
def test_what_is_not_read_has_its_reason(tmp_path, name, content, reason):
    with pytest.raises(DataError, match=reason) as caught:
        read_mesh(write(tmp_path, name, content))
    assert "\n" not in str(caught.value)


SEEDS = {
    "cube.off": CUBE_OFF.encode(),
    "cube.obj": CUBE_OBJ.encode(),
    "ascii.ply": as_ply(CUBE, "ascii"),
    "binary.ply": as_ply(CUBE, "binary_little_endian"),
    "text.stl": as_stl(CUBE, binary=False),
    "binary.stl": as_stl(CUBE, binary=True),
}


@pytest.mark.parametrize("name", SEEDS)
def test_damaged_files_are_meshes_or_one_error(tmp_path, name):
    generator = np.random.default_rng(0)
    for _ in range(60):
        content = bytearray(SEEDS[name])
        for place in generator.integers(len(content), size=3):
            content[place] = generator.integers(256)
        content = content[: generator.integers(len(content) // 2, 2 * len(content))]
        with suppress(DataError):
            orient(clean(read_mesh(write(tmp_path, name, bytes(content)))))


def test_another_reading_is_another_dataset(tmp_path, monkeypatch):
    """Samples and stores, named alike, of meshes that were read wrongly are not found again."""
    for split in ("train", "test"):
        (tmp_path / "box" / split).mkdir(parents=True)
        as_files(CUBE, tmp_path / "box" / split)
    cache = str(tmp_path / "cache")
    before = MeshFolder(str(tmp_path), cache=cache)._cache.folder
    solids = Solids(cache=cache).name
    assert solids == "solids-a6e8b1fd2669"  # as it was when trimesh read the meshes
    monkeypatch.setattr(mesh_folder, "READING_VERSION", READING_VERSION + 1)
    assert MeshFolder(str(tmp_path), cache=cache)._cache.folder != before
    assert Solids(cache=cache).name == solids


CGAL = Path("/usr/share/doc/libcgal-dev/data.tar.gz")  # Debian's libcgal-demo
SWEETHOME = Path("/usr/share/sweethome3d/furniture/KatorLegaz.sh3f")  # its sweethome3d-furniture

if CGAL.is_file():

    def test_meshes_of_cgal(tmp_path):
        """The first small ones, among them comments behind the counts and mixed polygons."""
        with tarfile.open(CGAL, "r|gz") as archive:
            chosen = (m for m in archive if m.name.endswith(".off") and m.size < 20_000)
            files = {m.name: archive.extractfile(m).read().decode() for m in islice(chosen, 16)}
        assert any("#" in text for text in files.values())
        for text in files.values():
            assert_holds(read_mesh(write(tmp_path, "mesh.off", text)), read_plain_off(text))


if SWEETHOME.is_file():

    def test_furniture(tmp_path):
        """Small ones with long polygons, whose triangles have at least the polygon's own area."""
        checked = 0
        with zipfile.ZipFile(SWEETHOME) as archive:
            for entry in archive.infolist():
                if not entry.filename.endswith(".obj") or entry.file_size > 20_000:
                    continue
                text = archive.read(entry).decode("ascii", "replace")
                solid = read_plain_obj(text)
                mesh = read_mesh(write(tmp_path, "mesh.obj", text))
                np.testing.assert_array_equal(mesh.vertices, solid.vertices)
                assert len(mesh.faces) == sum(max(len(p) - 2, 0) for p in solid.polygons)
                assert area_of(mesh) > 0.999999 * sum(solid.areas())
                checked += 1
        assert checked
