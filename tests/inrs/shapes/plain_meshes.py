"""Polyhedra in plain Python: what the readers of meshes are compared with."""

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Polyhedron:
    """Vertices and polygons of any size, whose areas and volume need no triangles."""

    vertices: list[tuple[float, ...]]
    polygons: list[list[int]]

    def newell(self, polygon: list[int]) -> np.ndarray:
        """Give the vector of a polygon's area, whatever its shape."""
        points = np.array([self.vertices[index] for index in polygon]).reshape(-1, 3)
        around = points - points[:1]
        return np.cross(around, np.roll(around, -1, axis=0)).sum(axis=0) / 2

    def areas(self) -> list[float]:
        return [float(np.linalg.norm(self.newell(polygon))) for polygon in self.polygons]

    def volume(self) -> float:
        """Of a closed surface of flat polygons."""
        return sum(
            float(np.dot(self.vertices[polygon[0]], self.newell(polygon))) / 3
            for polygon in self.polygons
            if len(polygon) > 2
        )


CUBE = Polyhedron(
    [(x, y, z) for x in (0.0, 1.0) for y in (0.0, 1.0) for z in (0.0, 1.0)],
    [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]],
)


def prism(outline: list[tuple[float, float]], height: float, first: int = 0) -> Polyhedron:
    """Extrude a polygon along z; its caps begin at the given corner of it."""
    count = len(outline)
    vertices = [(x, y, z) for z in (0.0, height) for x, y in outline]
    around = [(first + step) % count for step in range(count)]
    sides = [[i, (i + 1) % count, (i + 1) % count + count, i + count] for i in range(count)]
    return Polyhedron(vertices, [around[::-1], [count + i for i in around], *sides])


def read_plain_off(text: str) -> Polyhedron:
    """Read what an OFF file states, line by line."""
    rows = [line.split("#")[0].split() for line in text.splitlines()]
    rows = [row for row in rows if row]
    rows = [rows[0][1:], *rows[1:]] if rows[0][1:] else rows[1:]
    num_vertices, num_faces = int(rows[0][0]), int(rows[0][1])
    vertices = [tuple(map(float, row[:3])) for row in rows[1 : num_vertices + 1]]
    faces = rows[num_vertices + 1 : num_vertices + num_faces + 1]
    return Polyhedron(vertices, [[*map(int, face[1 : int(face[0]) + 1])] for face in faces])


def read_plain_obj(text: str) -> Polyhedron:
    """Read what an OBJ file holds, line by line."""
    vertices: list[tuple[float, ...]] = []
    polygons = []
    for row in filter(None, map(str.split, text.splitlines())):
        if row[0] == "v":
            vertices.append(tuple(map(float, row[1:4])))
        elif row[0] == "f":
            found = [int(corner.split("/")[0]) for corner in row[1:]]
            polygons.append([i - 1 if i > 0 else len(vertices) + i for i in found])
    return Polyhedron(vertices, polygons)


def as_off(solid: Polyhedron) -> str:
    lines = [f"OFF\n{len(solid.vertices)} {len(solid.polygons)} 0"]
    lines += [" ".join(map(str, vertex)) for vertex in solid.vertices]
    lines += [" ".join(map(str, [len(polygon), *polygon])) for polygon in solid.polygons]
    return "\n".join(lines) + "\n"


def as_obj(solid: Polyhedron) -> str:
    lines = [f"v {x} {y} {z}" for x, y, z in solid.vertices]
    lines += [f"f {' '.join(str(i + 1) for i in polygon)}" for polygon in solid.polygons]
    return "\n".join(lines) + "\n"


def as_ply(solid: Polyhedron, file_format: str) -> bytes:
    header = (
        f"ply\nformat {file_format} 1.0\ncomment by hand\nobj_info none\n"
        f"element vertex {len(solid.vertices)}\n"
        "property uchar flag\nproperty float x\nproperty float y\nproperty double z\n"
        "element material 2\nproperty list uchar short parts\nproperty float shine\n"
        f"element face {len(solid.polygons)}\n"
        "property list uchar int vertex_indices\nproperty ushort group\nend_header\n"
    ).encode()
    rows: list[tuple[str, list[float]]] = [("Bffd", [7, *place]) for place in solid.vertices]
    rows += [("Bhhf", [2, 5, -6, 0.5]), ("Bf", [0, 1.5])]
    rows += [(f"B{len(polygon)}iH", [len(polygon), *polygon, 9]) for polygon in solid.polygons]
    if file_format == "ascii":
        return header + "".join(f"{' '.join(map(str, row))}\n" for _, row in rows).encode()
    order = "<" if file_format == "binary_little_endian" else ">"
    return header + b"".join(struct.pack(order + kinds, *row) for kinds, row in rows)


def as_files(solid: Polyhedron, folder: Path) -> list[Path]:
    """Write a polyhedron in every format of polygons."""
    files = {
        "solid.off": as_off(solid).encode(),
        "solid.obj": as_obj(solid).encode(),
        **{
            f"{name}.ply": as_ply(solid, name)
            for name in ("ascii", "binary_little_endian", "binary_big_endian")
        },
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return [folder / name for name in files]
