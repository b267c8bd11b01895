"""A network that was trained on canonical forms reads new INRs in them, too."""

import pytest
import pytorch_lightning as pl
import torch
from saved import rewrite_note
from tiny import FlatMLP, tiny_spec

from lightning_dws import load_checkpoint
from lightning_dws.augmentations import Permutation, SirenNegation
from lightning_dws.canonical import Aligned, CanonicalForm, Phases
from lightning_dws.data import INRDataModule
from lightning_dws.errors import DataError
from lightning_dws.tasks import ClassificationTask


class Negated(CanonicalForm):
    """Not known by its attributes."""

    def __init__(self, unsaid: int = 1):
        self.kept = unsaid

    def __call__(self, batch):
        return batch.replace(parameters=batch.parameters.clone())


def train(tmp_path, forms):
    """Train a moment on canonical INRs; give the checkpoint and the datamodule."""
    data = INRDataModule(tiny_spec(), root=str(tmp_path / "data"), batch_size=8, canonical=forms)
    torch.manual_seed(0)
    task = ClassificationTask(FlatMLP(data.architecture, 3), 3)
    trainer = pl.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(task, data)
    path = tmp_path / "trained.ckpt"
    trainer.save_checkpoint(path)
    return path, data


def test_predictions_do_not_see_the_symmetry_that_the_forms_remove(tmp_path):
    path, data = train(tmp_path, [Phases(), Aligned("signed_permutation")])
    inrs = data.store.split("test")
    generator = torch.Generator().manual_seed(0)
    moved = SirenNegation(p=1.0)(Permutation()(inrs, generator), generator)
    assert (moved.parameters - inrs.parameters).abs().max() > 0.1
    classifier = load_checkpoint(path)
    expected, found = classifier.predict(inrs), classifier.predict(moved)
    assert torch.allclose(found.probabilities, expected.probabilities, atol=1e-4)
    assert torch.equal(expected.inrs.parameters, inrs.parameters)  # theirs, as they were
    plain = classifier.task(inrs).softmax(dim=1)
    assert (plain - expected.probabilities).abs().max() > 1e-3  # the forms matter


def test_the_reference_is_that_of_the_training(tmp_path):
    path, data = train(tmp_path, [Aligned()])
    [form] = load_checkpoint(path).canonical
    assert form.symmetry == "permutation"
    assert torch.equal(form.reference, data.store.split("train").parameters[0])


def test_checkpoints_without_forms_are_read_as_before(tmp_path):
    path, _ = train(tmp_path, [])
    assert load_checkpoint(path).canonical == []
    rewrite_note(path, canonical=None)  # one of before there were forms
    assert load_checkpoint(path).canonical == []


@pytest.mark.parametrize(
    "record",
    [
        {"forms": [{"class_path": "os.system", "init_args": {}}], "reference": None},
        {"forms": [{"class_path": "lightning_dws.canonical.Signs", "init_args": {"by": "x"}}]},
        {"forms": [], "reference": "elsewhere"},
        [],
    ],
    ids=["no form", "arguments", "reference", "no record"],
)
def test_forms_that_cannot_be_made_are_one_error(tmp_path, record):
    path, data = train(tmp_path, [])
    rewrite_note(path, canonical=record)
    with pytest.raises(DataError, match=r"trained\.ckpt: its canonical forms cannot be made"):
        load_checkpoint(path).predict(data.store.split("test"))


def test_forms_that_are_not_known_by_their_attributes_are_refused_not_left_out(tmp_path):
    path, data = train(tmp_path, [Negated(2)])
    with pytest.raises(DataError, match=r"the arguments of .*Negated are not its attributes"):
        load_checkpoint(path).predict(data.store.split("test"))
