"""ModelNet40 and ModelNet10 (Wu et al., "3D ShapeNets", 2015)."""

import zipfile
from pathlib import Path

from filelock import FileLock

from lightning_dws.errors import DataError
from lightning_dws.inrs.shapes.mesh_folder import MeshFolder
from lightning_dws.inrs.shapes.samples import Sampling


class ModelNet40(MeshFolder):
    """ModelNet40: 9,843 meshes for training, of which a tenth is for validation, 2,468 for test.

    Any folder of that layout may stand in for it: see ``MeshFolder``.

    Args:
        root: Folder with ``CLASS/{train,test}/*.off``. Default: a download of 2 GB by
            torch-geometric into the user's cache.
        val_share: Share of the training meshes that is for validation.
        sampling: As in ``MeshFolder``.
        cache: Likewise.
        num_processes: Likewise.
    """

    _number = "40"

    def __init__(
        self,
        root: str | None = None,
        val_share: float = 0.1,
        sampling: Sampling | None = None,
        cache: str | None = None,
        num_processes: int | None = None,
    ) -> None:
        super().__init__(
            root or "",
            val_share,
            name=f"modelnet{self._number}",
            sampling=sampling,
            cache=cache,
            num_processes=num_processes,
        )
        self.root = root

    def find_folder(self) -> Path:
        return Path(self.root) if self.root is not None else _download(self._number)


class ModelNet10(ModelNet40):
    """ModelNet10: 3,991 meshes for training, of which a tenth is for validation, 908 for test.

    Args:
        root: Folder with ``CLASS/{train,test}/*.off``. Default: a download of 450 MB by
            torch-geometric into the user's cache.
        val_share: As in ``ModelNet40``.
        sampling: Likewise.
        cache: Likewise.
        num_processes: Likewise.
    """

    _number = "10"


def _download(number: str) -> Path:
    """Download and unpack ModelNet, unless it is there; give the folder with its classes."""
    import pooch
    from torch_geometric.datasets import ModelNet

    class Files(ModelNet):  # type: ignore[misc]
        """Leaves out what torch-geometric would make of the files: all meshes in memory."""

        def _process(self) -> None:
            return

        def load(self, path: str) -> None:
            return

    root = Path(pooch.os_cache("lightning_dws")) / f"modelnet{number}"
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / "download.lock"):
            for archive in root.glob("*.zip"):
                if not zipfile.is_zipfile(archive):  # a download that was interrupted
                    archive.unlink()
            Files(str(root), name=number)
    except Exception as error:  # of the network, the server, the archive, the disk
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"ModelNet{number} could not be downloaded ({type(error).__name__}: {reason}); put its "
            "classes into a folder, CLASS/{train,test}/*.off, and give that as root"
        ) from error
    return root / "raw"
