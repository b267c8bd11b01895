"""PLY, the Polygon File Format of Stanford: text and binary of both byte orders."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lightning_dws.errors import DataError
from lightning_dws.inrs.shapes.mesh_files.polygons import (
    Floats,
    Integers,
    Polygons,
    gather,
    strip_triangles,
)
from lightning_dws.inrs.shapes.mesh_files.text import Rows, shown, whole

_HEADER = re.compile(rb"ply[ \t]*(\r\n|\n|\r)(.*?)(?<=[\r\n])end_header[ \t]*\1", re.DOTALL)
_TYPES = {
    **dict.fromkeys(("char", "int8"), "i1"),
    **dict.fromkeys(("uchar", "uint8"), "u1"),
    **dict.fromkeys(("short", "int16"), "i2"),
    **dict.fromkeys(("ushort", "uint16"), "u2"),
    **dict.fromkeys(("int", "int32"), "i4"),
    **dict.fromkeys(("uint", "uint32"), "u4"),
    **dict.fromkeys(("float", "float32"), "f4"),
    **dict.fromkeys(("double", "float64"), "f8"),
}
_BYTE_ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">"}
_INDICES = ("vertex_indices", "vertex_index")
_RESTART = -1  # between strips


@dataclass(frozen=True, eq=False)
class _Lists:
    """A list property's values (t,), list by list, and the length (count,) of each."""

    values: NDArray[Any]
    sizes: Integers


@dataclass(frozen=True)
class _Property:
    """A number, or a list of numbers where ``count_type`` is given, of every one of an element."""

    name: str
    value_type: str
    count_type: str | None

    @property
    def count_width(self) -> int:
        """Bytes of a list's length."""
        return 0 if self.count_type is None else np.dtype(self.count_type).itemsize

    @property
    def is_signed(self) -> bool:
        return self.count_type is not None and self.count_type.startswith("i")

    def column(self, values: NDArray[Any], sizes: Integers) -> "NDArray[Any] | _Lists":
        """Give values (t,), of which there are so many (count,) each, as what they are."""
        return values if self.count_type is None else _Lists(values, sizes)


@dataclass(frozen=True)
class _Element:
    name: str
    count: int
    properties: list[_Property] = field(default_factory=list)


_Columns = dict[str, "NDArray[Any] | _Lists"]


def read_ply(path: Path) -> Polygons:
    """Read the polygons and triangle strips of a PLY file, whatever else it holds.

    Raises:
        DataError: It is none, or does not hold what its header states.
    """
    data = path.read_bytes()
    header = _HEADER.match(data)
    if header is None:
        raise DataError(f"starts with {shown(data)}, expected ply and its header")
    file_format, elements = _parse_header(header[2].decode("ascii", "replace").splitlines())
    body = data[header.end() :]
    if file_format == "ascii":
        found = _read_text(body, elements)
    else:
        found = _read_binary(body, elements, _BYTE_ORDERS[file_format])
    return _make_polygons(found)


def _parse_header(lines: list[str]) -> tuple[str, list[_Element]]:
    file_format = ""
    elements: list[_Element] = []
    for line in lines:
        match line.split():
            case [] | ["comment" | "obj_info", *_]:
                pass
            case ["format", name, "1.0"] if name == "ascii" or name in _BYTE_ORDERS:
                file_format = name
            case ["element", name, count] if count.isascii() and count.isdigit():
                elements.append(_Element(name, int(count)))
            case ["property", "list", counts, values, name] if (
                elements and counts in _TYPES and values in _TYPES
            ):
                new = _Property(name, _TYPES[values], _TYPES[counts])
                elements[-1].properties.append(new)
            case ["property", values, name] if elements and values in _TYPES:
                elements[-1].properties.append(_Property(name, _TYPES[values], None))
            case _:
                raise DataError(f"{line[:60]!r} in the header")
    if not file_format:
        raise DataError("no format in the header")
    for element in elements:
        names = [described.name for described in element.properties]
        if not names or len(set(names)) < len(names):
            raise DataError(f"element {element.name!r} has the properties {names}")
    names = [element.name for element in elements]
    if len(set(names)) < len(names):
        raise DataError(f"the elements {names} in the header")
    return file_format, elements


def _read_text(body: bytes, elements: list[_Element]) -> dict[str, _Columns]:
    lines = [line for line in body.splitlines() if line.strip()]
    stated = sum(element.count for element in elements)
    if len(lines) != stated:
        raise DataError(f"{stated} elements are stated, {len(lines)} lines follow")
    found: dict[str, _Columns] = {}
    start = 0
    for element in elements:
        rows = Rows.parse(lines[start : start + element.count])
        start += element.count
        found[element.name] = _take_columns(element, rows)
    return found


def _take_columns(element: _Element, rows: Rows) -> _Columns:
    """Take each property from the lines of an element, which may differ in length."""
    columns: _Columns = {}
    ends = rows.starts + rows.sizes
    position = rows.starts
    for described in element.properties:
        _check_whole(element, position >= ends)
        sizes = np.ones(len(position), np.int64)
        if described.count_type is not None:
            sizes = whole(rows.values[position])
            position = position + 1
            _check_whole(element, (sizes < 0) | (sizes > ends - position))
        values = rows.values[gather(position, sizes)]
        columns[described.name] = described.column(values, sizes)
        position = position + sizes
    too_long = np.flatnonzero(position != ends)
    if len(too_long):
        raise DataError(f"{element.name} {too_long[0]} has more numbers than its header states")
    return columns


def _check_whole(element: _Element, is_short: NDArray[np.bool_]) -> None:
    short = np.flatnonzero(is_short)
    if len(short):
        raise DataError(f"{element.name} {short[0]} has fewer numbers than its header states")


def _read_binary(body: bytes, elements: list[_Element], order: str) -> dict[str, _Columns]:
    found: dict[str, _Columns] = {}
    position = 0
    for element in elements:
        offsets, sizes, end = _walk(body, position, element, order, min(element.count, 1))
        length = end - position
        if element.count and _are_alike(body, element, offsets[0], sizes[0], length):
            found[element.name] = _take_alike(body, element, order, offsets[0], sizes[0], length)
            position += element.count * length
        else:
            offsets, sizes, position = _walk(body, position, element, order, element.count)
            found[element.name] = _take_each(body, element, order, offsets, sizes)
    if body[position:].strip():
        raise DataError(f"{len(body) - position} bytes behind what the header states")
    return found


def _walk(
    body: bytes, position: int, element: _Element, order: str, count: int
) -> tuple[Integers, Integers, int]:
    """Find each property's values: offsets and lengths, (count, properties) each, and the end.

    Args:
        body: Behind the header.
        position: Where the element begins.
        element: What is there.
        order: Of bytes: ``<`` or ``>``.
        count: How many of the element to walk over.
    """
    byte_order: Literal["little", "big"] = "little" if order == "<" else "big"
    widths = [
        (np.dtype(described.value_type).itemsize, described.count_width, described.is_signed)
        for described in element.properties
    ]
    offsets, sizes = [], []
    for number in range(count):
        for width, count_width, is_signed in widths:
            size = 1
            if count_width:
                stated = body[position : position + count_width]
                size = int.from_bytes(stated, byte_order, signed=is_signed)
            position += count_width
            if size < 0 or position + size * width > len(body):
                raise DataError(f"{element.name} {number} of {element.count} is not whole")
            offsets.append(position)
            sizes.append(size)
            position += size * width
    shape = (count, len(widths))
    arrays = [np.array(each, np.int64).reshape(shape) for each in (offsets, sizes)]
    return arrays[0], arrays[1], position


def _are_alike(
    body: bytes, element: _Element, offsets: Integers, sizes: Integers, length: int
) -> bool:
    """Whether all of an element have lists as long as the first one, of this length in bytes."""
    start = int(offsets[0]) - element.properties[0].count_width
    if element.count * length > len(body) - start:
        return False
    for described, offset in zip(element.properties, offsets.tolist(), strict=True):
        width = described.count_width
        shape, strides = (element.count, width), (length, 1)
        stated = np.ndarray(shape, np.uint8, body, offset - width, strides)
        if (stated != stated[0]).any():
            return False
    return True


def _take_alike(
    body: bytes, element: _Element, order: str, offsets: Integers, sizes: Integers, length: int
) -> _Columns:
    columns: _Columns = {}
    places = zip(element.properties, offsets.tolist(), sizes.tolist(), strict=True)
    for described, offset, size in places:
        dtype = np.dtype(order + described.value_type)
        strides = (length, dtype.itemsize)
        values = np.ndarray((element.count, size), dtype, body, offset, strides).reshape(-1)
        columns[described.name] = described.column(values, np.full(element.count, size))
    return columns


def _take_each(
    body: bytes, element: _Element, order: str, offsets: Integers, sizes: Integers
) -> _Columns:
    columns: _Columns = {}
    content = np.frombuffer(body, np.uint8)
    for number, described in enumerate(element.properties):
        dtype = np.dtype(order + described.value_type)
        own = sizes[:, number]
        values = content[gather(offsets[:, number], own * dtype.itemsize)].view(dtype)
        columns[described.name] = described.column(values, own)
    return columns


def _make_polygons(found: dict[str, _Columns]) -> Polygons:
    corners, sizes = [], []
    if "face" in found:
        faces = _indices_of(found["face"], "face")
        corners.append(whole(faces.values))
        sizes.append(faces.sizes)
    if "tristrips" in found:
        strips = _indices_of(found["tristrips"], "tristrips")
        for strip in np.split(whole(strips.values), np.cumsum(strips.sizes)[:-1]):
            for run in np.split(strip, np.flatnonzero(strip == _RESTART)):
                triangles = strip_triangles(run[run != _RESTART])
                corners.append(triangles.reshape(-1))
                sizes.append(np.full(len(triangles), 3))
    axes = [found.get("vertex", {}).get(axis) for axis in "xyz"]
    places = [axis for axis in axes if isinstance(axis, np.ndarray)]
    if len(places) < 3:
        raise DataError("no vertices with x, y and z in the header")
    vertices: Floats = np.stack(places, axis=1).astype(np.float64)
    nothing = [np.empty(0, np.int64)]
    return Polygons(vertices, np.concatenate(corners or nothing), np.concatenate(sizes or nothing))


def _indices_of(columns: _Columns, element: str) -> _Lists:
    for name in _INDICES:
        column = columns.get(name)
        if isinstance(column, _Lists):
            return column
    raise DataError(f"element {element!r} without a list of vertex_indices")
