"""Run one cell in this process, from where an earlier process left it, and write its file."""

import logging
import math
import platform
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.cli import LightningCLI
from pytorch_lightning.utilities.exceptions import SIGTERMException

from lightning_dws.callbacks import BestCheckpoints
from lightning_dws.checkpoints import find_readable
from lightning_dws.config_files import expand_includes
from lightning_dws.errors import DataError
from lightning_dws.lightning_cli import WeightSpaceCLI, run_lightning
from lightning_dws.plugins import with_plugins
from lightning_dws.table.cells import CellStore, Record
from lightning_dws.table.grid import Cell
from lightning_dws.table.recorder import CellRecorder

KILLED = "killed"  # what the error of a process begins with that something outside has ended
_TEST = "test/"
_RECORDED_VERSIONS = ("torch", "pytorch-lightning", "torch-geometric")


@dataclass(frozen=True)
class CellJob:
    """All that a process needs to run a cell.

    Attributes:
        cell: What to run.
        table_folder: Where the cells' files are.
        run_folder: Where this run keeps checkpoints and its log, until it is finished.
        device_words: Words of ``fit`` that say where it runs, which is no part of the cell.
        num_threads: Of torch; None leaves them.
        git_commit: Of the code.
        keep_run: Keep the run's folder when it is finished.
    """

    cell: Cell
    table_folder: str
    run_folder: str
    device_words: tuple[str, ...] = ()
    num_threads: int | None = None
    git_commit: str | None = None
    keep_run: bool = False

    @property
    def log(self) -> Path:
        """The file that takes what the run prints."""
        return Path(self.run_folder) / "log.txt"


def last_at_validation(folder: str) -> ModelCheckpoint:
    """Keep the state at the last validation, which is the last point of a recorder's history."""
    return ModelCheckpoint(
        dirpath=folder, filename="last", save_on_train_epoch_end=False, enable_version_counter=False
    )


class CellCLI(WeightSpaceCLI):
    """The command line of a single run, without pictures and logs: the cell's file has it all."""

    recorder: CellRecorder
    git_commit: str | None = None

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[Callback]) -> Trainer:
        task = self._model_class
        self.recorder = CellRecorder(task.known_scores()[task.score], self.git_commit)
        best = [callback for callback in callbacks if isinstance(callback, ModelCheckpoint)]
        last = last_at_validation(self.config_init[self.subcommand].checkpoint.dirpath)
        ours = [self.recorder, BestCheckpoints(), *best, last]
        return LightningCLI._instantiate_trainer(self, with_plugins(config), ours)

    def _find_run(self) -> None:
        """Make no folder of a run: the table says where a cell's files are."""

    def _report(self, best: str | None) -> None:
        """Say nothing: the table's own command does."""


def run_cell(job: CellJob) -> None:
    """Run a cell and write its file, unless it is finished or another process runs it.

    Whatever goes wrong is written to the cell's file.

    Args:
        job: What to run, and where.
    """
    cells, cell = CellStore(job.table_folder), job.cell
    with cells.locked(cell.hash) as mine:
        if not mine or cells.is_finished(cell.hash):
            return
        folder = Path(job.run_folder)
        clear_after_failure(folder, cells.read(cell.hash))
        cells.forget(cell.hash)
        started = time.perf_counter()
        try:
            cell.check_files()
            outcome = _train_and_test(job, folder)
        except SIGTERMException:  # Lightning's: not the cell's failure
            sys.exit(128 + signal.SIGTERM)
        except (Exception, SystemExit) as error:
            traceback.print_exc()
            seconds = time.perf_counter() - started
            record_failure(cells, job, error_line(error, job.log), seconds)
            return
        cells.write(cell.name, {**_identity(job, "finished"), **outcome})
        if not job.keep_run:
            shutil.rmtree(folder, ignore_errors=True)


def record_failure(cells: CellStore, job: CellJob, error: str, seconds: float) -> None:
    """Write that a cell failed, and why."""
    record = {"error": error, "wall_seconds": round(seconds, 2), "environment": _environment(job)}
    cells.write(job.cell.name, {**_identity(job, "failed"), **record})


def record_refused(job: CellJob, error: str) -> None:
    """Write that a cell is not started, unless another process runs it, or has run it."""
    cells = CellStore(job.table_folder)
    with cells.locked(job.cell.hash) as mine:
        if mine and not cells.is_finished(job.cell.hash):
            record_failure(cells, job, error, 0.0)


def record_lost(job: CellJob, error: str, seconds: float) -> None:
    """Write that a cell's process ended without a record, unless another runs the cell by now."""
    cells = CellStore(job.table_folder)
    with cells.locked(job.cell.hash) as mine:
        if mine and cells.read(job.cell.hash) is None:
            record_failure(cells, job, error, seconds)


def _identity(job: CellJob, status: str) -> Record:
    return {
        "hash": job.cell.hash,
        "cell": asdict(job.cell.place),
        "status": status,
        "command": job.cell.command,
        "config": job.cell.settings,
    }


def was_killed(failure: Record) -> bool:
    """Whether a failed cell's process was ended from outside, as by the system or ``kill -9``."""
    return str(failure["error"]).startswith(KILLED)


def clear_after_failure(folder: Path, record: Record | None) -> None:
    """Begin anew after an error; what was only interrupted or killed is continued."""
    if record is not None and not was_killed(record):
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    else:
        clear_if_unreadable(folder)


def clear_if_unreadable(folder: Path) -> None:
    """Begin a run anew whose last checkpoint cannot be read."""
    last = folder / "checkpoints" / "last.ckpt"
    if last.is_file():
        try:
            find_readable(last)
            return
        except DataError as error:
            sys.stderr.write(f"{error}; from the start\n")
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)


def quiet_words(words: Sequence[str], folder: Path) -> list[str]:
    """Give the command line of a run that keeps all in its folder, and goes on from what is there.

    Args:
        words: Behind ``fit``.
        folder: Of the run.
    """
    last = folder / "checkpoints" / "last.ckpt"
    return [
        "fit",
        *expand_includes(words),
        f"--trainer.default_root_dir={folder}",
        f"--checkpoint.dirpath={folder / 'checkpoints'}",
        "--trainer.logger=false",
        "--trainer.enable_progress_bar=false",
        "--trainer.enable_model_summary=false",
        "--trainer.num_sanity_val_steps=0",
        *(["--init_from=null", f"--ckpt_path={last}"] if last.is_file() else []),  # began there
    ]


def _train_and_test(job: CellJob, folder: Path) -> Record:
    words = [*quiet_words([*job.cell.words, *job.device_words], folder), "--test_after_fit=true"]
    if job.num_threads:
        torch.set_num_threads(job.num_threads)
    CellCLI.git_commit = job.git_commit
    cli = run_lightning(words, CellCLI, save_config_callback=None)
    trainer, recorder, datamodule = cli.trainer, cli.recorder, cli.datamodule
    test = {
        name.removeprefix(_TEST): float(value)
        for name, value in trainer.callback_metrics.items()
        if name.startswith(_TEST)
    }
    if recorder.score.name not in test or not recorder.history["step"]:
        raise DataError("the run ended without a validation, or without a test")
    return {
        "test": {n: value if math.isfinite(value) else None for n, value in test.items()},
        "best": recorder.best(),
        "steps": trainer.global_step,
        "epochs": round(trainer.global_step / trainer.num_training_batches, 2),
        "wall_seconds": round(recorder.seconds, 2),
        "num_objects": _count_objects(datamodule),
        "num_parameters": sum(p.numel() for p in cli.model.network.parameters()),
        "environment": {**_environment(job, trainer), "git_commits": recorder.git_commits},
        "test_objects": recorder.test_objects(),
        "history": recorder.history,
    }


def _count_objects(datamodule: Any) -> dict[str, int]:
    counts = {split: len(table) for split, table in datamodule.tables.items()}
    counts["train"] //= datamodule.views
    return counts


def _environment(job: CellJob, trainer: pl.Trainer | None = None) -> dict[str, Any]:
    device = trainer.strategy.root_device if trainer else None
    where = _processor()
    if device is not None and device.type == "cuda":
        where = torch.cuda.get_device_name(device)
    return {
        "git_commits": [job.git_commit],
        "versions": {name: version(name) for name in _RECORDED_VERSIONS},
        "device": device.type if device else None,
        "hardware": where,
        "threads": torch.get_num_threads(),
    }


def _processor() -> str:
    """Name the processor; Linux says it in a file alone."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def error_line(error: BaseException, log: Path | None = None) -> str:
    """Say a run's error in one line; of one that only ended the process, find what it printed."""
    if isinstance(error, SystemExit):
        return _logged_error(log) or f"the run ended with status {error.code}"
    text = " ".join(str(error).split())
    return text if isinstance(error, DataError) else f"{type(error).__name__}: {text}"


def _logged_error(log: Path | None) -> str:
    try:
        return printed_error(log.read_text(errors="replace")) if log else ""
    except OSError:
        return ""


def printed_error(printed: str) -> str:
    """Find the error in what a command line printed before it ended; nothing where none is."""
    _, found, text = printed.rpartition("error: ")
    text = text.partition("Traceback (most recent call last)")[0]
    return " ".join(text.split()) if found else ""


def prepare_dataset(words: Sequence[str]) -> None:
    """Fit the INRs that a run needs and a store lacks; nothing is trained.

    Args:
        words: Of the run, behind ``fit``.
    """
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        run_lightning(["fit", *expand_includes(words)], DatasetCLI, save_config_callback=None)
    except DataError as error:
        sys.stderr.write(f"{error}\n")


class DatasetCLI(WeightSpaceCLI):
    """The command line of a single run, which ends when its INRs are there."""

    def _find_run(self) -> None:
        """Make no folder of a run: nothing is trained."""

    def _run_subcommand(self, subcommand: str) -> None:
        self.datamodule.prepare_data()
