"""Where runs keep their files, and what a run that continues knows of the one before."""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from pytorch_lightning.utilities.exceptions import SIGTERMException

from lightning_dws.cli import main
from lightning_dws.errors import DataError
from lightning_dws.resuming import changed_settings
from lightning_dws.runs import find_run
from lightning_dws.saved_settings import with_found_checkpoint
from lightning_dws.tasks import ClassificationTask

WORDS = [
    "fit",
    "--data.dataset.signals=tiny.Blobs",
    "--data.dataset.architecture.widths=[2,6,5,1]",
    '--data.dataset.recipe={"steps": 10, "learning_rate": 0.005}',
    "--data.batch_size=8",
    "--trainer.accelerator=cpu",
    "--trainer.log_every_n_steps=1",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
    "--trainer.num_sanity_val_steps=0",
    "--model.network=tiny.FlatMLP",
    "--model.optimizer.lr=0.01",
    "--pictures.every_n_epochs=99",
]
QUIET = ["--test_after_fit=false", "--trainer.logger=false"]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> str:
    return f"--data.root={tmp_path_factory.mktemp('data')}"


@pytest.fixture
def words(data, tmp_path) -> list[str]:
    return [*WORDS, data, f"--trainer.default_root_dir={tmp_path / 'runs'}"]


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory) -> Path:
    """The root of a run of three epochs, whose schedule has come to its end. Only to be copied."""
    root = tmp_path_factory.mktemp("finished") / "runs"
    main([*WORDS, data, f"--trainer.default_root_dir={root}", *QUIET, "--trainer.max_epochs=3"])
    return root


def last_of(root: Path, name: str = "run", version: int = 0) -> Path:
    return root / name / f"version_{version}" / "checkpoints" / "last.ckpt"


def best_state(path: Path) -> dict:
    states = torch.load(path, weights_only=True)["callbacks"]
    [state] = [s for key, s in states.items() if "'monitor': 'val/accuracy'" in key]
    return state


def snapshot(folder: Path) -> dict[Path, tuple[bytes, int]]:
    return {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.rglob("*") if p.is_file()}


def error_of(words: list[str], capsys) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 1
    [line] = capsys.readouterr().err.strip().splitlines()[-1:]
    assert line.startswith("error: ")
    return line


def test_runs_that_start_together_get_folders_of_their_own(tmp_path):
    with ThreadPoolExecutor(16) as pool:
        runs = list(pool.map(lambda _: find_run(str(tmp_path), "a/b", None, None), range(64)))
    assert {run.version for run in runs} == {f"version_{number}" for number in range(64)}
    assert all(run.folder.is_dir() and run.folder.parent == tmp_path / "a" / "b" for run in runs)


@pytest.mark.parametrize("variable", ["RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"])
def test_of_several_processes_the_first_alone_makes_a_folder(tmp_path, monkeypatch, variable):
    monkeypatch.setenv(variable, "1")
    assert not find_run(str(tmp_path), None, None, None).is_claimed
    assert not list(tmp_path.iterdir())
    monkeypatch.setenv(variable, "0")
    assert find_run(str(tmp_path), None, None, None).folder.is_dir()


def test_a_folder_is_given_back_only_while_it_is_empty(tmp_path):
    empty, filled = (find_run(str(tmp_path), None, None, None) for _ in range(2))
    (filled.folder / "file").touch()
    for run in (empty, filled):
        run.give_back()
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["version_1"]


def test_a_failed_start_leaves_no_folder(words, tmp_path, capsys):
    assert "25 are asked for" in error_of(
        [*words, "--trainer.max_epochs=1", "--data.num_train_objects=25"], capsys
    )
    assert not list((tmp_path / "runs").iterdir())


@pytest.mark.parametrize("name", ["../../x", "/x", "a/../..", "", "a\0b"])
def test_a_name_does_not_leave_the_root(tmp_path, name):
    with pytest.raises(DataError, match="must be that of a folder under the runs' root"):
        find_run(str(tmp_path / "runs"), name, None, None)
    assert not list(tmp_path.iterdir())


def test_a_name_that_leaves_the_root_is_one_line(words, capsys, tmp_path):
    assert "'../../x'" in error_of([*words, "--name=../../x"], capsys)


def make_run(folder: Path) -> Path:
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.yaml").write_text("{}")
    return folder / "checkpoints" / "last.ckpt"


def test_a_checkpoint_says_where_its_run_is_however_it_is_spelled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    absolute = make_run(tmp_path / "runs" / "digits" / "mine" / "version_3")
    (tmp_path / "link").symlink_to(tmp_path / "runs")
    for path in (absolute, absolute.relative_to(tmp_path), "link/digits/mine/version_3/../version_3"
                 "/checkpoints/last.ckpt"):  # fmt: skip
        for root, name in ((None, None), (None, "digits/mine"), ("runs", None), ("link", "mine")):
            run = find_run(root, name, None, str(path))
            if (root, name) == ("link", "mine"):
                assert run.is_claimed
                assert run.folder.parent == Path("link/mine")
            else:
                assert not run.is_claimed
                assert run.folder.samefile(absolute.parents[1])
    monkeypatch.chdir(absolute.parent)
    assert find_run(None, None, None, "last.ckpt").folder.samefile(absolute.parents[1])
    monkeypatch.chdir(tmp_path)
    assert find_run("other", None, None, str(absolute)).folder == Path("other/run/version_0")
    assert find_run(None, "other", None, str(absolute)).folder == Path("runs/other/version_0")
    assert find_run(None, None, 7, str(absolute)).folder == Path("runs/run/version_7")


def test_a_training_goes_on_from_the_last_checkpoint_of_a_run(tmp_path):
    runs = tmp_path / "runs"
    mine, newer = (make_run(runs / name / "version_0") for name in ("mine", "newer"))
    mine.touch()
    newer.touch()
    os.utime(mine, (1, 1))
    root = f"--trainer.default_root_dir={runs}"
    by_name = yaml.safe_dump({"name": "mine", "trainer": {"default_root_dir": str(runs)}})
    for words, expected in (
        ([root, "--ckpt_path=last"], newer),
        ([root, "--name=mine", "--ckpt_path=last"], mine),
        ([f"--config={by_name}", "--ckpt_path=last"], mine),
        ([f"--ckpt_path={mine.parent.parent}"], mine),
    ):
        assert with_found_checkpoint(["fit", *words])[-1] == f"--ckpt_path={expected}"
    assert with_found_checkpoint(["fit", f"--ckpt_path={mine}"])[-1] == f"--ckpt_path={mine}"
    with pytest.raises(DataError, match="no run has left a checkpoint"):
        with_found_checkpoint(["fit", root, "--name=other", "--ckpt_path=last"])
    with pytest.raises(DataError, match=r"--ckpt_path best: .* expected 'last'"):
        with_found_checkpoint(["fit", root, "--ckpt_path=best"])


def test_a_run_that_is_stopped_does_not_end_as_a_finished_one(monkeypatch, capsys):
    def stopped(*_):
        raise SIGTERMException

    monkeypatch.setattr("lightning_dws.dispatch.run_lightning", stopped)
    with pytest.raises(SystemExit) as end:
        main(["fit"])
    assert end.value.code == 143
    assert "stopped by SIGTERM" in capsys.readouterr().err


def test_one_class_alone_is_refused_before_anything_is_fitted():
    data = SimpleNamespace(num_classes=1, classes=("cats",), directory="data/mine")
    with pytest.raises(DataError, match="data/mine: one class alone, 'cats'"):
        ClassificationTask.check_run(None, data)


def test_the_version_of_another_run_is_refused(tmp_path):
    make_run(tmp_path / "run" / "version_3")
    with pytest.raises(DataError, match="holds a run already"):
        find_run(str(tmp_path), None, 3, None)


@pytest.mark.parametrize(
    ("options", "folder"),
    [
        (["--trainer.logger=false"], "runs/run/version_0"),
        (["--trainer.logger=CSVLogger"], "runs/run/version_0"),
        (["--trainer.logger.save_dir=LOGS"], "logs/run/version_0"),
        (
            [
                "--trainer.logger=CSVLogger",
                "--trainer.logger.save_dir=LOGS",
                "--trainer.logger.name=mine",
                "--trainer.logger.version=7",
                "--name=other",
            ],
            "logs/mine/version_7",
        ),
    ],
    ids=["none", "csv", "save_dir", "all"],
)
def test_logs_checkpoints_and_pictures_go_where_the_logger_is_told(
    words, tmp_path, options, folder
):
    options = [option.replace("LOGS", str(tmp_path / "logs")) for option in options]
    main([*words, *options, "--trainer.max_epochs=1"])
    folder = tmp_path / folder
    assert (folder / "checkpoints" / "last.ckpt").is_file()
    assert (folder / "pictures" / "test_inrs.png").is_file()
    assert (folder / "config.yaml").is_file()
    others = [
        path for path in tmp_path.rglob("*.*") if path.is_file() and folder not in path.parents
    ]
    assert not others
    if "--trainer.logger=CSVLogger" in options:
        assert (folder / "metrics.csv").is_file()


def test_runs_without_a_logger_do_not_share_a_folder(words, tmp_path):
    for _ in range(2):
        main([*words, *QUIET, "--trainer.max_epochs=1"])
    assert all(last_of(tmp_path / "runs", version=version).is_file() for version in range(2))


WORSE = [  # than all before
    "--trainer.max_epochs=4",
    '--data.augmentations=[{"class_path": "tiny.AddNoise", "init_args": {"scale": 1000}}]',
    "--model.optimizer.lr=1",
]


def test_a_moved_run_knows_its_best_checkpoint(words, tmp_path, finished, monkeypatch, capsys):
    """By an absolute path into a copy, and by a relative one."""
    known = best_state(last_of(finished))
    for place in ("a", "b"):
        shutil.copytree(finished, tmp_path / place)
        monkeypatch.chdir(tmp_path)
        root = tmp_path / place if place == "a" else Path(place)
        quiet = QUIET if place == "a" else QUIET[1:]  # tested, too
        main([*words[:-1], *quiet, *WORSE, f"--ckpt_path={last_of(root)}"])
        state = best_state(last_of(root))
        assert state["best_model_score"] >= known["best_model_score"]
        best = Path(state["best_model_path"])
        assert best.parent.samefile(last_of(root).parent)
        assert len(list(best.parent.iterdir())) == 2
    assert "data.augmentations.0.class_path tiny.AddNoise (was not set)" in capsys.readouterr().err


def test_a_lost_best_checkpoint_is_an_error(words, tmp_path, finished, capsys):
    shutil.copytree(finished, tmp_path / "runs")
    alone = shutil.copy(last_of(finished), tmp_path / "alone.ckpt")
    best = Path(best_state(last_of(finished))["best_model_path"])
    (tmp_path / "runs" / best.relative_to(finished)).unlink()
    kept = best.rename(best.with_suffix(".away"))
    try:
        for path in (alone, last_of(tmp_path / "runs")):
            message = error_of([*words, *QUIET, *WORSE, f"--ckpt_path={path}"], capsys)
            assert f"the best checkpoint so far, {best.name} (val/accuracy" in message
    finally:
        kept.rename(best)
    main([*words, *QUIET, *WORSE, "--name=new", f"--ckpt_path={alone}"])
    copied = tmp_path / "runs" / "new" / "version_0" / "checkpoints" / best.name
    assert copied.read_bytes() == best.read_bytes()


def test_a_killed_run_finds_the_best_checkpoint_that_replaced_its_own(words, tmp_path, finished):
    """Killed between the removal of the old best and the writing of the newest checkpoint."""
    shutil.copytree(finished, tmp_path / "runs")
    last = last_of(tmp_path / "runs")
    [best] = last.parent.glob("best*")
    later = torch.load(best, weights_only=True)
    [state] = [s for k, s in later["callbacks"].items() if "'monitor': 'val/accuracy'" in k]
    state["current_score"] = torch.tensor(2.0)
    state["best_model_path"] = str(best.with_name("best-epoch=9.ckpt"))
    torch.save(later, best.with_name("best-epoch=9.ckpt"))
    best.unlink()
    newest = torch.load(last, weights_only=True)
    [state] = [s for k, s in newest["callbacks"].items() if "'monitor': 'val/accuracy'" in k]
    for name in ("best_model_path", "kth_best_model_path"):
        state[name] = str(best)
    state |= {"dirpath": str(best.parent), "best_k_models": {str(best): state["kth_value"]}}
    torch.save(newest, last)
    main([*words, *QUIET, *WORSE, f"--ckpt_path={last}"])
    assert best_state(last)["best_model_score"] == 2
    assert {path.name for path in last.parent.iterdir()} == {"last.ckpt", "best-epoch=9.ckpt"}


def test_a_forked_run_leaves_the_other_as_it_was(words, tmp_path, finished, capsys):
    before = snapshot(finished)
    main([*words, *QUIET, *WORSE, "--name=forked", f"--ckpt_path={last_of(finished)}"])
    assert snapshot(finished) == before
    forked = last_of(tmp_path / "runs", "forked")
    state, known = best_state(forked), best_state(last_of(finished))
    assert state["best_model_score"] >= known["best_model_score"]
    assert Path(state["best_model_path"]).parent.samefile(forked.parent)
    assert torch.load(forked, weights_only=True)["epoch"] == 3
    assert "which stays as it is" in capsys.readouterr().err


def test_what_differs_is_told_and_the_old_settings_kept(words, tmp_path, finished, capsys):
    shutil.copytree(finished, tmp_path / "runs")
    last = last_of(tmp_path / "runs")
    changes = ["--data.batch_size=4", "--seed_everything=3", "--trainer.max_epochs=4"]
    main([*words, *QUIET, f"--ckpt_path={last}", "--model.optimizer.lr=0.02", *changes])
    [line] = [x for x in capsys.readouterr().err.splitlines() if "other settings" in x]
    for change in (
        "data.batch_size 4 (was 8)",
        "seed_everything 3 (was 0)",
        "trainer.max_epochs 4 (was 3)",
        "lr 0.02 (was 0.01)",
    ):
        assert change in line
    assert line.count("(was") == 4
    folder = last.parents[1]
    old, new = (yaml.safe_load((folder / name).read_text()) for name in (
        "config_until_step_9.yaml", "config.yaml"))  # fmt: skip
    assert (old["data"]["batch_size"], new["data"]["batch_size"]) == (8, 4)
    assert new["model"]["optimizer"]["init_args"]["lr"] == 0.02


def test_an_unchanged_run_is_continued_without_a_word(words, tmp_path, finished, capsys):
    shutil.copytree(finished, tmp_path / "runs")
    capsys.readouterr()
    main([*words, *QUIET, "--trainer.max_epochs=3", f"--ckpt_path={last_of(tmp_path / 'runs')}"])
    printed = capsys.readouterr().err
    assert "other settings" not in printed
    assert "nothing was trained" in printed


def test_less_training_than_was_done_is_refused(words, tmp_path, finished, capsys):
    for option in ("--trainer.max_epochs=2", "--trainer.max_steps=8"):
        message = error_of(
            [*words, *QUIET, "--trainer.max_epochs=3", option, f"--ckpt_path={last_of(finished)}"],
            capsys,
        )
        assert "already" in message
        assert "leaves nothing to train" in message


def rates(folder: Path) -> list[float]:
    rows = (folder / "metrics.csv").read_text().splitlines()
    place = rows[0].split(",").index("learning_rate")
    return [float(value) for row in rows[1:] if (value := row.split(",")[place])]


def test_an_extended_run_follows_the_schedule_of_its_new_length(words, tmp_path, finished):
    csv = ["--trainer.logger=CSVLogger", "--test_after_fit=false", "--trainer.max_epochs=5"]
    main([*words, *csv, "--name=straight"])
    main([*words, *csv, "--name=extended", f"--ckpt_path={last_of(finished)}"])
    straight, extended = (
        rates(tmp_path / "runs" / name / "version_0") for name in ("straight", "extended")
    )
    assert extended == straight[9:]


def test_changed_options_of_the_optimizer_are_applied(words, tmp_path, finished):
    csv = ["--trainer.logger=CSVLogger", "--test_after_fit=false", "--model.schedule=constant"]
    changes = ["--model.optimizer.lr=1e-5", "--model.optimizer.weight_decay=0.5"]
    words = [*words, *csv, "--trainer.max_epochs=4", f"--ckpt_path={last_of(finished)}"]
    main([*words, "--name=changed", *changes])
    folder = tmp_path / "runs" / "changed" / "version_0"
    assert rates(folder) == pytest.approx([1e-5] * 3)
    checkpoint = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    [optimizer] = checkpoint["optimizer_states"]
    [group] = optimizer["param_groups"]
    assert (group["lr"], group["weight_decay"]) == (1e-5, 0.5)
    assert int(optimizer["state"][0]["step"]) == 12


def test_another_optimizer_is_refused(words, finished, capsys):
    other = ["--model.optimizer=torch.optim.SGD", "--model.optimizer.lr=0.1"]
    path = f"--ckpt_path={last_of(finished)}"
    message = error_of([*words, *QUIET, "--trainer.max_epochs=4", path, *other], capsys)
    assert "of another optimizer than SGD" in message


def test_a_run_starts_from_weights_alone(words, tmp_path, finished, capsys):
    dws = [
        *("--model.network=lightning_dws.models.DWSNet", "--model.network.hidden_dim=4"),
        *("--model.network.num_hidden=2", "--model.network.num_heads=2"),
    ]
    main([*words, *QUIET, *dws, "--trainer.max_epochs=1"])
    first = last_of(tmp_path / "runs")
    start = [*words, *QUIET, *dws, f"--init_from={first}", "--trainer.max_epochs=1"]
    main([*start, "--model.optimizer.lr=0", "--data.num_train_objects=12", "--name=tuned"])
    tuned = torch.load(last_of(tmp_path / "runs", "tuned"), weights_only=True)
    assert (tuned["epoch"], tuned["global_step"]) == (0, 1)
    before = torch.load(first, weights_only=True)["state_dict"]
    names = [n for n in before if "standardize" in n or n.endswith(("weight", "bias"))]
    assert any("standardize" in name for name in names)
    assert all(torch.equal(tuned["state_dict"][name], before[name]) for name in names)
    other = ["--model.network.hidden_dim=8"]
    assert "hidden_dim: found 4, expected 8" in error_of([*start, *other], capsys)
    missing = [*words, "--init_from=/no/where"]
    assert "/no/where: there is no such checkpoint" in error_of(missing, capsys)


def test_weights_of_another_network_are_refused():
    network = torch.nn.Linear(2, 3)
    task = ClassificationTask(network, 3)
    with pytest.raises(DataError, match=r"x\.ckpt: not of this network; lacks network\.bias"):
        task.start_from({"network.weight": torch.zeros(4, 2)}, "x.ckpt")


def test_what_is_only_shown_is_not_told():
    before = {"name": "a", "trainer": {"logger": True, "callbacks": None}, "data": {"views": 1}}
    now = {"name": "b", "trainer": {"logger": False, "callbacks": [{"class_path": "MixUp"}]}}
    assert changed_settings(before, now | {"data": {"views": 1}}) == [
        "trainer.callbacks.0.class_path MixUp (was not set)"
    ]
