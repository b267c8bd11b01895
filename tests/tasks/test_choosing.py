"""The task is found before there are any options, and every checkpoint knows its own."""

import shutil

import pytest
import torch
import yaml
from task_words import FIT, NETWORK, checkpoints, places
from test_base import NormTask

from lightning_dws.cli import main
from lightning_dws.errors import DataError
from lightning_dws.tasks import (
    ClassificationTask,
    ContrastiveTask,
    RegressionTask,
    WeightSpaceTask,
    find_task,
)

REGRESSION = ["--task=regression", "--model.targets=[psnr]"]


@pytest.mark.parametrize(
    ("words", "task"),
    [
        ([], ClassificationTask),
        (["--task", "regression"], RegressionTask),
        (["--task=test_base.NormTask"], NormTask),
        (["--config", "outer.yaml"], RegressionTask),
        (["-c=outer.yaml", "--task=contrastive"], ContrastiveTask),
        (["--task=contrastive", "--config=outer.yaml"], RegressionTask),
        (["--config=outer.yaml", "--config={task: classification}"], ClassificationTask),
        (["--config=outer.yaml", "--config={name: x}"], RegressionTask),
    ],
)
def test_the_last_word_or_file_that_names_a_task_wins(tmp_path, monkeypatch, words, task):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "inner.yaml").write_text("task: regression\n")
    (tmp_path / "outer.yaml").write_text("config: [inner.yaml]\nname: x\n")
    assert find_task(["fit", *words]) is task


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("regresion", "no 'regresion'; there are classification, regression, .*did you mean 'reg"),
        ("no_module.Task", "no_module.Task cannot be imported"),
        ("torch.nn.Linear", "torch.nn.Linear is no subclass of WeightSpaceTask"),
    ],
)
def test_what_is_no_task_is_told(name, message):
    with pytest.raises(DataError, match=message):
        find_task([f"--task={name}"])
    with pytest.raises(DataError, match=message):
        find_task([f"--config={{task: {name}}}"])


def test_a_task_is_called_by_its_name_and_one_of_ones_own_by_its_path():
    class Own(ClassificationTask):
        pass

    assert RegressionTask.task_name() == "regression"
    assert NormTask.task_name() == "test_base.NormTask"
    assert Own.task_name().endswith("Own")
    assert WeightSpaceTask.num_outputs is None


def test_help_lists_the_options_of_the_task(capsys):
    for name, option in (("contrastive", "--model.temperature"), ("regression", "--model.targets")):
        with pytest.raises(SystemExit) as stop:
            main(["fit", "--task", name, "--help"])
        assert stop.value.code == 0
        text = capsys.readouterr().out
        assert option in text
        assert "--model.label_smoothing" not in text


def error_of(words, capsys, status=1) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == status
    return capsys.readouterr().err


def test_a_checkpoint_knows_its_task(tmp_path, capsys):
    main(["fit", *FIT, *NETWORK, *REGRESSION, *places(tmp_path)])
    best = next(checkpoints(tmp_path).glob("best*"))
    main(["test", f"--ckpt_path={best}"])
    assert "test/kendall_tau" in capsys.readouterr().out
    main(["predict", f"--ckpt_path={best}", "--task=regression"])
    config = yaml.safe_load((best.parent.parent / "config.yaml").read_text())
    assert config["task"] == "regression"

    told = "a checkpoint of the task regression, expected one of"
    again = [*FIT, *NETWORK, *places(tmp_path), f"--ckpt_path={best}"]
    assert f"{told} classification" in error_of(["fit", *again], capsys)
    assert f"{told} classification" in error_of(["test", *again], capsys)
    other = ["test", f"--ckpt_path={best}", "--task=contrastive"]
    assert f"{told} contrastive" in error_of(other, capsys)
    with pytest.raises(DataError, match=f"{told} classification"):
        ClassificationTask.from_checkpoint(best)
    task = RegressionTask.from_checkpoint(best)
    assert task.targets == ("psnr",)
    main(["fit", *again, *REGRESSION, "--model.targets=[psnr]", "--trainer.max_epochs=4"])


def test_a_checkpoint_without_a_task_is_a_classification(tmp_path, capsys):
    main(["fit", *FIT, *NETWORK, *places(tmp_path)])
    path = checkpoints(tmp_path) / "last.ckpt"
    old = torch.load(path, weights_only=True)
    note = old["lightning_dws"]
    assert note.pop("task_name") == note["settings"].pop("task") == "classification"
    torch.save(old, path)
    config = checkpoints(tmp_path).parent / "config.yaml"
    config.write_text(config.read_text().replace("task: classification\n", ""))
    main(["test", f"--ckpt_path={path}"])
    assert "test/accuracy" in capsys.readouterr().out
    words = [*FIT, *NETWORK, *places(tmp_path), f"--ckpt_path={path}"]
    main(["fit", *words, "--trainer.max_epochs=4"])
    assert "task" not in capsys.readouterr().err  # no other setting than the epochs
    told = "a checkpoint of the task classification, expected one of regression"
    assert told in error_of(["fit", *words, *REGRESSION], capsys)


def test_a_network_is_taken_over_from_another_task_but_for_its_head(tmp_path, capsys):
    main(["fit", *FIT, *NETWORK, *REGRESSION, *places(tmp_path)])
    first = shutil.copy(checkpoints(tmp_path) / "last.ckpt", tmp_path / "first.ckpt")
    capsys.readouterr()
    words = [*FIT, *NETWORK, *places(tmp_path), f"--init_from={first}", "--trainer.max_epochs=0"]
    main(["fit", *words, "--test_after_fit=false"])
    told = capsys.readouterr().err
    assert "a checkpoint of the task regression: its network is taken over but for its head" in told
    assert "(head.weight, head.bias), which starts anew" in told
    main(["fit", *words[:-1], "--trainer.max_epochs=1", "--model.optimizer.lr=0"])
    saved, new = (
        torch.load(path, weights_only=True)["state_dict"]
        for path in (first, checkpoints(tmp_path, 2) / "last.ckpt")
    )
    assert torch.equal(saved["network.first.weight"], new["network.first.weight"])
    assert new["network.head.weight"].shape == (3, 8)
    wider = [*words, "--model.network.init_args.hidden_dim=9"]
    assert "init_args.hidden_dim: found 8, expected 9" in error_of(["fit", *wider], capsys)
