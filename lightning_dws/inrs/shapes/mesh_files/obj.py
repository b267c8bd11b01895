"""Wavefront OBJ: the polygons of all its objects and groups."""

import re
from collections.abc import Iterable
from itertools import compress
from pathlib import Path

import numpy as np

from lightning_dws.errors import DataError
from lightning_dws.inrs.shapes.mesh_files.polygons import Integers, Polygons
from lightning_dws.inrs.shapes.mesh_files.text import Rows, content_lines, whole

_VERTEX = (b"v ", b"v\t")
_FACE = (b"f ", b"f\t", b"fo ", b"fo\t")  # fo is that of version 2
_UNREAD = ("surf", "call", "bzp", "bsp", "cdc", "cdp")  # curved surfaces, and those of other files
_IS_UNREAD = re.compile(rb"(%s)\s" % "|".join(_UNREAD).encode())


def read_obj(path: Path) -> Polygons:
    """Read the polygons of an OBJ file; lines, points, normals and textures count for nothing.

    A negative index counts back from the last vertex before its face. Statements that OBJ does not
    know are passed over, as all readers do.

    Raises:
        DataError: A vertex or a face is malformed, or it holds surfaces that are no polygons.
    """
    data = path.read_bytes()
    lines = content_lines(data)
    if b"\\" in data:
        lines = list(_join_continued(lines))
    unread = next(filter(None, map(_IS_UNREAD.match, lines)), None)
    if unread:
        raise DataError(f"a statement {unread[1].decode()!r}: only polygons are read")
    is_vertex = [line.startswith(_VERTEX) for line in lines]
    is_face = [line.startswith(_FACE) for line in lines]
    vertices = Rows.parse([line[2:] for line in compress(lines, is_vertex)])
    faces = Rows.parse(_drop_details([line[2:] for line in compress(lines, is_face)]))
    num_vertices = len(vertices.sizes)
    before = np.repeat(np.cumsum(is_vertex)[np.array(is_face, bool)], faces.sizes)
    return Polygons(
        vertices.columns(0, num_vertices, 3, "vertex"),
        _resolve(whole(faces.values), before, num_vertices),
        faces.sizes,
    )


def _join_continued(lines: Iterable[bytes]) -> Iterable[bytes]:
    """Join vertices and faces with what follows a backslash at their end."""
    begun = b""
    for line in lines:
        joined = begun + line
        if joined.endswith(b"\\") and joined.startswith((*_VERTEX, *_FACE)):
            begun = joined[:-1] + b" "
        else:
            yield joined
            begun = b""
    if begun:
        yield begun


def _drop_details(faces: list[bytes]) -> list[bytes]:
    """Keep the vertices of corners that are written ``v``, ``v/vt``, ``v//vn`` or ``v/vt/vn``."""
    return re.sub(rb"/\S*", b"", b"\n".join(faces)).split(b"\n") if faces else faces


def _resolve(index: Integers, before: Integers, count: int) -> Integers:
    """Count indices (c,) from 0, those below zero from the vertices before their face (c,)."""
    wrong = np.flatnonzero((index == 0) | (index < -before) | (index > count))
    if len(wrong):
        where = wrong[0]
        raise DataError(
            f"a face of vertex {index[where]}, with {before[where]} before it and {count} in all"
        )
    return np.where(index < 0, before + index, index - 1)
