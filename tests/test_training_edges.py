"""The edges of a training: its schedule, its epochs, and what must be told of them."""

import math

import pytest
import pytorch_lightning as pl
import torch
from tiny import ARCHITECTURE, AddNoise, FlatMLP, random_batch, tiny_spec

from lightning_dws.augmentations import Augmentation
from lightning_dws.data import INRDataModule
from lightning_dws.errors import DataError
from lightning_dws.mixup import MixUp
from lightning_dws.tasks import ClassificationTask


def make_data(store, **options) -> INRDataModule:
    root = str(store.directory.parent)
    return INRDataModule(tiny_spec(), **{"root": root, "batch_size": 8, **options})


def train(data, tmp_path, *callbacks, task=None, **options) -> pl.Trainer:
    trainer = pl.Trainer(
        **{
            "max_epochs": 1,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "log_every_n_steps": 1,
            "num_sanity_val_steps": 0,
            "limit_val_batches": 0,
            "default_root_dir": tmp_path,
            "accelerator": "cpu",
            "callbacks": list(callbacks),
            **options,
        }
    )
    trainer.fit(task or make_task(), datamodule=data)
    return trainer


def make_task(**options) -> ClassificationTask:
    return ClassificationTask(FlatMLP(ARCHITECTURE, 3), num_classes=3, **options)


class Watch(pl.Callback):
    """Notes the objects and the learning rate of every batch; may move a run's clock on."""

    def __init__(self, seconds_a_batch: float = 0.0, stop_after: int | None = None) -> None:
        self.seconds, self.stop_after = seconds_a_batch, stop_after
        self.objects, self.rates = [], []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.objects.append(batch.object_id.tolist())
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])
        for callback in trainer.callbacks:
            if isinstance(callback, pl.callbacks.Timer):
                callback._offset += self.seconds
        if self.stop_after and len(self.rates) >= self.stop_after:
            trainer.should_stop = True


# Lightning's, of any sampler that is not torch's sequential one
@pytest.mark.filterwarnings("ignore:You requested to overfit:UserWarning")
def test_a_limited_number_of_batches_is_the_same_in_every_epoch(store, tmp_path):
    watch = Watch()
    train(make_data(store), tmp_path, watch, max_epochs=3, overfit_batches=2)
    first, second = watch.objects[:2], watch.objects[2:4]
    assert first == second == watch.objects[4:]
    other = Watch()
    train(make_data(store), tmp_path, other, max_epochs=2)
    assert other.objects[:3] != other.objects[3:]


def test_a_cosine_that_only_time_ends_falls_with_the_time(store, tmp_path, capsys):
    watch = Watch(seconds_a_batch=100)
    train(make_data(store), tmp_path, watch, max_epochs=-1, max_time={"seconds": 1000})
    expected = [0.5 * (1 + math.cos(math.pi * share / 10)) for share in range(10)]
    full = watch.rates[0]
    assert len(watch.rates) == 10
    assert torch.tensor(watch.rates).div(full).sub(torch.tensor(expected)).abs().max() < 0.03
    assert "the learning rate falls with the time, 0:16:40" in capsys.readouterr().err


def test_a_cosine_that_nothing_ends_is_told(store, tmp_path, capsys):
    watch = Watch(stop_after=4)
    train(make_data(store), tmp_path, watch, max_epochs=-1)
    assert len({*watch.rates}) == 1
    assert "its learning rate stays constant" in capsys.readouterr().err


@pytest.mark.parametrize(("warmup_steps", "told"), [(2, False), (3, True), (99, True)])
def test_a_warmup_longer_than_the_training_is_told(store, tmp_path, capsys, warmup_steps, told):
    train(make_data(store), tmp_path, task=make_task(warmup_steps=warmup_steps))
    printed = capsys.readouterr().err
    assert (
        f"model.warmup_steps is {warmup_steps}, and this training has 3 steps" in printed
    ) == told


@pytest.mark.parametrize(
    ("batch_size", "drop_last", "left_out"),
    [(8, True, None), (16, True, 8), (16, False, None), (13, True, 11), (64, True, None)],
)
def test_an_epoch_that_leaves_out_much_is_told(
    store, tmp_path, capsys, batch_size, drop_last, left_out
):
    train(make_data(store, batch_size=batch_size, drop_last=drop_last), tmp_path)
    printed = capsys.readouterr().err
    assert ("data.drop_last" in printed) == (left_out is not None)
    assert left_out is None or f"1 batch an epoch, without {left_out} of them" in printed


def test_views_that_a_store_does_not_have_are_named(store, tmp_path):
    data = INRDataModule(None, str(store.directory.parent), store.directory.name, views=5)
    with pytest.raises(DataError, match=r"holds 2 views .* data.views is 5; --data.views 2"):
        data.setup("fit")


def test_two_mixups_are_refused_in_python_too(store, tmp_path):
    with pytest.raises(DataError, match="two MixUps"):
        train(make_data(store), tmp_path, MixUp(), MixUp(alpha=0.2))


class GivesATensor(Augmentation):
    def draw(self, batch, generator):
        return {}

    def transform(self, batch, params):
        return batch.parameters


class GivesFewer(GivesATensor):
    def transform(self, batch, params):
        return AddNoise(0.0)(batch, torch.Generator())[:1]


@pytest.mark.parametrize(
    ("augmentation", "message"),
    [
        (GivesATensor(), r"GivesATensor.transform gives a Tensor, expected a WeightBatch"),
        (GivesFewer(), r"GivesFewer.transform gives parameters of shape \(1, 59\), .*\(4, 59\)"),
    ],
)
def test_what_an_augmentation_gives_is_checked(augmentation, message):
    with pytest.raises(DataError, match=message):
        augmentation(random_batch(), torch.Generator())


def test_the_best_five_of_few_classes_are_not_measured():
    few = {name.rpartition("/")[2] for name in make_task().training_metrics}
    many = ClassificationTask(FlatMLP(ARCHITECTURE, 6), num_classes=6).training_metrics
    assert few == {"loss", "accuracy", "accuracy_macro", "loss_step"}
    assert "val/accuracy_top5" in many
