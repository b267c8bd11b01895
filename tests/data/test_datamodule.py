import pytest
import pytorch_lightning as pl
import torch
from tiny import EVERYTHING, AddNoise, FlatMLP, tiny_spec

from lightning_dws.data import INRDataModule
from lightning_dws.data import datamodule as datamodule_module
from lightning_dws.data.placement import DeviceTable, MappedTable
from lightning_dws.errors import DataError
from lightning_dws.inrs import prepare_store
from lightning_dws.inrs.preparation import plan
from lightning_dws.inrs.store import write_index
from lightning_dws.tasks import ClassificationTask


@pytest.fixture
def make_data(tmp_path, store):
    def make(**options):
        data = INRDataModule(tiny_spec(), root=str(tmp_path / "stores"), **options)
        data.prepare_data()
        data.setup("fit")
        return data

    return make


def test_only_what_a_run_needs_is_fitted(tmp_path):
    data = INRDataModule(
        tiny_spec(), root=str(tmp_path), num_train_objects=5, num_val_objects=3, num_test_objects=3
    )
    data.prepare_data()
    assert [data.store.num_objects(s) for s in ("train", "val", "test")] == [5, 3, 3]
    more = INRDataModule(
        tiny_spec(), root=str(tmp_path), num_train_objects=7, views=2, num_val_objects=3
    )
    more.prepare_data()
    assert [more.store.num_objects("train", view) for view in (0, 1)] == [7, 7]
    assert more.store.num_objects("test") == 6
    data.prepare_data()
    data.setup("fit")
    assert len(data.train_dataloader().table) == 5


def test_a_run_on_part_of_a_store_sees_no_other_objects_or_views(make_data):
    data = make_data(num_train_objects=9, batch_size=3)
    seen = list(data.train_dataloader())
    assert {int(v) for batch in seen for v in batch.view} == {0}
    expected = tiny_spec().signals.split("train").object_id[:9]
    assert torch.equal(torch.cat([b.object_id for b in seen]).sort().values, expected.sort().values)


def test_a_store_without_validation_says_how_to_hold_some_out(tmp_path, make_data):
    store = make_data().store
    shards = [shard for shard in store.shards if shard.range.split != "val"]
    write_index(store.directory, store.header, shards)
    data = INRDataModule(root=str(store.directory.parent), store=store.directory.name)
    with pytest.raises(DataError, match=r"no val split, only train, test; .* with --num_val N"):
        data.setup("fit")


def test_validation_uses_the_first_view_in_order(make_data):
    data = make_data(views=2, eval_batch_size=4)
    batches = list(data.val_dataloader())
    assert [len(batch) for batch in batches] == [4, 2]
    expected = tiny_spec().signals.split("val")
    assert torch.equal(torch.cat([b.object_id for b in batches]), expected.object_id)
    assert torch.equal(torch.cat([b.label for b in batches]), expected.label)


def test_the_mapped_table_gives_the_batches_of_the_one_in_memory(make_data, monkeypatch):
    tables = {}
    for kind in ("device", "mapped"):
        loader = make_data(views=2, batch_size=7, table=kind).train_dataloader()
        tables[kind] = loader.table
        batches = list(loader)
        tables[f"{kind} batches"] = batches
    assert isinstance(tables["device"], DeviceTable)
    assert isinstance(tables["mapped"], MappedTable)
    for a, b in zip(tables["device batches"], tables["mapped batches"], strict=True):
        for name in ("parameters", "label", "object_id", "view"):
            assert torch.equal(getattr(a, name), getattr(b, name))


def test_the_mapped_table_gathers_over_many_shards(tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "SHARD_SIZE", 5)
    store = prepare_store(
        tmp_path / "s",
        tiny_spec(),
        plan.Wanted(EVERYTHING, {"train": 2}),
        show_progress=False,
    )
    whole = store.split("train")
    table = MappedTable(store, "train", None, None, pin=False)
    rows = torch.tensor([47, 0, 5, 4, 23, 24, 0, 30])
    assert torch.equal(table.gather(rows).parameters, whole.parameters[rows])
    assert torch.equal(table.gather(rows).view, whole.view[rows])


def test_a_table_that_does_not_fit_is_mapped(make_data, monkeypatch):
    monkeypatch.setattr(datamodule_module, "free_memory", lambda device: 1000)
    assert isinstance(make_data().train_dataloader().table, MappedTable)


def test_a_class_without_training_inrs_is_named(make_data):
    with pytest.raises(DataError, match=r"hold none of the class \w+; every class needs"):
        make_data(num_train_objects=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"views": 0}, "views must be at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"num_val_objects": 0}, "num_val_objects must be at least 1, got 0"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        INRDataModule(tiny_spec(), **options)


def test_something_to_open_must_be_given():
    with pytest.raises(ValueError, match="give a dataset to fit, or the store"):
        INRDataModule()


def test_a_store_is_opened_without_knowing_how_it_was_fitted(store):
    data = INRDataModule(root=str(store.directory.parent), store=store.directory.name)
    data.prepare_data()
    data.setup("fit")
    assert data.num_classes == 3
    assert data.architecture == store.architecture


def trained_batches(tmp_path, store, **options):
    """Train for two epochs and give the parameters that every step saw."""

    class Recorder(pl.Callback):
        def __init__(self):
            self.train, self.val = [], []

        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            self.train.append(batch.parameters.clone())

        def on_validation_batch_start(self, trainer, module, batch, batch_idx, dataloader_idx=0):
            self.val.append(batch.parameters.clone())

    data = INRDataModule(tiny_spec(), root=str(store.directory.parent), batch_size=8, **options)
    recorder = Recorder()
    trainer = pl.Trainer(
        max_epochs=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        log_every_n_steps=1,
        enable_model_summary=False,
        callbacks=[recorder],
        default_root_dir=tmp_path,
        accelerator="cpu",
    )
    trainer.fit(ClassificationTask(FlatMLP(data.architecture, 3), 3), datamodule=data)
    return recorder


def test_training_batches_are_augmented_and_the_table_is_not(tmp_path, store):
    plain = trained_batches(tmp_path, store)
    noisy = trained_batches(tmp_path, store, augmentations=[AddNoise(0.5), AddNoise(0.5)])
    again = trained_batches(tmp_path, store, augmentations=[AddNoise(0.5), AddNoise(0.5)])
    differences = [n - p for n, p in zip(noisy.train, plain.train, strict=True)]
    assert abs(torch.cat(differences).std() - 0.5 * 2**0.5) < 0.05
    assert not torch.equal(differences[0], differences[1])
    for a, b in zip(noisy.train, again.train, strict=True):
        assert torch.equal(a, b)
    for a, b in zip(noisy.val, plain.val, strict=True):
        assert torch.equal(a, b)
