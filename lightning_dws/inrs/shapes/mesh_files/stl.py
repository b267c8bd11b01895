"""STL: triangles, in text or binary."""

from pathlib import Path

import numpy as np

from lightning_dws.errors import DataError
from lightning_dws.inrs.shapes.mesh_files.polygons import Floats, Polygons
from lightning_dws.inrs.shapes.mesh_files.text import parse_numbers, shown

_HEADER_BYTES = 84  # 80 of any content, and the number of triangles
_TRIANGLE = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
_NUMBER = b"0"
_FACET = (
    b"facet normal 0 0 0 outer loop vertex 0 0 0 vertex 0 0 0 vertex 0 0 0 endloop endfacet".split()
)
_CORNERS = [place for place, word in enumerate(_FACET) if word == _NUMBER][3:]


def read_stl(path: Path) -> Polygons:
    """Read an STL file; several solids are one. Normals count for nothing, the corners' order does.

    A binary file is one whose size is what its number of triangles asks for, whatever its first
    word.

    Raises:
        DataError: It is neither, or not whole.
    """
    data = path.read_bytes()
    stated = int.from_bytes(data[80:_HEADER_BYTES], "little")
    size = _HEADER_BYTES + stated * _TRIANGLE.itemsize
    if len(data) == size:
        corners = np.frombuffer(data, _TRIANGLE, offset=_HEADER_BYTES)["corners"]
    elif data.lstrip()[:5].lower() == b"solid" and b"\0" not in data[:1024]:
        corners = _read_text(data)
    else:
        raise DataError(f"{stated} triangles are stated, which take {size} bytes, not {len(data)}")
    vertices = corners.astype(np.float64).reshape(-1, 3)
    return Polygons.of_triangles(vertices, np.arange(len(vertices)).reshape(-1, 3))


def _read_text(data: bytes) -> Floats:
    """Read the corners of all facets: (m, 3, 3)."""
    lines = [line.strip() for line in data.lower().splitlines()]
    num_begun = sum(line.startswith(b"solid") for line in lines)
    num_ended = sum(line.startswith(b"endsolid") for line in lines)
    if num_begun != num_ended:
        raise DataError(f"{num_begun} solids begin and {num_ended} end")
    inner = [line for line in lines if not line.startswith((b"solid", b"endsolid"))]
    tokens = b" ".join(inner).split()
    num_facets, rest = divmod(len(tokens), len(_FACET))
    columns = [tokens[place :: len(_FACET)][:num_facets] for place in range(len(_FACET))]
    wrong = [
        (next(facet for facet, found in enumerate(column) if found != word), place)
        for place, (word, column) in enumerate(zip(_FACET, columns, strict=True))
        if word != _NUMBER and set(column) - {word}
    ]
    if wrong:
        facet, place = min(wrong)
        found, expected = shown(columns[place][facet]), _FACET[place].decode()
        raise DataError(f"facet {facet}: {found} where {expected!r} belongs")
    if rest:
        raise DataError(f"ends within facet {num_facets}")
    corners = [parse_numbers(columns[place]) for place in _CORNERS]
    return np.stack(corners, axis=1).reshape(-1, 3, 3)
