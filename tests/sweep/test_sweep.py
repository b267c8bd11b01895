import re
from pathlib import Path

import optuna
import pytest
import yaml
from optuna.trial import TrialState

from lightning_dws.cli import main
from lightning_dws.sweep import study as studies
from lightning_dws.sweep import sweep_command, sweep_runner
from lightning_dws.sweep.sweep_config import read_sweep
from lightning_dws.sweep.trial_worker import TrialJob, run_trial
from lightning_dws.table.pieces import words_of

DIM = "model.network.init_args.hidden_dim"
RATE = "model.optimizer.init_args.lr"


class InProcess:
    """Runs in this process what would have a process of its own, when somebody waits for it."""

    exitcode = 0
    sentinel = None

    def __init__(self, function, arguments, log):
        log.parent.mkdir(parents=True, exist_ok=True)
        self.sentinel = object()
        self.run = lambda: function(*arguments)

    def join(self):
        pass

    def kill(self):
        pass


class Sweep:
    """A sweep over blobs in a folder, to be run there; ``content`` is its config."""

    def __init__(self, folder: Path, store) -> None:
        self.folder = folder
        self.content = {
            "name": "tiny",
            "base": {
                "data": {"store": str(store.directory), "batch_size": 8},
                "model": {"network": "tiny.FlatMLP", "optimizer": "torch.optim.Adam"},
                "trainer": {
                    "accelerator": "cpu",
                    "max_steps": 4,
                    "val_check_interval": 2,
                    "check_val_every_n_epoch": None,
                },
            },
            "space": {DIM: {"int": [2, 32]}, RATE: {"log": [1e-4, 1e-1]}},
            "trials": 3,
            "startup_trials": 2,
        }
        self.results = folder / "results" / "tiny"

    @property
    def words(self) -> list[str]:
        path = self.folder / "tiny.yaml"
        path.write_text(yaml.safe_dump(self.content, sort_keys=False))
        root = str(self.folder / "results")
        return ["sweep", "--config", str(path), "--devices", "cpu", "--results_root", root]

    def run(self, *options: str) -> None:
        main([*self.words, *options])

    @property
    def study(self) -> optuna.Study:
        return studies.open_study(read_sweep(self.words[2]), self.results)

    def outcomes(self) -> list[tuple]:
        return [(t.params, t.value, t.intermediate_values) for t in self.study.trials]


def pretend_trial(job: TrialJob) -> None:
    """Do what ``run_trial`` does, but for the run: scores follow from the options alone."""
    study = studies.open_study(job.config, Path(job.folder))
    trial = studies.as_trial(study, job.number)
    params = trial.params
    if params.get("data.num_train_objects") == 999:
        studies.tell_failure(study, job.number, "999 are asked for")
        return
    for step in (2, 4):
        trial.report(params.get(DIM, 1) * step * params.get(RATE, 1), step)
        if trial.should_prune():
            study.tell(job.number, state=TrialState.PRUNED)
            return
    study.tell(job.number, params.get(DIM, 1) * 4 * params.get(RATE, 1))


@pytest.fixture
def pretended(sweep, monkeypatch):
    """A sweep whose trials only pretend to run."""
    monkeypatch.setattr(sweep_runner, "run_trial", pretend_trial)
    return sweep


@pytest.fixture
def sweep(tmp_path, store, monkeypatch):
    """A sweep whose trials run in this process."""

    def wait(sentinels):
        [process] = [p for p in started if p.sentinel in sentinels][:1]
        process.run()
        return [process.sentinel]

    def start(function, arguments, log):
        started.append(InProcess(function, arguments, log))
        return started[-1]

    started: list[InProcess] = []
    monkeypatch.setattr(sweep_runner, "start_process", start)
    monkeypatch.setattr(sweep_runner.connection, "wait", wait)
    monkeypatch.setattr(sweep_command, "check_space", lambda config: None)  # has tests of its own
    return Sweep(tmp_path, store)


def test_a_sweep_finds_its_best_trial(sweep, tmp_path, capsys, monkeypatch):
    sweep.content["trials"] = 2
    sweep.run()
    trials = sweep.study.trials
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 2
    assert all(len(trial.intermediate_values) == 2 for trial in trials)
    assert all(t.value == max(t.intermediate_values.values()) for t in trials)
    best = max(trials, key=lambda trial: trial.value)
    out = capsys.readouterr().out
    assert len(re.findall(r"\[./2\] trial . *: \d", out)) == 2
    assert f"fit --config {sweep.results / 'best.yaml'}" in out
    settings = yaml.safe_load((sweep.results / "best.yaml").read_text())
    network = {"class_path": "tiny.FlatMLP", "init_args": {"hidden_dim": best.params[DIM]}}
    assert settings["model"]["network"] == network
    report = (sweep.results / "report.md").read_text()
    assert report.count("\n| ") == 4
    assert f"Best: trial {best.number}" in report
    assert (sweep.results / "figures" / "sweep.png").stat().st_size > 1000
    assert not list((sweep.results / "runs").iterdir())
    journal = (sweep.results / "journal.log").read_bytes()
    sweep.run()
    assert "2 trials, 2 ended, 0 to run" in capsys.readouterr().out
    assert (sweep.results / "journal.log").read_bytes() == journal
    monkeypatch.chdir(tmp_path)
    quiet = ["--trainer.logger=false", "--trainer.enable_progress_bar=false"]
    main(["fit", "--config", str(sweep.results / "best.yaml"), *quiet])


def test_a_sweep_in_pieces_is_the_sweep_in_one(pretended, store, tmp_path):
    pretended.content["trials"] = 6
    pretended.run("--trials", "1")
    pretended.run("--trials", "4")
    pretended.run()
    pieces = pretended.outcomes()
    other = Sweep(tmp_path / "other", store)
    other.folder.mkdir()
    other.content["trials"] = 6
    other.run()
    assert other.outcomes() == pieces


def test_a_trial_that_was_killed_is_run_again(pretended):
    pretended.run("--trials", "1")
    expected = pretended.outcomes()
    (pretended.results / "journal.log").unlink()
    killed = studies.ask(pretended.study, read_sweep(pretended.words[2]))  # and never told
    assert killed.params == expected[0][0]
    pretended.run("--trials", "1")
    first, again = pretended.study.trials
    assert first.state == TrialState.FAIL
    assert (again.params, again.value, again.intermediate_values) == expected[0]
    pretended.run("--trials", "1")
    assert len(pretended.study.trials) == 2


def test_a_failed_trial_is_recorded_and_ends_nothing(pretended, capsys):
    pretended.content["space"] = {"data.num_train_objects": {"choice": [8, 999]}}
    pretended.content |= {"trials": 4, "sampler": "random", "seed": 1}
    pretended.run()
    failed = [trial for trial in pretended.study.trials if trial.state == TrialState.FAIL]
    assert 0 < len(failed) < 4
    assert "999 are asked for" in failed[0].user_attrs["error"]
    assert "999 are asked for" in (pretended.results / "report.md").read_text()
    assert "FAILED" in capsys.readouterr().out
    pretended.run()
    assert len(pretended.study.trials) == 4
    pretended.run("--retry_failed")
    assert len(pretended.study.trials) > 4


def test_a_sweep_of_failures_says_why(pretended, capsys):
    pretended.content["space"] = {"data.num_train_objects": {"choice": [999]}}
    with pytest.raises(SystemExit) as stop:
        pretended.run("--trials", "1")
    assert stop.value.code == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: tiny: no trial finished; the first one failed: ")
    assert "999 are asked for" in error


def test_what_was_tried_before_is_not_run_again(pretended, monkeypatch):
    pretended.content["space"] = {DIM: {"choice": [4]}}
    pretended.run()
    first, *others = pretended.study.trials
    assert [trial.value for trial in others] == [first.value] * 2
    assert not any(trial.intermediate_values for trial in others)


def test_a_bad_trial_is_ended_early(pretended, monkeypatch):
    pretended.content["pruning"] = {"startup_trials": 0, "warmup_steps": 0}
    monkeypatch.setattr(optuna.trial.Trial, "should_prune", lambda trial: trial.number == 1)
    pretended.run()
    states = [trial.state for trial in pretended.study.trials]
    assert states == [TrialState.COMPLETE, TrialState.PRUNED, TrialState.COMPLETE]
    assert list(pretended.study.trials[1].intermediate_values) == [2]
    assert "ended early at step 2" in (pretended.results / "report.md").read_text()


def test_another_space_is_another_sweep(pretended, capsys):
    pretended.run("--trials", "1")
    pretended.content["space"][DIM] = {"int": [2, 33]}
    with pytest.raises(SystemExit):
        pretended.run()
    assert "holds trials of another base, space, sampler or score" in capsys.readouterr().err


def test_a_trial_that_has_come_to_its_end_is_not_ended_early(sweep, monkeypatch):
    def is_at_end(trial):
        return max(trial.study.trials[trial.number].intermediate_values) == 4

    monkeypatch.setattr(optuna.trial.Trial, "should_prune", is_at_end)
    sweep.run("--trials", "1")
    [trial] = sweep.study.trials
    assert trial.state == TrialState.COMPLETE
    assert list(trial.intermediate_values) == [2, 4]


def test_a_trial_has_a_process_of_its_own(tmp_path, store):
    sweep = Sweep(tmp_path, store)
    sweep.run("--trials", "1")
    [trial] = sweep.study.trials
    assert trial.state == TrialState.COMPLETE
    assert list(trial.intermediate_values) == [2, 4]


def test_a_run_that_was_interrupted_goes_on_from_its_checkpoint(sweep):
    """As a trial that is asked for again does: what it reported before is reported again."""
    config = read_sweep(sweep.words[2])
    folder, run = sweep.results, sweep.results / "runs" / "x"
    stops = []

    def run_words(study, *more):
        trial = studies.ask(study, config)
        params = {DIM: 4, RATE: 1e-2}
        words = [*words_of(config.pieces(params)), *more]
        job = TrialJob(config, str(folder), trial.number, tuple(words), str(run), keep_run=True)
        run_trial(job)
        stops.append(study.trials[trial.number])

    study = sweep.study
    run_words(study, "--trainer.max_steps=2")
    run_words(study)
    assert list(stops[0].intermediate_values) == [2]
    assert list(stops[1].intermediate_values) == [2, 4]
    assert stops[1].intermediate_values[2] == stops[0].intermediate_values[2]
