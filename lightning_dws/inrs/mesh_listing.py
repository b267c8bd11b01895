"""A folder of mesh files by class: ModelNet's layout, or one pool of each class."""

from pathlib import Path

from lightning_dws.errors import DataError
from lightning_dws.inrs.file_listing import (
    POOL,
    VAL_FOLDERS,
    FileListing,
    list_entries,
    list_folders,
    normalised,
)
from lightning_dws.inrs.meshes import mesh_suffixes

_SPLIT_OF_FOLDER = {"train": "train", **dict.fromkeys(VAL_FOLDERS, "val"), "test": "test"}


def list_meshes(root: Path) -> FileListing:
    """List ``root/CLASS/{train,test[,val|valid]}/*``, or ``root/CLASS/*``.

    Hidden files and folders, and files without a mesh's extension, are left out. The order is that
    of the names, whatever the file system's. A class may lack meshes in a split.

    Raises:
        DataError: There is no such folder, its layout is another, or a link leaves the folder.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; expected one with meshes by class")
    parts: dict[str, list[tuple[Path, int]]] = {"train": [], "val": [], "test": [], POOL: []}
    folders = list_folders(root, root)
    if not folders:
        raise DataError(f"{root}: no folders of classes; expected {root}/CLASS/train/MESH")
    for label, folder in enumerate(folders):
        for name, place in _find_splits(folder, root).items():
            parts[name] += [(path, label) for path in _list_files(place, root)]
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
    return FileListing(root, classes, given, may_be_unreadable=True)


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


def _list_files(folder: Path, root: Path) -> list[Path]:
    suffixes = mesh_suffixes()
    entries = list_entries(folder, root, may_be_missing=True)
    return [path for path in entries if path.suffix.lower() in suffixes and not path.is_dir()]
