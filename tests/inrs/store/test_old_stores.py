"""A store of version 0.1.0, from before its index had a sum: read, verified and extended.

Of ``tiny_spec()``, with 7 / 3 / 3 objects and two views for training.
"""

import json
import shutil
from pathlib import Path

import pytest
import torch
from tiny import Blobs, tiny_spec

from lightning_dws.data import INRDataModule
from lightning_dws.inrs import INRStore, Wanted, prepare_store
from lightning_dws.inrs.preparation import prepare as preparation
from lightning_dws.inrs.store.verification import verify_store

OLD = Path(__file__).parents[2] / "data" / "stores" / "version_0_1_0"
WANTED = Wanted({"train": 7, "val": 3, "test": 3}, {"train": 2})


@pytest.fixture
def old(tmp_path):
    return shutil.copytree(OLD, tmp_path / "old")


def test_it_is_read_and_verified(old):
    store = INRStore(old)
    assert store.header.fingerprint == tiny_spec().header.fingerprint
    assert [len(store.split(name)) for name in store.splits] == [14, 3, 3]
    result = verify_store(old, Blobs())
    assert (result.num_inrs, result.num_rendered, result.problems) == (20, 20, [])
    data = INRDataModule(root=str(old.parent), store="old", batch_size=2, views=2)
    data.setup("fit")
    assert len(data.tables["train"]) == 14


def test_it_is_complete_and_stays_as_it_is(old, monkeypatch):
    before = {path.name: path.read_bytes() for path in old.iterdir()}
    monkeypatch.setattr(preparation, "fit_inrs", lambda *a, **k: pytest.fail("fitted again"))
    prepare_store(old, tiny_spec(), WANTED, show_progress=False)
    assert {p.name: p.read_bytes() for p in old.iterdir() if p.name in before} == before


def test_it_is_extended_and_keeps_its_bytes(old):
    kept = [*old.glob("val-*"), *old.glob("test-*")]  # the others grow
    before = {path.name: path.read_bytes() for path in kept}
    rows = INRStore(old).split("train", num_objects=7, views=2).parameters
    wanted = Wanted({"train": 9, "val": 3, "test": 3}, {"train": 2})
    store = prepare_store(old, tiny_spec(), wanted, show_progress=False)
    assert torch.equal(store.split("train", num_objects=7, views=2).parameters, rows)
    assert {name: (old / name).read_bytes() for name in before} == before
    assert json.loads((old / "dataset.json").read_text())["version"] == 2
    assert verify_store(old, Blobs()).problems == []
