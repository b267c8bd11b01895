import gzip
import struct

import pooch
import pytest
import torch

from lightning_dws.errors import DataError
from lightning_dws.inrs import MNIST, Digits, FashionMNIST
from lightning_dws.inrs.signals.base import pixel_coordinates
from lightning_dws.inrs.signals.images import read_idx
from lightning_dws.inrs.signals.splits import stratified_order


def idx_bytes(values: torch.Tensor) -> bytes:
    header = bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    return header + values.to(torch.uint8).numpy().tobytes()


class SmallFashionMNIST(FashionMNIST):
    _num_training, _num_test = 60, 20
    grid_shape = (4, 4)


class SmallMNIST(MNIST):
    _num_training, _num_val, _num_test = 60, 10, 20
    grid_shape = (4, 4)


@pytest.fixture
def fashion_folder(tmp_path):
    generator = torch.Generator().manual_seed(0)
    for part, count in (("train", 60), ("t10k", 20)):
        images = torch.randint(0, 256, (count, 4, 4), generator=generator)
        (tmp_path / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx_bytes(images)))
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(idx_bytes(torch.arange(count) % 10))
    return tmp_path


def test_pixels_are_row_by_row_with_x_first():
    points = pixel_coordinates(3, 5).reshape(3, 5, 2)
    assert points[0, 0].tolist() == [-1, -1]
    assert points[0, 4].tolist() == [1, -1]
    assert points[2, 0].tolist() == [-1, 1]


def test_every_prefix_is_stratified():
    label = torch.tensor([0] * 60 + [1] * 30 + [2] * 10)
    order = stratified_order(label, seed=1)
    assert order.sort().values.tolist() == list(range(100))
    for count in (10, 25, 50, 77):
        counts = torch.bincount(label[order[:count]], minlength=3)
        assert (counts - count * torch.tensor([0.6, 0.3, 0.1])).abs().max() <= 1
    assert not torch.equal(order, stratified_order(label, seed=2))


def test_digits_are_split_without_overlap():
    digits = Digits()
    parts = [digits.split(name) for name in ("train", "val", "test")]
    assert [len(part) for part in parts] == [1260, 177, 360]
    assert torch.cat([part.object_id for part in parts]).unique().numel() == 1797
    values = digits.values(parts[0].object_id[:5])
    assert values.shape == (5, 64, 1)
    assert values.min() == 0
    assert values.max() == 1


def test_fashion_mnist_reads_idx_files(fashion_folder):
    data = SmallFashionMNIST(str(fashion_folder))
    raw = read_idx(fashion_folder / "t10k-images-idx3-ubyte.gz")
    assert torch.equal(data.values(torch.tensor([63]))[0, :, 0], raw[3].flatten() / 255)
    assert data.label[63] == 3


@pytest.mark.parametrize("dataset", [FashionMNIST, MNIST])
def test_splits_are_those_of_the_field(dataset):
    label = torch.arange(70_000) % 10
    data = dataset()
    data.__dict__["_images"] = (torch.zeros(0), label)
    parts = {name: data.split(name) for name in ("train", "val", "test")}
    assert {name: len(part) for name, part in parts.items()} == {
        "train": 55_000,
        "val": 5_000,
        "test": 10_000,
    }
    assert parts["test"].object_id.min() == 60_000
    assert torch.cat([part.object_id for part in parts.values()]).unique().numel() == 70_000
    assert torch.bincount(parts["val"].label).tolist() == [500] * 10


def test_objects_of_fashion_mnist_keep_their_places():
    """Stores that exist rely on them."""
    data = FashionMNIST()
    data.__dict__["_images"] = (torch.zeros(0), torch.arange(70_000) % 10)
    first = {name: data.split(name).object_id[:5].tolist() for name in ("train", "val", "test")}
    assert first == {
        "train": [36044, 10678, 57327, 15479, 9481],
        "val": [38790, 23173, 10647, 7004, 54642],
        "test": [66044, 62890, 69399, 61917, 67532],
    }


def test_mnist_reads_the_same_files_as_another_dataset(fashion_folder):
    data = SmallMNIST(str(fashion_folder))
    ids = torch.arange(80)
    assert torch.equal(data.values(ids), SmallFashionMNIST(str(fashion_folder)).values(ids))
    assert [len(data.split(name)) for name in ("train", "val", "test")] == [50, 10, 20]
    assert torch.bincount(data.split("val").label).tolist() == [1] * 10
    assert data.name == "mnist"
    assert data.classes[7] == "7"
    (fashion_folder / "t10k-labels-idx1-ubyte").write_bytes(idx_bytes(torch.full((20,), 10)))
    with pytest.raises(DataError, match=r"MNIST in .*: label 10, expected 0 to 9"):
        SmallMNIST(str(fashion_folder)).split("test")


def test_a_missing_folder_or_file_is_named(tmp_path, fashion_folder):
    with pytest.raises(DataError, match="nowhere is not a folder"):
        FashionMNIST(str(tmp_path / "nowhere")).split("train")
    (fashion_folder / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match="no file train-labels-idx1-ubyte"):
        SmallFashionMNIST(str(fashion_folder)).split("train")


def test_fashion_mnist_is_downloaded_where_it_is_not_installed(
    tmp_path, fashion_folder, monkeypatch
):
    monkeypatch.setattr(FashionMNIST, "_debian_root", tmp_path / "nowhere")
    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path / "cache")
    asked = {}

    def retrieve(url, known_hash, fname, path):
        asked[url.rpartition("/")[2]] = known_hash
        path.mkdir(parents=True, exist_ok=True)
        source = fashion_folder / fname
        content = source.read_bytes() if source.exists() else None
        if content is None:
            content = gzip.compress(source.with_suffix("").read_bytes())
        (path / fname).write_bytes(content)

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    data, given = SmallFashionMNIST(), SmallFashionMNIST(str(fashion_folder))
    ids = torch.tensor([3, 70])
    assert torch.equal(data.values(ids), given.values(ids))
    assert len(asked) == 4
    assert all(known.startswith("sha256:") and len(known) == 71 for known in asked.values())

    def fail(*arguments, **options):
        raise OSError("no network")

    monkeypatch.setattr(pooch, "retrieve", fail)
    with pytest.raises(
        DataError, match=r"could not be downloaded \(no network\); put train-images"
    ):
        SmallFashionMNIST().split("train")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an idx file"),
        (b"hello world", "not an idx file"),
        (idx_bytes(torch.zeros(3, 4))[:-1], "11 values for the stated shape"),
        (idx_bytes(torch.zeros(3, 4)) + b"x", "13 values for the stated shape"),
        (b"\x00\x00\x08\x03\x00", "not an idx file"),
    ],
)
def test_damaged_idx_files_are_named(tmp_path, content, message):
    path = tmp_path / "images"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_idx(path)
    packed = tmp_path / "images.gz"
    packed.write_bytes(gzip.compress(content)[:-9])
    with pytest.raises(DataError, match=r"images\.gz: cannot be read"):
        read_idx(packed)


def test_an_image_set_of_another_size_is_named(fashion_folder):
    with pytest.raises(DataError, match=r"train holds an array of shape \(60, 4, 4\), expected"):
        FashionMNIST(str(fashion_folder)).split("train")
