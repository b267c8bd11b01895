import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from table_command import NOISE, TinyTable, run_two_processes
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lightning_dws.cli import main
from lightning_dws.table import command
from lightning_dws.table.cluster import ClusterJob
from lightning_dws.table.processes import start_process

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
    "OMP_NUM_THREADS": "1",
}


def figures(record: dict) -> dict:
    return {name: record[name] for name in ("test", "best", "steps", "test_objects", "history")}


def test_a_table_runs_every_cell_once(table, capfd):
    table.run()
    records = table.records()
    assert len(records) == 16
    assert all(record["status"] == "finished" for record in records.values())
    assert all(name.endswith(record["hash"]) for name, record in records.items())
    assert {len(record["history"]["step"]) for record in records.values()} == {3}
    assert not list((table.results / "tiny" / "runs").iterdir())
    assert capfd.readouterr().out.count(" | seed ") == 16
    table.run()
    assert "16 finished, 0 to run" in capfd.readouterr().out
    assert table.records() == records


def test_a_cell_has_the_numbers_of_its_single_run(table, tmp_path):
    table.content["augmentations"]["noise"] = NOISE
    table.content |= {"seeds": [3], "views": [2]}
    table.run()
    assert len(table.records()) == 6
    for name, record in table.records().items():
        runs = tmp_path / "runs" / name
        words = shlex.split(record["command"])[2:]
        quiet = ["--trainer.log_every_n_steps=1", "--trainer.enable_progress_bar=false"]
        main([*words, *quiet, f"--trainer.default_root_dir={runs}"])
        events = EventAccumulator(str(runs / "run" / "version_0"))
        events.Reload()
        for metric in ("loss", "accuracy"):
            single = [event.value for event in events.Scalars(f"val/{metric}")]
            assert record["history"][f"val_{metric}"] == pytest.approx(single, rel=1e-5)
            single = [event.value for event in events.Scalars(f"test/{metric}")]
            assert [record["test"][metric]] == single
        [best] = runs.rglob("best*.ckpt")
        assert torch.load(best, weights_only=True)["global_step"] == record["best"]["step"]


def run_in_subprocess(table: TinyTable, *options: str) -> subprocess.Popen:
    words = [sys.executable, str(ROOT / "main.py"), *table.words, "--devices", "cpu", *options]
    return subprocess.Popen(
        words, env=ENVIRONMENT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def wait_until(condition, seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def processes_of(table: TinyTable) -> list[int]:
    """Find the processes that have a file of the table open: the cells that run."""
    found = []
    for process in psutil.process_iter():
        try:
            if any(str(table.folder) in file.path for file in process.open_files()):
                found.append(process.pid)
        except (psutil.Error, OSError):
            continue
    return found


def test_a_table_in_a_copied_folder_knows_the_best_checkpoints(table, tmp_path):
    """A cell that ended before it was recorded: its run is there, in another place."""
    table.content |= {"seeds": [0], "views": [1]}
    del table.content["models"]["wide"], table.content["augmentations"]["MixUp"]
    table.run("--keep_runs")
    [expected] = table.records().values()
    table.results = Path(shutil.move(table.results, tmp_path / "moved"))
    [path] = (table.results / "tiny" / "cells").glob("*.json")
    path.unlink()
    table.run("--keep_runs")
    [found] = table.records().values()
    assert figures(found) == figures(expected)
    assert len(list(table.results.rglob("*.ckpt"))) == 2


def test_a_killed_table_continues(tmp_path):
    """kill -9 in the middle of a cell: no cell lost, none repeated, the same figures."""
    (tmp_path / "straight").mkdir()
    (tmp_path / "killed").mkdir()
    straight, table = TinyTable(tmp_path / "straight"), TinyTable(tmp_path / "killed")
    for each in (straight, table):
        each.content["augmentations"]["noise"] = NOISE
        each.content |= {"seeds": [0], "views": [2]}
        each.content["models"] = {"DWS": each.content["models"]["DWS"]}
        each.content["common"]["trainer"] |= {"max_steps": 160, "val_check_interval": 8}
    straight.run()
    running = run_in_subprocess(table)
    runs = table.results / "tiny" / "runs"

    def interrupted() -> set[str]:
        return {path.parts[-3] for path in runs.glob("*/checkpoints/last.ckpt")} - {
            *table.records()
        }

    wait_until(lambda: table.records() and interrupted())
    running.kill()
    running.communicate(timeout=300)
    wait_until(lambda: not processes_of(table), 10)
    kept = table.records()
    written = {path: path.stat().st_mtime_ns for path in table.results.rglob("cells/*.json")}
    assert 0 < len(kept) < 3
    assert interrupted()
    output, _ = run_in_subprocess(table).communicate(timeout=300)
    assert f"{len(kept)} finished, {3 - len(kept)} to run" in output
    assert all(path.stat().st_mtime_ns == time for path, time in written.items())
    expected = {name: figures(record) for name, record in straight.records().items()}
    assert {name: figures(record) for name, record in table.records().items()} == expected


@pytest.fixture
def heeding_ctrl_c():
    """Let started processes heed SIGINT, also where these tests run in a shell's background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeding_ctrl_c")
def test_ctrl_c_stops_at_once_and_says_how_to_go_on(table):
    table.content["common"]["trainer"] |= {"max_steps": 4000, "val_check_interval": 10}
    running = run_in_subprocess(table)
    wait_until(lambda: list(table.results.rglob("last.ckpt")))
    running.send_signal(signal.SIGINT)
    output, _ = running.communicate(timeout=300)
    assert running.returncode == 130
    assert "the same command continues" in output
    assert "Traceback" not in output
    assert not table.records()
    assert list(table.results.rglob("last.ckpt"))
    wait_until(lambda: not processes_of(table), 10)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_cell_is_shown_and_goes_on_the_next_time(table, number):
    table.content |= {"seeds": [0], "views": [1]}
    table.content["common"]["trainer"] |= {"max_steps": 400, "val_check_interval": 20}
    running = run_in_subprocess(table)
    wait_until(lambda: list(table.results.rglob("last.ckpt")))
    [cell] = [pid for pid in processes_of(table) if pid != running.pid]
    os.kill(cell, number)
    output, _ = running.communicate(timeout=300)
    assert running.returncode == 0
    failed = [r for r in table.records().values() if r["status"] == "failed"]
    [error] = [record["error"] for record in failed]
    assert error == f"killed: its process was ended by signal {number:d}"
    assert len(table.records()) == 4
    assert "FAILED: killed" in output
    table.run()
    records = table.records().values()
    assert [record["status"] for record in records] == ["finished"] * 4
    assert {len(record["history"]["step"]) for record in records} == {20}


def test_a_failed_cell_is_recorded_and_the_others_run(table, capfd):
    table.content |= {"seeds": [0], "views": [1]}
    bad = [{"class_path": "lightning_dws.augmentations.ReLUScaling"}]
    table.content["augmentations"] = {
        "none": {},
        "wrong": {"data": {"augmentations": bad}},
        "misspelt": {"data": {"augmentation": []}},
        "absent": {"data": {"augmentations": [{"class_path": "nowhere.Noise"}]}},
    }
    table.content["models"] = {"DWS": table.content["models"]["DWS"]}
    table.run()
    errors = {r["cell"]["augmentation"]: r.get("error") for r in table.records().values()}
    assert errors["none"] is None
    assert errors["wrong"].startswith("augmentations: ReLUScaling")
    assert "augmentation" in errors["misspelt"]
    assert "nowhere" in errors["absent"]
    assert all("\n" not in error for error in errors.values() if error)
    assert "3 failed" in capfd.readouterr().out


def test_a_changed_config_is_another_cell(table, capfd):
    table.content |= {"seeds": [0], "views": [1]}
    table.run()
    before = table.records()
    table.content["common"]["trainer"]["max_steps"] = 4
    table.content["augmentations"]["MixUp "] = table.content["augmentations"].pop("MixUp")
    table.content["common"]["data"]["root"] += "/../data"  # where the INRs are is no change
    table.run()
    after = table.records()
    assert len(after) == 8
    assert all(after[name] == record for name, record in before.items())
    assert "0 finished, 4 to run" in capfd.readouterr().out


def test_two_commands_share_a_table(table):
    table.content |= {"seeds": [0], "views": [1]}
    both = [run_in_subprocess(table) for _ in range(2)]
    outputs = [process.communicate(timeout=300)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert len(table.records()) == 4
    ran = [re.findall(r"\] (.* seed 0): [\d.]+ % ", output) for output in outputs]
    assert len({*ran[0], *ran[1]}) == 4


def test_cells_run_as_jobs_of_a_cluster(table):
    """By submitit's local executor, which starts a process for each job as SLURM would."""
    table.content |= {"seeds": [0], "views": [1]}
    table.content["models"] = {"DWS": table.content["models"]["DWS"]}
    options = "{cluster: local, timeout_min: 5, cpus_per_task: 1}"
    output, _ = run_in_subprocess(table, "--slurm", options).communicate(timeout=300)
    records = table.records().values()
    assert [record["status"] for record in records] == ["finished"] * 2, output
    assert output.count("seed 0:") == 2


def test_a_preempted_job_is_queued_again():
    submission = ClusterJob().checkpoint("the cell")
    assert isinstance(submission.function, ClusterJob)
    assert submission.args == ("the cell",)


def test_a_job_that_the_cluster_ends_is_shown(table, monkeypatch):
    import submitit

    class Lost:
        def result(self):
            raise submitit.core.utils.UncompletedJobError("out of memory")

    monkeypatch.setattr(
        submitit.AutoExecutor, "map_array", lambda self, job, cells: [Lost() for _ in cells]
    )
    table.content |= {"seeds": [0], "views": [1]}
    table.run("--slurm", "{cluster: local}")
    assert {r["error"] for r in table.records().values()} == {"killed: out of memory"}
    assert len(table.records()) == 4


def test_a_cell_may_start_processes_of_its_own(tmp_path):
    """As shapes are sampled by several."""
    process = start_process(run_two_processes, (tmp_path / "done",), tmp_path / "log.txt")
    process.join(60)
    assert process.exitcode == 0, (tmp_path / "log.txt").read_text()
    assert (tmp_path / "done").read_text() == "[0, 1]"


def test_an_unknown_option_of_the_cluster_is_named(table, capsys):
    with pytest.raises(SystemExit):
        table.run("--slurm", "{cluster: debug, partitionn: gpu}")
    assert "partitionn" in capsys.readouterr().err


def test_jobs_run_at_the_same_time(table):
    table.content |= {"seeds": [0], "views": [1]}
    table.run("--jobs", "2")
    assert [record["status"] for record in table.records().values()] == ["finished"] * 4


def test_parts_from_outside_the_package_run_alone(table, tmp_path, monkeypatch):
    """An own model and an own augmentation, by class path, from a folder of the user's."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "my_parts.py").write_text(MY_PARTS)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "mine"), *sys.path]))
    table.content |= {"seeds": [0], "views": [1]}
    table.content["models"] = {"mine": {"model": {"network": "my_parts.MyModel"}}}
    own = {"data": {"augmentations": [{"class_path": "my_parts.Halving"}]}}
    table.content["augmentations"] = {"none": {}, "own": own}
    words = [sys.executable, str(ROOT / "main.py"), *table.words, "--devices", "cpu"]
    subprocess.run(words, check=True, capture_output=True)
    records = table.records().values()
    assert [record.get("error") for record in records] == [None] * 2
    losses = [record["history"]["train_loss"] for record in records]
    assert losses[0] != losses[1]


MY_PARTS = """
import torch
from lightning_dws import INRArchitecture
from lightning_dws.augmentations import Augmentation

class MyModel(torch.nn.Module):
    def __init__(self, architecture: INRArchitecture, num_classes: int) -> None:
        super().__init__()
        self.head = torch.nn.Linear(architecture.num_parameters, num_classes)

    def forward(self, batch):
        return self.head(batch.parameters)

class Halving(Augmentation):
    def draw(self, batch, generator):
        return {}

    def transform(self, batch, params):
        return batch.replace(parameters=batch.parameters / 2)
"""


def test_when_the_time_is_over_no_further_cell_starts(table, capfd, monkeypatch):
    table.run("--max_hours", "1e-12")
    assert not table.records()
    assert "16 cells: 16 left" in capfd.readouterr().out
    assert "0 of 16 cells" in (table.results / "tiny" / "report.md").read_text()
    monkeypatch.setattr(command, "prepare_datasets", lambda cells, devices: None)
    table.run("--max_hours", "1e-5")  # 36 ms: a cell that has started runs to its end
    assert "16 cells: 1 finished, 15 left" in capfd.readouterr().out
