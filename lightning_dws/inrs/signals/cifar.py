"""CIFAR-10 from its binary version, as a folder or as the archive itself."""

import tarfile
import zlib
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from torch import Tensor

from lightning_dws.errors import DataError
from lightning_dws.inrs.signals.base import ImageSignals
from lightning_dws.inrs.signals.downloads import download
from lightning_dws.inrs.signals.splits import SplitOrder, cut_official

_ARCHIVE = "cifar-10-binary.tar.gz"
_SHA256 = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
_BASE_URL = "https://www.cs.toronto.edu/~kriz/"
_FOLDER = "cifar-10-batches-bin"
_FILES = (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin")
_PYTHON_VERSION = ("cifar-10-python.tar.gz", "cifar-10-batches-py", "data_batch_1")
_RECORD_BYTES = 1 + 3 * 32 * 32  # the label, then the red, the green and the blue plane


class CIFAR10(ImageSignals):
    """CIFAR-10 (Krizhevsky, 2009): 45,000 / 5,000 / 10,000 colour images of 32x32 in 10 classes.

    It is read from the binary version. The Python version is a pickle, which can run code when
    it is opened, so it never is. Validation is the stratified last 5,000 of a seeded order of the
    official training set. Object ids: 0 to 49,999 in the official training set, in the order of
    its five files, 50,000 to 59,999 in the test set.

    Args:
        root: Folder with the six ``.bin`` files, or with ``cifar-10-batches-bin/`` or
            ``cifar-10-binary.tar.gz`` in it, or that archive itself, which is read where it is.
            Default: a download into the user's cache, checked by SHA-256.
    """

    name = "cifar10"
    classes = (
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    )
    grid_shape = (32, 32)

    _images_per_file, _num_val = 10_000, 5_000

    def __init__(self, root: str | None = None) -> None:
        self.root = root

    def load_images(self) -> tuple[Tensor, Tensor]:
        source = self._find_source()
        contents = self._read_folder(source) if source.is_dir() else self._read_archive(source)
        parts = [self._parse(f"{source}: {name}", contents.pop(name)) for name in _FILES]
        images, labels = zip(*parts, strict=True)
        return torch.cat(images), torch.cat(labels)

    def split(self, name: str) -> SplitOrder:
        return cut_official(self.label, 5 * self._images_per_file, self._num_val)[name]

    @property
    def _file_bytes(self) -> int:
        return self._images_per_file * _RECORD_BYTES

    def _find_source(self) -> Path:
        if self.root is None:
            return download("CIFAR-10", _BASE_URL, {_ARCHIVE: _SHA256}, "cifar-10") / _ARCHIVE
        root = Path(self.root)
        if root.is_file():
            return root
        for folder in (root, root / _FOLDER):
            if (folder / _FILES[0]).is_file():
                return folder
        if (root / _ARCHIVE).is_file():
            return root / _ARCHIVE
        for name in _PYTHON_VERSION:
            if (root / name).exists():
                raise _python_version_error(root / name)
        raise DataError(
            f"CIFAR-10 root {root} holds neither {', '.join(_FILES)} nor {_ARCHIVE}, which is at "
            f"{_BASE_URL}"
        )

    def _read_folder(self, folder: Path) -> dict[str, bytes]:
        contents = {}
        for name in _FILES:
            path = folder / name
            try:
                self._check_size(str(path), path.stat().st_size)
                contents[name] = path.read_bytes()
            except OSError as error:
                raise DataError(f"{path}: cannot be read ({error.strerror})") from error
        return contents

    def _read_archive(self, path: Path) -> dict[str, bytes]:
        """Read the six files out of the archive, in one pass; nothing is written to disk."""
        contents: dict[str, bytes] = {}
        try:
            with tarfile.open(path) as archive:
                for member in archive:
                    name = PurePosixPath(member.name).name
                    if name in _PYTHON_VERSION:
                        raise _python_version_error(path)
                    if name in _FILES and member.isfile():
                        self._check_size(f"{path}: {name}", member.size)
                        file = archive.extractfile(member)
                        assert file is not None  # it is for folders and links alone
                        contents[name] = file.read()
        except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
            raise DataError(f"{path}: not a readable tar archive ({error})") from error
        missing = [name for name in _FILES if name not in contents]
        if missing:
            raise DataError(f"{path}: no {', '.join(missing)} in it, is it {_ARCHIVE}?")
        return contents

    def _check_size(self, place: str, size: int) -> None:
        if size != self._file_bytes:
            raise DataError(
                f"{place}: {size} bytes, expected {self._file_bytes}: {self._images_per_file} "
                f"records of a label and 3x32x32 pixels"
            )

    def _parse(self, place: str, content: bytes) -> tuple[Tensor, Tensor]:
        """Give a file's images (n, 32, 32, 3) uint8 and labels (n,) int64."""
        self._check_size(place, len(content))  # a file may have changed since it was measured
        records = torch.from_numpy(np.frombuffer(content, np.uint8).copy())
        records = records.reshape(self._images_per_file, _RECORD_BYTES)
        label = records[:, 0].long()
        if label.max() >= len(self.classes):
            raise DataError(f"{place}: label {int(label.max())}, expected 0 to 9")
        planes = records[:, 1:].reshape(-1, 3, 32, 32)
        return planes.permute(0, 2, 3, 1).contiguous(), label


def _python_version_error(path: Path) -> DataError:
    return DataError(
        f"{path}: the Python version of CIFAR-10 is a pickle, which can run code, and is never "
        f"opened; wanted is the binary version, {_ARCHIVE} from {_BASE_URL}"
    )
