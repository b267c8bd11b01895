import multiprocessing
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import torch
from table_command import NOISE, WIDE, TinyTable, run_two_processes
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lightning_dws.cli import main
from lightning_dws.table import command, processes, runner
from lightning_dws.table.cluster import ClusterJob
from lightning_dws.table.processes import redirect_output, start_process

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
    "OMP_NUM_THREADS": "1",
}


def keep_one_row_of_cells(table: TinyTable) -> None:
    """Leave two cells: the rows none and MixUp of one model, one view and one seed."""
    table.content |= {"seeds": [0], "views": [1]}
    table.content["models"] = {"DWS": table.content["models"]["DWS"]}


def figures(record: dict) -> dict:
    return {name: record[name] for name in ("test", "best", "steps", "test_objects", "history")}


@pytest.mark.parametrize(("num_jobs", "expected"), [(1, 2), (4, 2), (8, 1), (9, 1)])
def test_no_cell_takes_more_threads_than_torch_would(num_jobs, expected, monkeypatch):
    monkeypatch.setattr(runner, "num_cores", lambda: 8)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    slots = runner.make_slots(num_jobs, "cpu")
    assert [slot.num_threads for slot in slots] == num_jobs * [expected]


def test_a_table_runs_every_cell_once(table, capfd):
    table.content["models"] = {"wide": WIDE}
    table.run()
    records = table.records()
    assert len(records) == 8
    assert all(record["status"] == "finished" for record in records.values())
    assert all(name.endswith(record["hash"]) for name, record in records.items())
    assert {len(record["history"]["step"]) for record in records.values()} == {3}
    assert not list((table.results / "tiny" / "runs").iterdir())
    assert capfd.readouterr().out.count(" | seed ") == 8
    table.run()
    assert "8 finished, 0 to run" in capfd.readouterr().out
    assert table.records() == records


def test_a_cell_has_the_numbers_of_its_single_run(table, tmp_path):
    table.content["augmentations"]["noise"] = NOISE
    table.content |= {"seeds": [3], "views": [2]}
    table.content["models"] = {"wide": WIDE}
    table.run()
    assert len(table.records()) == 3
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


class Running:
    """A table's command in a process of its own, forked from one that has imported all it needs.

    Its cells are forked from it, which saves the seconds that a server of its own takes to import
    everything again; with ``own_server`` they come from such a server, as a user's do.
    """

    def __init__(self, table: TinyTable, own_server: bool = False) -> None:
        self._log = table.folder.with_name(f"output-{table.folder.name}")  # no file of the table
        words = [*table.words, "--devices", "cpu"]
        self.process = multiprocessing.get_context("forkserver").Process(
            target=run_with_output, args=(words, self._log, own_server)
        )
        self.process.start()

    def wait(self) -> str:
        """Wait for its end and give what it printed."""
        self.process.join(300)
        assert self.process.exitcode is not None, "it has not ended"
        return self._log.read_text()

    def end(self) -> None:
        """Leave no process behind, such as that of a test that failed."""
        if self.process.is_alive():
            for process in psutil.Process(self.process.pid).children(recursive=True):
                process.kill()
            self.process.kill()


@pytest.fixture
def start() -> Iterator[Callable[..., Running]]:
    started: list[Running] = []

    def start(table: TinyTable, own_server: bool = False) -> Running:
        started.append(Running(table, own_server))
        return started[-1]

    yield start
    for running in started:
        running.end()


def run_with_output(words: list[str], log: Path, own_server: bool) -> None:
    redirect_output(log)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the server may have ignored it
    if not own_server:
        processes._context = lambda: multiprocessing.get_context("fork")
    torch.set_num_threads(1)
    main(words)


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


def test_a_killed_table_continues(tmp_path, start, capfd):
    """kill -9 in the middle of a cell: no cell lost, none repeated, the same figures."""
    (tmp_path / "straight").mkdir()
    (tmp_path / "killed").mkdir()
    straight, table = TinyTable(tmp_path / "straight"), TinyTable(tmp_path / "killed")
    for each in (straight, table):
        each.content["augmentations"]["noise"] = NOISE
        each.content |= {"seeds": [0], "views": [2]}
        each.content["models"] = {"DWS": each.content["models"]["DWS"]}
        each.content["common"]["trainer"] |= {"max_steps": 40, "val_check_interval": 4}
    straight.run()
    running = start(table, own_server=True)
    runs = table.results / "tiny" / "runs"

    def interrupted() -> set[str]:
        return {path.parts[-3] for path in runs.glob("*/checkpoints/last.ckpt")} - {
            *table.records()
        }

    wait_until(lambda: table.records() and interrupted())
    running.process.kill()
    running.wait()
    wait_until(lambda: not processes_of(table), 10)
    kept = table.records()
    written = {path: path.stat().st_mtime_ns for path in table.results.rglob("cells/*.json")}
    assert 0 < len(kept) < 3
    assert interrupted()
    capfd.readouterr()
    table.run()
    assert f"{len(kept)} finished, {3 - len(kept)} to run" in capfd.readouterr().out
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
def test_ctrl_c_stops_at_once_and_says_how_to_go_on(table, start):
    table.content["common"]["trainer"] |= {"max_steps": 4000, "val_check_interval": 10}
    running = start(table)
    wait_until(lambda: list(table.results.rglob("last.ckpt")))
    os.kill(running.process.pid, signal.SIGINT)
    output = running.wait()
    assert running.process.exitcode == 130
    assert "the same command continues" in output
    assert "Traceback" not in output
    assert not table.records()
    assert list(table.results.rglob("last.ckpt"))
    wait_until(lambda: not processes_of(table), 10)


def test_killed_cells_are_shown_and_go_on_the_next_time(table, start):
    keep_one_row_of_cells(table)
    table.content["common"]["trainer"] |= {"max_steps": 200, "val_check_interval": 10}
    running = start(table)
    numbers = [signal.SIGKILL, signal.SIGTERM]
    for count, number in enumerate(numbers, start=1):
        wait_until(lambda: len(list(table.results.rglob("last.ckpt"))) == count)  # noqa: B023
        [cell] = [pid for pid in processes_of(table) if pid != running.process.pid]
        os.kill(cell, number)
        wait_until(lambda: len(table.records()) == count)  # noqa: B023
    output = running.wait()
    assert running.process.exitcode == 0
    errors = {record["error"] for record in table.records().values()}
    assert errors == {f"killed: its process was ended by signal {number:d}" for number in numbers}
    assert output.count("FAILED: killed") == 2
    table.run()
    records = table.records().values()
    assert [record["status"] for record in records] == ["finished"] * 2
    assert {len(record["history"]["step"]) for record in records} == {20}


def test_a_cell_trains_a_network_of_compiled_kernels(table):
    keep_one_row_of_cells(table)
    table.content["augmentations"] = {"none": {}}
    options = {"hidden_dim": 4, "num_hidden": 1, "set_layer": "deepsets"}
    network = {"class_path": "lightning_dws.models.DWSNet", "init_args": options}
    table.content["models"] = {"DWS": {"model": {"network": network}}}
    table.content["common"]["data"]["batch_size"] = 16  # fill the lanes of any processor
    table.run()
    (record,) = table.records().values()
    assert record["status"] == "finished", record["error"]


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


def test_two_commands_share_a_table(table, start, capfd):
    table.content |= {"seeds": [0], "views": [1]}
    table.content["common"]["trainer"]["max_steps"] = 100
    other = start(table)
    wait_until(lambda: list(table.results.rglob("last.ckpt")))
    table.run()
    outputs = [other.wait(), capfd.readouterr().out]
    assert other.process.exitcode == 0
    assert len(table.records()) == 4
    ran = [re.findall(r"\] (.* seed 0): [\d.]+ % ", output) for output in outputs]
    assert len({*ran[0], *ran[1]}) == 4
    assert min(map(len, ran)) > 0


def test_cells_run_as_jobs_of_a_cluster(table, capfd, monkeypatch):
    """By submitit's local executor, which starts a process for each job as SLURM would."""
    monkeypatch.setenv("PYTHONPATH", ENVIRONMENT["PYTHONPATH"])
    keep_one_row_of_cells(table)
    table.run("--slurm", "{cluster: local, timeout_min: 5, cpus_per_task: 1}")
    output = capfd.readouterr().out
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
    keep_one_row_of_cells(table)
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
