"""One task in several runs of one process: each measures its own batches, and goes on training."""

import copy

import pytest
import pytorch_lightning as pl
import torch
from tiny import ARCHITECTURE, tiny_spec
from torch import nn
from torchmetrics import MeanMetric

from lightning_dws.data import INRDataModule
from lightning_dws.models import DWSNet
from lightning_dws.tasks import ClassificationTask, WeightSpaceTask


@pytest.fixture
def data(store):
    return INRDataModule(tiny_spec(), root=str(store.directory.parent), batch_size=12)


@pytest.fixture
def make_trainer(tmp_path):
    quiet = dict.fromkeys(
        ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
    )

    def make(*callbacks):
        return pl.Trainer(
            max_epochs=1,
            log_every_n_steps=1,
            accelerator="cpu",
            default_root_dir=tmp_path,
            callbacks=list(callbacks),
            **quiet,
        )

    return make


def make_task():
    torch.manual_seed(0)
    network = DWSNet(ARCHITECTURE, 3, hidden_dim=4, num_hidden=1, num_heads=1)
    network.standardize.keep_identity()
    return ClassificationTask(network, 3)


class OwnTask(WeightSpaceTask):
    """Whose metric is torchmetrics' own."""

    def __init__(self):
        super().__init__(nn.Linear(ARCHITECTURE.num_parameters, 1))
        for metrics in self.metrics.values():
            metrics["loss"] = MeanMetric()

    def _step(self, batch, split):
        loss = self.network(batch.parameters).square().mean()
        self.metrics[f"{split}_"]["loss"].update(loss.detach())
        return {"loss": loss}


@pytest.mark.parametrize("make_task", [make_task, OwnTask])
def test_an_evaluation_before_a_training_changes_nothing_of_it(make_trainer, data, make_task):
    """Though Lightning evaluates in inference mode, whose tensors no training takes."""
    straight = make_task()
    task = copy.deepcopy(straight)
    make_trainer().fit(straight, datamodule=data)
    make_trainer().validate(task, datamodule=data, verbose=False)
    make_trainer().fit(task, datamodule=data)
    for name, value in straight.state_dict().items():
        assert torch.equal(task.state_dict()[name], value), name


def test_a_run_that_is_broken_off_counts_nothing_in_the_next(make_trainer, data):
    class Stop(pl.Callback):
        def on_validation_batch_end(self, *_):
            raise RuntimeError("broken off")

    counted = []

    class Count(pl.Callback):
        def on_validation_batch_end(self, trainer, module, *_):
            counted.append(int(module.scores["val_"].labelled.sum()))

    task = make_task()
    with pytest.raises(RuntimeError, match="broken off"):
        make_trainer(Stop()).validate(task, datamodule=data, verbose=False)
    make_trainer(Count()).validate(task, datamodule=data, verbose=False)
    assert counted == [6]


def test_a_trained_network_keeps_its_standardisation_on_other_data(make_trainer, data, store):
    """As ``fit --init_from`` does: it computes at first what it did."""
    task = make_task()
    make_trainer().fit(task, datamodule=data)
    known = copy.deepcopy(task.network.standardize.state_dict())
    assert known["mean"].all()
    root = str(store.directory.parent)
    other = INRDataModule(tiny_spec(), root=root, batch_size=12, num_train_objects=12)
    make_trainer().fit(task, datamodule=other)
    assert torch.equal(task.network.standardize.mean, known["mean"])
    assert torch.equal(task.network.standardize.std, known["std"])
