"""Runs on a store of CNNs: trained, saved, loaded, predicted; what INRs alone have is one line."""

import re

import pytest
import pytorch_lightning as pl
import torch
from cnns import RESIDUAL, cnn_batch

import lightning_dws
from lightning_dws.augmentations import GaussianNoise, Permutation, Rotation
from lightning_dws.canonical import Phases, SortedNeurons
from lightning_dws.cli import main
from lightning_dws.data import INRDataModule
from lightning_dws.errors import DataError
from lightning_dws.inrs import INRStore, evaluate_inrs
from lightning_dws.mixup import MixUp
from lightning_dws.models import DWSNet
from lightning_dws.tasks import ClassificationTask
from lightning_dws.tasks.restoring import _make_architecture
from lightning_dws.weight_space import Architecture, INRArchitecture, NetworkArchitecture


@pytest.fixture
def folder(tmp_path):
    """30 residual CNNs of two classes, which differ in the size of their weights."""
    batch = cnn_batch("residual", size=30, dtype=torch.float32)
    label = torch.arange(30) % 2
    batch = batch.replace(parameters=batch.parameters * (1 + label[:, None]), label=label)
    INRStore.write(tmp_path / "data" / "mine", batch, ("small", "large"), val_share=0.2)
    return tmp_path / "data" / "mine"


def error_of(words, capsys):
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 1
    [line] = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
    return line


def test_a_trainer_learns_from_cnns_and_its_checkpoint_says_of_which(folder, tmp_path):
    data = INRDataModule(
        store=str(folder),
        batch_size=8,
        augmentations=[Permutation(), GaussianNoise(0.1)],
        canonical=[SortedNeurons()],
    )
    network = DWSNet(RESIDUAL, 2, hidden_dim=4, num_hidden=1, num_heads=2)
    trainer = pl.Trainer(
        max_epochs=1,
        log_every_n_steps=1,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
        callbacks=[MixUp(alignment="permutation")],
    )
    trainer.fit(ClassificationTask(network, 2), data)
    trainer.save_checkpoint(tmp_path / "mine.ckpt")

    classifier = lightning_dws.load_checkpoint(tmp_path / "mine.ckpt")
    assert classifier.architecture == RESIDUAL
    test = INRStore(folder).split("test")
    moved = Permutation()(test, torch.Generator().manual_seed(0))
    found, again = (classifier.predict(batch).probabilities for batch in (test, moved))
    torch.testing.assert_close(found, again, rtol=1e-4, atol=1e-5)
    assert len(classifier.predict(folder).class_names) == 30
    with pytest.raises(DataError, match=r"networks of 3 tensors .* was trained on networks of 9"):
        classifier.predict(cnn_batch("no_bias"))
    with pytest.raises(DataError, match="fitting files: for INRs alone"):
        classifier.predict(torch.rand(2, 8, 8))


def test_the_command_line_trains_on_cnns(folder, tmp_path, capsys):
    main(
        [
            *("fit", "--model.network=lightning_dws.models.FlatMLP", f"--data.store={folder}"),
            *("--trainer.max_epochs=1", "--trainer.accelerator=cpu", "--data.batch_size=8"),
            *("--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"),
            "--trainer.log_every_n_steps=1",
            f"--trainer.default_root_dir={tmp_path / 'runs'}",
        ]
    )
    told = capsys.readouterr()
    assert "checkpoint" in told.out + told.err
    run = tmp_path / "runs" / "run" / "version_0"
    assert {path.name for path in (run / "pictures").iterdir()} == {
        "val_confusion_matrix.png",
        "test_confusion_matrix.png",
    }
    main(["predict", f"--ckpt_path={run}", f"--data={folder}", f"--output={tmp_path / 'p.csv'}"])
    assert len((tmp_path / "p.csv").read_text().splitlines()) == 31
    assert re.search(r"^networks +30$", capsys.readouterr().out, re.MULTILINE)


@pytest.mark.parametrize("annotation", [Architecture, INRArchitecture, NetworkArchitecture])
def test_a_network_gets_its_architecture_whatever_it_is_annotated(annotation):
    inrs = INRArchitecture((3, 7, 2), w0=5.0)
    for architecture in (RESIDUAL, inrs):
        assert _make_architecture(annotation, **architecture.to_dict()) == architecture
    as_parsed = {**RESIDUAL.to_dict(), "tensors": list(RESIDUAL.tensors)}
    assert _make_architecture(annotation, **as_parsed) == RESIDUAL


def test_a_store_of_cnns_is_summed_up_and_verified_but_not_drawn(folder, tmp_path, capsys):
    main(["inrs", "show", str(folder)])
    shown = capsys.readouterr().out
    assert "networks of 9 tensors" in shown
    assert shown.endswith("no picture: only INRs are drawn\n")
    main(["inrs", "verify", str(folder)])
    assert "30 networks verified" in capsys.readouterr().out
    for words in (
        ["inrs", "show", str(folder), "--output", str(tmp_path / "a.png")],
        ["inrs", "browse", str(folder)],
        ["inrs", "augment", str(folder), "--output", str(tmp_path / "a.png")],
        ["inrs", "export", "--format=nfn", f"--source={folder}", f"--output={tmp_path / 'out'}"],
    ):
        assert "for INRs alone, got networks of 9 tensors" in error_of(words, capsys)
    assert not (tmp_path / "out").exists()


def test_what_only_inrs_have_is_refused_before_training(folder):
    for options, named in (
        ({"augmentations": [Rotation()]}, "augmentations: Rotation: for INRs alone"),
        ({"canonical": [Phases()]}, "canonical: Phases: for INRs alone"),
    ):
        with pytest.raises(DataError, match=named):
            INRDataModule(store=str(folder), **options).setup("fit")
    with pytest.raises(DataError, match="evaluate_inrs: for INRs alone, got networks of 9"):
        evaluate_inrs(INRStore(folder).split("test"), torch.zeros(3, 2))
