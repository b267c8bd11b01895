"""OFF, the Object File Format of Geomview: text and binary, with all its prefixes."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lightning_dws.errors import DataError
from lightning_dws.inrs.shapes.mesh_files.polygons import Floats, Integers, Polygons, gather
from lightning_dws.inrs.shapes.mesh_files.text import Rows, content_lines, shown, whole

_HEADER = re.compile(rb"(?:\xef\xbb\xbf)?(?:\s|#[^\r\n]*[\r\n])*((?:ST|C|N|4|n)*)OFF(?![A-Za-z])")
_BINARY = re.compile(rb"[ \t]+BINARY[ \t]*(?:\r\n|\n|\r)")


@dataclass(frozen=True)
class _Vertex:
    """What a prefix says that a vertex has.

    Attributes:
        space: Its coordinates; the last one divides the others where it is ``homogeneous``.
        others: Numbers behind them: a normal, a colour, a texture's coordinates.
    """

    space: int
    others: int
    homogeneous: bool

    @classmethod
    def of(cls, prefix: bytes, num_dimensions: int) -> "_Vertex":
        if num_dimensions != 3:
            raise DataError(f"vertices in {num_dimensions} dimensions, expected 3")
        others = 3 * prefix.count(b"N") + 4 * prefix.count(b"C") + 2 * prefix.count(b"ST")
        homogeneous = b"4" in prefix
        return cls(3 + homogeneous, others, homogeneous)

    def place(self, numbers: Floats) -> Floats:
        """Give the places (n, 3) that coordinates (n, space) stand for."""
        if not self.homogeneous:
            return numbers.astype(np.float64)
        with np.errstate(all="ignore"):  # a vertex at infinity is told where meshes are cleaned
            return numbers[:, :3].astype(np.float64) / numbers[:, 3:]


def read_off(path: Path) -> Polygons:
    """Read an OFF file: comments anywhere, polygons of any size, colours behind them.

    In text each vertex and each face has a line of its own.

    Raises:
        DataError: It is none, or does not hold what it states.
    """
    data = path.read_bytes()
    header = _HEADER.match(data)
    if header is None:
        raise DataError(f"starts with {shown(data)}, expected OFF")
    binary = _BINARY.match(data, header.end())
    if binary:
        return _read_binary(data[binary.end() :], header[1])
    return _read_text(data[header.end() :], header[1])


def _read_text(text: bytes, prefix: bytes) -> Polygons:
    rows = Rows.parse(content_lines(text))
    num_heads = 2 if b"n" in prefix and rows.sizes[:1].tolist() == [1] else 1
    head = whole(rows.values[: rows.sizes[:num_heads].sum()]).tolist()
    num_dimensions = head.pop(0) if b"n" in prefix and head else 3
    if len(head) not in (2, 3) or min(head) < 0:
        raise DataError(f"starts with {head}, expected the numbers of vertices, faces and edges")
    num_vertices, num_faces = head[:2]
    found = len(rows.sizes) - num_heads
    if found != num_vertices + num_faces:
        raise DataError(
            f"{num_vertices} vertices and {num_faces} faces are stated, {found} lines follow"
        )
    vertex = _Vertex.of(prefix, num_dimensions)
    places = vertex.place(rows.columns(num_heads, num_vertices, vertex.space, "vertex"))
    first_face = num_heads + num_vertices
    sizes = whole(rows.columns(first_face, num_faces, 1, "face")[:, 0])
    wrong = np.flatnonzero((sizes < 0) | (sizes >= rows.sizes[first_face:]))
    if len(wrong):
        available = rows.sizes[first_face + wrong[0]] - 1
        raise DataError(f"face {wrong[0]} states {sizes[wrong[0]]} corners and has {available}")
    corners = whole(rows.values[gather(rows.starts[first_face:] + 1, sizes)])
    return Polygons(places, corners, sizes)


def _read_binary(data: bytes, prefix: bytes) -> Polygons:
    if len(data) % 4:
        raise DataError(f"{len(data)} bytes behind the header, expected whole words of four")
    words = np.frombuffer(data, ">i4").astype(np.int64)
    start = 1 if b"n" in prefix else 0
    head = words[start : start + 3].tolist()
    if len(head) < 3 or min(head) < 0:
        raise DataError(f"starts with {head}, expected the numbers of vertices, faces and edges")
    num_vertices, num_faces, _ = head
    vertex = _Vertex.of(prefix, int(words[0]) if start else 3)
    width = vertex.space + vertex.others
    first_face = start + 3 + num_vertices * width
    if first_face > len(words):
        raise DataError(f"{num_vertices} vertices are stated, the file ends before")
    numbers = np.frombuffer(data, ">f4")[start + 3 : first_face].reshape(num_vertices, width)
    starts, sizes = _find_binary_faces(words, first_face, num_faces)
    return Polygons(vertex.place(numbers[:, : vertex.space]), words[gather(starts, sizes)], sizes)


def _find_binary_faces(words: Integers, position: int, count: int) -> tuple[Integers, Integers]:
    """Find where each face's corners begin, and how many there are; a colour follows each."""
    starts, sizes = [], []
    values = words.tolist()
    for number in range(count):
        size = values[position] if position < len(values) else -1
        colour_at = position + 1 + size
        colours = values[colour_at] if size >= 0 and colour_at < len(values) else -1
        if colours < 0 or colour_at + colours >= len(values):
            raise DataError(f"{count} faces are stated, face {number} is not whole")
        starts.append(position + 1)
        sizes.append(size)
        position = colour_at + 1 + colours
    if position != len(values):
        raise DataError(f"{len(values) - position} words behind the last face")
    return np.array(starts, np.int64), np.array(sizes, np.int64)
