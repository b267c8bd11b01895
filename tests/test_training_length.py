"""A training that nobody gave a length has one, and says so."""

import pytest
from jsonargparse import Namespace

from lightning_dws import training_length
from lightning_dws.checkpoints import load_checkpoint
from lightning_dws.cli import main
from lightning_dws.training_length import MAX_EPOCHS, MAX_STEPS, bound_training

NOT_GIVEN = {
    "max_epochs": None,
    "max_steps": -1,
    "max_time": None,
    "min_epochs": None,
    "min_steps": None,
    "fast_dev_run": False,
    "val_check_interval": None,
    "check_val_every_n_epoch": 1,
    "callbacks": None,
}
TIMER = Namespace(class_path="pytorch_lightning.callbacks.Timer")
EARLY_STOPPING = Namespace(class_path="pytorch_lightning.callbacks.EarlyStopping")


@pytest.mark.parametrize(
    "given",
    [
        {"max_epochs": 5},
        {"max_epochs": -1},
        {"max_steps": 7},
        {"max_time": "00:00:10:00"},
        {"min_steps": 5000},
        {"fast_dev_run": True},
        {"callbacks": [TIMER]},
        {"callbacks": [EARLY_STOPPING]},
    ],
    ids=str,
)
def test_a_length_that_is_given_is_kept(given):
    config = Namespace(trainer=Namespace(**NOT_GIVEN | given))
    before = config.clone()
    assert not bound_training(config)
    assert config == before


def test_a_training_without_a_length_gets_one():
    config = Namespace(trainer=Namespace(**NOT_GIVEN))
    assert "1,000 steps or 200 epochs" in bound_training(config)
    assert (config.trainer.max_steps, config.trainer.max_epochs) == (MAX_STEPS, MAX_EPOCHS)


def test_a_command_without_a_length_ends(store, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(training_length, "MAX_STEPS", 2)
    monkeypatch.setattr(training_length, "VALIDATE_EVERY", 1)  # not after an epoch: it has more
    words = [
        f"--data.root={store.directory.parent}",
        f"--data.store={store.directory.name}",
        "--model.network=tiny.FlatMLP",
        "--data.batch_size=2",
        f"--trainer.default_root_dir={tmp_path}",
        "--trainer.accelerator=cpu",
        "--trainer.logger=false",
        "--trainer.enable_progress_bar=false",
        "--test_after_fit=false",
    ]
    main(["fit", *words])
    assert "ends after 2 steps" in capsys.readouterr().err
    [last] = tmp_path.rglob("last.ckpt")
    assert load_checkpoint(last)["global_step"] == 2
