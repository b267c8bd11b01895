import io
import tarfile

import pooch
import pytest
import torch

from lightning_dws.errors import DataError
from lightning_dws.inrs import CIFAR10
from lightning_dws.inrs.signals.cifar import _FILES

PER_FILE = 20


class SmallCIFAR10(CIFAR10):
    _images_per_file, _num_val = PER_FILE, 20


@pytest.fixture
def records():
    """The six files' records: (6, 20, 3073), labels first."""
    generator = torch.Generator().manual_seed(0)
    values = torch.randint(0, 256, (6, PER_FILE, 3073), generator=generator, dtype=torch.uint8)
    values[:, :, 0] = torch.arange(PER_FILE) % 10
    return values


@pytest.fixture
def folder(tmp_path, records):
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    for name, content in zip(_FILES, records, strict=True):
        (folder / name).write_bytes(content.numpy().tobytes())
    return folder


def pack(folder, path, prefix="cifar-10-batches-bin/"):
    with tarfile.open(path, "w:gz") as archive:
        for name in sorted(file.name for file in folder.iterdir()):
            archive.add(folder / name, prefix + name)
    return path


def test_planes_become_rgb_pixels(folder, records):
    data = SmallCIFAR10(str(folder))
    values = data.values(torch.tensor([0, 45, 119])).reshape(3, 32, 32, 3)
    for value, (file, row) in zip(values, ((0, 0), (2, 5), (5, 19)), strict=True):
        planes = records[file, row, 1:].reshape(3, 32, 32)
        assert torch.equal(value.permute(2, 0, 1), planes / 255)
    assert values.min() >= 0
    assert values.max() <= 1
    assert data.coordinates.shape == (1024, 2)
    assert data.label[45] == 5


def test_splits_are_stratified_and_disjoint(folder):
    data = SmallCIFAR10(str(folder))
    parts = {name: data.split(name) for name in ("train", "val", "test")}
    assert {name: len(part) for name, part in parts.items()} == {"train": 80, "val": 20, "test": 20}
    assert parts["test"].object_id.min() == 100
    assert torch.cat([part.object_id for part in parts.values()]).unique().numel() == 120
    for part in parts.values():
        assert torch.bincount(part.label).unique().numel() == 1
        assert torch.equal(data.label[part.object_id], part.label)


def test_split_sizes_are_those_of_the_field():
    data = CIFAR10()
    data.__dict__["_images"] = (torch.zeros(0), torch.arange(60_000) % 10)
    assert [len(data.split(name)) for name in ("train", "val", "test")] == [45_000, 5_000, 10_000]


def test_folder_parent_and_archive_hold_the_same(tmp_path, folder):
    ids = torch.arange(120)
    expected = SmallCIFAR10(str(folder))
    archive = pack(folder, tmp_path / "packed.tar.gz")
    other = tmp_path / "other"
    other.mkdir()
    pack(folder, other / "cifar-10-binary.tar.gz", "./deep/down/")
    before = sorted(tmp_path.rglob("*"))
    for root in (tmp_path, archive, other):
        data = SmallCIFAR10(str(root))
        assert torch.equal(data.values(ids), expected.values(ids))
        assert torch.equal(data.label, expected.label)
    assert sorted(tmp_path.rglob("*")) == before


def test_nothing_of_an_archive_is_written_or_followed(tmp_path, folder):
    """A member outside the folder is only a name, and a link is no file."""
    path = tmp_path / "evil.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name in _FILES[1:]:
            archive.add(folder / name, f"../../{name}")
        link = tarfile.TarInfo(_FILES[0])
        link.type, link.linkname = tarfile.SYMTYPE, str(folder / _FILES[0])
        archive.addfile(link)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataError, match=r"evil\.tar\.gz: no data_batch_1\.bin in it"):
        SmallCIFAR10(str(path)).split("train")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "name", ["cifar-10-python.tar.gz", "cifar-10-batches-py/x", "data_batch_1"]
)
def test_the_pickled_version_is_never_opened(tmp_path, name):
    path = tmp_path / "root" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(b"cos\nsystem\n")
    with pytest.raises(DataError, match=r"is a pickle.*never opened; wanted is .*binary\.tar\.gz"):
        CIFAR10(str(tmp_path / "root")).split("train")


def test_the_pickled_archive_is_known_by_its_members(tmp_path):
    path = tmp_path / "cifar.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("cifar-10-batches-py/data_batch_1"), io.BytesIO())
    with pytest.raises(DataError, match=r"is a pickle"):
        CIFAR10(str(path)).split("train")


def test_damaged_files_are_named(tmp_path, folder, records):
    archive = pack(folder, tmp_path / "packed.tar.gz")
    archive.write_bytes(archive.read_bytes()[:-200_000])
    with pytest.raises(DataError, match=r"packed\.tar\.gz: not a readable tar archive"):
        SmallCIFAR10(str(archive)).split("train")
    archive.write_bytes(b"no archive")
    with pytest.raises(DataError, match=r"packed\.tar\.gz: not a readable tar archive"):
        SmallCIFAR10(str(archive)).split("train")
    with pytest.raises(DataError, match=r"data_batch_1\.bin: 61460 bytes, expected 30730000"):
        CIFAR10(str(folder)).split("train")
    path = folder / "test_batch.bin"
    records[5, 3, 0] = 10
    path.write_bytes(records[5].numpy().tobytes())
    with pytest.raises(DataError, match=r"test_batch\.bin: label 10, expected 0 to 9"):
        SmallCIFAR10(str(folder)).split("train")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"test_batch\.bin: 61459 bytes"):
        SmallCIFAR10(str(folder)).split("train")
    with pytest.raises(DataError, match=r"packed\.tar\.gz: test_batch\.bin: 61459 bytes"):
        SmallCIFAR10(str(pack(folder, archive))).split("train")
    path.unlink()
    with pytest.raises(DataError, match=r"test_batch\.bin: cannot be read"):
        SmallCIFAR10(str(folder)).split("train")
    with pytest.raises(DataError, match=r"nowhere holds neither data_batch_1\.bin"):
        SmallCIFAR10(str(tmp_path / "nowhere")).split("train")


def test_it_is_downloaded_where_no_root_is_given(tmp_path, folder, monkeypatch):
    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path / "cache")
    asked = {}

    def retrieve(url, known_hash, fname, path):
        asked[url] = known_hash
        path.mkdir(parents=True)
        pack(folder, path / fname)

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    assert len(SmallCIFAR10().split("train")) == 80
    [(url, known_hash)] = asked.items()
    assert url == "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
    assert known_hash.startswith("sha256:")

    def fail(*arguments, **options):
        raise OSError("no network")

    monkeypatch.setattr(pooch, "retrieve", fail)
    with pytest.raises(DataError, match=r"CIFAR-10 could not be downloaded \(no network\); put"):
        SmallCIFAR10().split("train")
