import os

import fsspec
import pytest
import torch

from lightning_dws.cli import main
from lightning_dws.data import INRDataModule
from lightning_dws.errors import DataError
from lightning_dws.inrs import INRStore
from lightning_dws.inrs.preparation.fitting_record import FittingRecord
from lightning_dws.inrs.store import addresses, local_folder

ADDRESS = "memory://lab/blobs"


@pytest.fixture
def elsewhere(store, tmp_path, monkeypatch):
    """The file system that has a copy of the store at ``ADDRESS``."""
    monkeypatch.setattr(addresses, "cache_folder", lambda name: tmp_path / "cache" / name)
    system = fsspec.filesystem("memory")
    for path in store.directory.iterdir():
        system.pipe_file(f"/lab/blobs/{path.name}", path.read_bytes())
    yield system
    system.rm("/lab", recursive=True)


@pytest.fixture
def reads(elsewhere, monkeypatch):
    """The names of the shards that are read from elsewhere."""
    names = []
    opened = type(elsewhere).open

    def open_and_note(self, path, *args, **kwargs):
        names.append(path.rpartition("/")[2])
        return opened(self, path, *args, **kwargs)

    monkeypatch.setattr(type(elsewhere), "open", open_and_note)
    return names


def shards(store):
    return [shard.range.file_name for shard in store.shards]


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_a_store_elsewhere_is_the_same(kind, store, elsewhere):
    address = ADDRESS if kind == "memory" else store.directory.as_uri()
    found = INRStore(address)
    assert found.header == store.header
    for split in store.splits:
        assert torch.equal(found.split(split).parameters, store.split(split).parameters)
        assert torch.equal(found.psnr(split), store.psnr(split))


def test_a_shard_is_fetched_once(store, reads):
    INRStore(ADDRESS)
    assert sorted(name for name in reads if name != "dataset.json") == sorted(shards(store))
    reads.clear()
    INRStore(ADDRESS)
    assert set(reads) <= {"dataset.json"}


def test_a_damaged_copy_is_fetched_again(store, reads):
    folder = INRStore(ADDRESS).directory
    damaged, gone = (folder / name for name in shards(store)[:2])
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    gone.unlink()
    reads.clear()
    assert torch.equal(INRStore(ADDRESS).split("train").parameters, store.split("train").parameters)
    assert sorted(set(reads) - {"dataset.json"}) == sorted([damaged.name, gone.name])


def test_what_is_damaged_elsewhere_is_refused(store, elsewhere):
    name = shards(store)[0]
    whole = elsewhere.cat_file(f"/lab/blobs/{name}")
    elsewhere.pipe_file(f"/lab/blobs/{name}", whole[:-1] + b"x")
    with pytest.raises(DataError, match=f"{ADDRESS}: {name} is damaged there"):
        INRStore(ADDRESS)
    elsewhere.rm(f"/lab/blobs/{name}")
    with pytest.raises(DataError, match=f"{ADDRESS}: the shard {name} is missing"):
        INRStore(ADDRESS)
    elsewhere.pipe_file(f"/lab/blobs/{name}", whole)
    assert len(INRStore(ADDRESS).split("train")) == 48


def test_a_store_that_became_another_is_read_anew(store, elsewhere):
    INRStore(ADDRESS)
    val = store.split("val")
    other = INRStore.write(store.directory.parent / "other", {"train": val}, store.classes)
    elsewhere.rm("/lab/blobs", recursive=True)
    for path in other.directory.iterdir():
        elsewhere.pipe_file(f"/lab/blobs/{path.name}", path.read_bytes())
    found = INRStore(ADDRESS)
    assert torch.equal(found.split("train").parameters, val.parameters)
    assert len(list(found.directory.glob("*.safetensors"))) == 1


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("memory://nowhere", r"memory://nowhere: no INR store \(there is no dataset.json\)"),
        ("nothing://x/y", "nothing://x/y: Protocol not known: nothing"),
        ("gcs://bucket/x", "gcs://bucket/x: gcsfs is not installed: pip install gcsfs"),
    ],
)
def test_what_cannot_be_read_is_one_line(address, message, elsewhere):
    with pytest.raises(DataError, match=message):
        INRStore(address)


def test_a_folder_stays_a_folder(store):
    assert local_folder(store.directory) == store.directory
    assert INRStore(os.fspath(store.directory)).directory == store.directory


def test_a_network_is_trained_on_a_store_elsewhere(elsewhere, tmp_path, capsys):
    options = {
        "data.store": ADDRESS,
        "data.batch_size": 8,
        "model.network": "tiny.FlatMLP",
        "trainer.max_steps": 1,
        "trainer.accelerator": "cpu",
        "trainer.logger": "false",
        "trainer.enable_progress_bar": "false",
        "trainer.enable_checkpointing": "false",
        "trainer.default_root_dir": tmp_path,
    }
    main(["fit", *(f"--{name}={value}" for name, value in options.items())])
    main(["inrs", "verify", ADDRESS])
    assert "60 INRs verified" in capsys.readouterr().out


def test_a_checkpoint_names_the_address(elsewhere):
    data = INRDataModule(store=ADDRESS)
    assert FittingRecord.from_dict(data.inr_record, "here").store == ADDRESS


def test_nothing_is_fitted_elsewhere(elsewhere, spec):
    with pytest.raises(ValueError, match="store is memory://lab/blobs, where nothing is fitted"):
        INRDataModule(spec, store=ADDRESS)
