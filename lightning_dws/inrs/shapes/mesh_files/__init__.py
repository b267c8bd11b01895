"""Files of meshes: read as the polygons that they hold, or refused with the reason."""

import stat
from collections.abc import Callable
from pathlib import Path

from lightning_dws.errors import DataError
from lightning_dws.inrs.shapes.mesh_files.gltf import read_gltf
from lightning_dws.inrs.shapes.mesh_files.obj import read_obj
from lightning_dws.inrs.shapes.mesh_files.off import read_off
from lightning_dws.inrs.shapes.mesh_files.ply import read_ply
from lightning_dws.inrs.shapes.mesh_files.polygons import Polygons
from lightning_dws.inrs.shapes.mesh_files.stl import read_stl
from lightning_dws.inrs.shapes.mesh_files.triangulation import triangulate

READING_VERSION = 1  # of what files are read as: a change gives folders of meshes another name

_READERS: dict[str, Callable[[Path], Polygons]] = {
    ".glb": read_gltf,
    ".gltf": read_gltf,
    ".obj": read_obj,
    ".off": read_off,
    ".ply": read_ply,
    ".stl": read_stl,
}
MESH_SUFFIXES = tuple(_READERS)

__all__ = [
    "MESH_SUFFIXES",
    "READING_VERSION",
    "Polygons",
    "is_mesh_name",
    "read_polygons",
    "triangulate",
]


def is_mesh_name(name: str) -> bool:
    """Tell by its extension whether a file holds a mesh."""
    return Path(name).suffix.lower() in MESH_SUFFIXES


def read_polygons(path: Path) -> Polygons:
    """Read all surfaces that a file holds, by the ending of its name.

    Raises:
        DataError: The file cannot be read as what it says it is; the message is the reason alone.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # reading a pipe or a device may never end
            raise DataError("not a regular file")
        if status.st_size:
            return _READERS[path.suffix.lower()](path)
    except DataError as error:
        raise DataError(f"not a readable mesh: {error}") from error
    except OSError as error:
        raise DataError(f"not a readable mesh: {error.strerror}") from error
    except MemoryError:
        raise DataError("too large for the memory") from None
    raise DataError("an empty file")
