"""Lightning's finders of learning rate and batch size, on a task and its datamodule."""

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import BatchSizeFinder, LearningRateFinder
from tiny import FlatMLP, tiny_spec

from lightning_dws.data import INRDataModule
from lightning_dws.errors import DataError
from lightning_dws.option_checks import check_finders
from lightning_dws.tasks import ClassificationTask


class Rates(pl.Callback):
    """The rate of every step of the training itself."""

    def __init__(self):
        self.rates = []
        self.sizes = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])
        self.sizes.append(len(batch))


@pytest.fixture
def fit(tmp_path):
    def run(finder, warmup_steps=0, max_epochs=None):
        seen = Rates()
        data = INRDataModule(tiny_spec(), root=str(tmp_path / "data"), batch_size=4)
        torch.manual_seed(0)
        network = FlatMLP(data.architecture, 3)
        task = ClassificationTask(
            network, 3, lambda own: torch.optim.AdamW(own, lr=1e-4), "constant", warmup_steps
        )
        trainer = pl.Trainer(
            max_steps=6,
            max_epochs=max_epochs,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            callbacks=[seen, finder],
            default_root_dir=tmp_path,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(task, data)
        return task, data, seen

    return run


def test_the_found_learning_rate_is_that_of_the_training_warm_up_included(fit):
    finder = LearningRateFinder(min_lr=1e-4, max_lr=1.0, num_training_steps=40)
    task, _, seen = fit(finder, warmup_steps=3)
    found = finder.optimal_lr.suggestion()
    assert found not in (None, 1e-4)
    assert task.lr == found
    assert seen.rates == pytest.approx([found / 4, found / 2, 3 * found / 4, *3 * [found]])


def test_a_training_that_ends_before_all_rates_are_tried_is_refused(fit):
    finder = LearningRateFinder(num_training_steps=40)
    with pytest.raises(DataError, match=r"tries 40 rates .* 2 epochs of (\d+) batches; give"):
        fit(finder, max_epochs=2)


def test_the_found_batch_size_is_that_of_the_training(fit):
    task, data, seen = fit(
        BatchSizeFinder(mode="power", max_trials=2, steps_per_trial=1, init_val=3)
    )
    assert data.batch_size == 6  # twice the first try
    assert seen.sizes == 6 * [6]
    assert task.lr == 1e-4


def test_no_batch_size_is_tried_beyond_all_training_inrs(fit):
    _, data, _ = fit(BatchSizeFinder(mode="power", steps_per_trial=1, init_val=8))
    num_inrs = len(data.tables["train"])
    assert num_inrs <= data.batch_size < 2 * num_inrs  # Lightning doubles before it looks


def test_finders_leave_a_datamodule_of_ones_own_alone():
    finders = [BatchSizeFinder(max_val=32), LearningRateFinder()]
    trainer = pl.Trainer(max_epochs=1, accelerator="cpu", logger=False, callbacks=finders)
    check_finders(trainer, pl.LightningDataModule())
    assert finders[0]._max_val == 32
