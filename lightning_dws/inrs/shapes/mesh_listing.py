"""A folder of mesh files by class: ModelNet's layout, or one pool of each class."""

from pathlib import Path

from lightning_dws.counting import counted
from lightning_dws.errors import DataError
from lightning_dws.inrs.shapes.mesh_files import is_mesh_name
from lightning_dws.inrs.signals.file_listing import (
    POOL,
    VAL_FOLDERS,
    FileListing,
    list_entries,
    list_folders,
    normalised,
)

_SPLIT_OF_FOLDER = {"train": "train", **dict.fromkeys(VAL_FOLDERS, "val"), "test": "test"}


def list_meshes(root: Path) -> FileListing:
    """List ``root/CLASS/{train,test[,val|valid]}/*``, or ``root/CLASS/*``.

    Hidden files and folders are left out; so are folders inside splits, meshes beside them, and
    files without a mesh's extension, which ``left_out`` tells. The order is that of the names,
    whatever the file system's. A class may lack meshes in a split.

    Raises:
        DataError: There is no such folder, its layout is another, or a link leaves the folder.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; expected one with meshes by class")
    parts: dict[str, list[tuple[Path, int]]] = {"train": [], "val": [], "test": [], POOL: []}
    folders = list_folders(root, root)
    if not folders:
        raise DataError(
            f"{root}: no folders of classes; expected {root}/CLASS/train/MESH, or a CSV of files "
            "and classes as the option labels"
        )
    others: list[Path] = []
    for label, folder in enumerate(folders):
        splits = _find_splits(folder, root)
        for name, place in splits.items():
            meshes, rest = _list_files(place, root)
            parts[name] += [(path, label) for path in meshes]
            others += rest
        if POOL not in splits:
            meshes, rest = _list_files(folder, root)
            others += [path for path in (*meshes, *rest) if path not in splits.values()]
    classes = tuple(normalised(folder.name) for folder in folders)
    if len(set(classes)) < len(classes):
        raise DataError(f"{root}: two folders have the same name, with accents spelt in two ways")
    if parts[POOL] and any(parts[name] for name in ("train", "val", "test")):
        raise DataError(f"{root}: some classes have the folders train/ and test/, others have not")
    if not parts[POOL]:
        for name in ("train", "test"):
            if not parts[name]:
                raise DataError(f"{root}: no meshes in any {root}/CLASS/{name}/")
    given = {name: files for name, files in parts.items() if files}
    left_out = tuple(_describe(others, root))
    return FileListing(root, classes, given, left_out=left_out)


def _find_splits(folder: Path, root: Path) -> dict[str, Path]:
    """Find the splits of a class: their folders, or the class's own as the pool."""
    found: dict[str, Path] = {}
    for place in list_folders(folder, root):
        split = _SPLIT_OF_FOLDER.get(place.name)
        if split is None:
            raise DataError(f"{place}: expected {folder}/train/ and {folder}/test/, or meshes")
        if split in found:
            raise DataError(f"{folder}: both val/ and valid/; expected one of them")
        found[split] = place
    return found or {POOL: folder}


def _list_files(folder: Path, root: Path) -> tuple[list[Path], list[Path]]:
    """List the meshes of a folder, and what else is in it."""
    entries = list_entries(folder, root, may_be_missing=True)
    meshes = [path for path in entries if is_mesh_name(path.name) and not path.is_dir()]
    return meshes, [path for path in entries if path not in set(meshes)]


def _describe(others: list[Path], root: Path) -> list[str]:
    """Say what is left out, a line for each kind of it, with one example."""
    kinds: dict[tuple[str, str], list[Path]] = {}
    for path in others:
        if path.is_dir():
            kind = "folder", "where meshes are expected"
        elif is_mesh_name(path.name):
            kind = "mesh", "beside the folders of splits"
        else:
            suffix = path.suffix.lower() or "without extension"
            kind = "file", f"{suffix}, which no reader takes"
        kinds.setdefault(kind, []).append(path)
    return [
        f"{counted(len(paths), one, 'meshes' if one == 'mesh' else None)} {which} "
        f"(such as {paths[0].relative_to(root)})"
        for (one, which), paths in sorted(kinds.items())
    ]
