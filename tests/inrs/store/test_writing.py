"""INRs from memory written as a store."""

import pytest
import torch
from tiny import ARCHITECTURE, random_batch

from lightning_dws import INRArchitecture
from lightning_dws.data import INRDataModule
from lightning_dws.errors import DataError
from lightning_dws.inrs import INRStore, Recipe
from lightning_dws.inrs.store import writing
from lightning_dws.inrs.store.verification import verify_store

CLASSES = ("a", "b", "c")


def some_inrs(num_objects=20, views=2):
    """Two views of each object, in mixed order."""
    batch = random_batch(size=num_objects * views)
    object_id = torch.arange(len(batch)) // views
    batch = batch.replace(
        object_id=7 * object_id, label=object_id % 3, view=torch.arange(len(batch)) % views
    )
    return batch[torch.randperm(len(batch), generator=torch.Generator().manual_seed(0))]


def by_key(batch, values):
    keys = zip(batch.object_id.tolist(), batch.view.tolist(), strict=True)
    return dict(zip(keys, values.tolist(), strict=True))


def test_every_inr_is_found_again_and_views_stay_together(tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "SHARD_SIZE", 5)
    batch = some_inrs()
    psnr = torch.arange(len(batch)).float()
    store = INRStore.write(tmp_path / "mine", batch, CLASSES, psnr=psnr)
    assert store.classes == CLASSES
    assert {split: store.num_objects(split, 1) for split in store.splits} == {
        "train": 16,
        "val": 2,
        "test": 2,
    }
    found, labels, numbers = {}, {}, {}
    for split in store.splits:
        part = store.split(split)
        first, second = part[: len(part) // 2], part[len(part) // 2 :]
        assert torch.equal(first.object_id, second.object_id)
        found |= by_key(part, part.parameters)
        labels |= by_key(part, part.label)
        numbers |= by_key(part, store.psnr(split))
    assert found == by_key(batch, batch.parameters)
    assert labels == by_key(batch, batch.label)
    assert numbers == by_key(batch, psnr)


def test_splits_that_are_given_are_kept(tmp_path):
    batch = some_inrs(views=1)
    parts = {"train": batch[:12], "test": batch[12:]}
    store = INRStore.write(tmp_path / "mine", parts, CLASSES, grid_shape=(5, 6))
    assert store.splits == ("train", "test")
    assert store.header.grid_shape == (5, 6)
    for split, part in parts.items():
        assert torch.equal(store.split(split).parameters, part.parameters)
        assert store.psnr(split).isnan().all()
    store = INRStore.write(tmp_path / "other", batch, CLASSES, val_share=0, test_share=0)
    assert store.splits == ("train",)


def test_the_same_inrs_give_the_same_bytes_and_others_are_refused(tmp_path):
    batch = some_inrs()
    first = INRStore.write(tmp_path / "mine", batch, CLASSES)
    contents = {path.name: path.read_bytes() for path in first.directory.iterdir()}
    (first.directory / "dataset.json").unlink()  # as if it had been killed before the end
    again = INRStore.write(tmp_path / "mine", batch[torch.arange(len(batch)).flip(0)], CLASSES)
    assert again.header.recipe == first.header.recipe
    INRStore.write(tmp_path / "mine", batch[torch.arange(len(batch)).flip(0)], CLASSES)
    INRStore.write(tmp_path / "twice", batch, CLASSES)
    assert contents.keys() == {path.name for path in again.directory.iterdir()}
    for changed in (
        lambda: INRStore.write(tmp_path / "mine", batch, ("a", "b", "d")),
        lambda: INRStore.write(tmp_path / "mine", some_inrs(21), CLASSES),
    ):
        with pytest.raises(DataError, match="mine: holds other INRs already"):
            changed()


def relu(batch):
    return batch.replace(architecture=INRArchitecture(ARCHITECTURE.widths, "relu"))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda b: b.replace(parameters=b.parameters * torch.inf), "weights of object .* not fin"),
        (lambda b: b.replace(object_id=b.object_id // 14), "every INR needs an object_id"),
        (lambda b: b.replace(object_id=b.object_id - 70), "not negative"),
        (lambda b: b.replace(view=b.view + 1), "views must be numbered from 0"),
        (lambda b: b[:-1], "view 1 is not of the same objects as view 0"),
        (lambda b: b.replace(label=b.label + 1), "labels from 1 to 3, expected 0 to 2"),
        (lambda b: {"train": b, "exam": b}, "splits must be some of train, val, test"),
        (lambda b: {"train": b, "val": b}, "every INR needs an object_id"),
        (lambda b: {"train": b[:2], "val": relu(b[2:])}, "one architecture|views|not of"),
        (lambda b: b[:0], "too few"),
    ],
)
def test_what_makes_no_store_is_named_and_nothing_is_written(tmp_path, change, named):
    with pytest.raises(DataError, match=named):
        INRStore.write(tmp_path / "mine", change(some_inrs()), CLASSES)
    assert not (tmp_path / "mine").exists()


def test_a_store_is_all_that_a_data_module_needs(tmp_path, monkeypatch):
    store = INRStore.write(tmp_path / "data" / "mine", some_inrs(), CLASSES)
    monkeypatch.chdir(tmp_path)
    for name in ("mine", "data/mine", str(store.directory)):
        data = INRDataModule(store=name)
        data.setup("fit")
        assert (data.num_classes, data.architecture) == (3, ARCHITECTURE)
        assert sum(map(len, data.train_parameters())) == 16


@pytest.mark.parametrize("recipe", [None, Recipe(5, 1e-3)])
def test_inrs_of_no_known_psnr_are_sound(tmp_path, recipe):
    INRStore.write(tmp_path / "s", some_inrs(), CLASSES, recipe=recipe)
    assert verify_store(tmp_path / "s").problems == []
