"""Run the cells of a table that are left, several at a time, each in its own process."""

import json
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from multiprocessing import connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import torch

from lightning_dws.config_files import Settings
from lightning_dws.counting import counted
from lightning_dws.parallel import num_cores
from lightning_dws.table.grid import Cell
from lightning_dws.table.processes import start_process
from lightning_dws.table.worker import KILLED, CellJob, prepare_dataset, record_lost, run_cell

Report = Callable[[CellJob], None]

_NOT_OF_A_STORE = (
    "views",
    "augmentations",
    "canonical",
)  # of a cell's data: any number is one store


@dataclass(frozen=True)
class Slot:
    """A place where one cell at a time runs.

    Attributes:
        gpu: Its number; None is the CPU.
        num_threads: Of torch.
    """

    gpu: int | None
    num_threads: int


@dataclass
class _Running:
    process: ForkServerProcess
    job: CellJob
    slot: Slot
    started: float


def make_slots(num_jobs: int, devices: str) -> list[Slot]:
    """Share out threads and GPUs over cells that run at the same time.

    No cell takes more threads than torch would here, so ``OMP_NUM_THREADS`` holds for each.

    Args:
        num_jobs: Cells at a time; 0 is one for each GPU, or one on the CPU.
        devices: ``auto`` takes all GPUs there are; ``cpu``; or the numbers of GPUs, ``0,2``.

    Raises:
        ValueError: Other devices, or GPUs that torch does not find.
    """
    found = torch.cuda.device_count()
    if devices == "cpu" or (devices == "auto" and found == 0):
        gpus: list[int | None] = [None]
    elif devices == "auto":
        gpus = list(range(found))
    elif all(number.strip().isdecimal() for number in devices.split(",")):
        gpus = [int(number) for number in devices.split(",")]
    else:
        raise ValueError(f"devices must be auto, cpu or numbers of GPUs, got {devices!r}")
    if any(gpu is not None and gpu >= found for gpu in gpus):
        raise ValueError(f"devices is {devices!r}, but torch finds {counted(found, 'GPU')}")
    count = num_jobs or len(gpus)
    threads = max(1, min(num_cores() // count, torch.get_num_threads()))
    return [Slot(gpus[number % len(gpus)], threads) for number in range(count)]


def device_words(settings: Settings, slot: Slot, devices: str) -> tuple[str, ...]:
    """Say to ``fit`` where a run of these settings runs, which its config leaves open."""
    if devices == "cpu":
        return ("--trainer.accelerator=cpu",)
    if slot.gpu is None or settings.get("trainer", {}).get("accelerator") == "cpu":
        return ()
    return (f"--trainer.devices=[{slot.gpu}]",)


def prepare_datasets(cells: Sequence[Cell], devices: str) -> None:
    """Fit the INRs that cells need, once for all, before any of them runs.

    What goes wrong is printed there; each cell that needs the INRs will say it again.
    """
    largest: dict[str, Cell] = {}
    for cell in cells:
        data = cell.settings.get("data", {})
        wanted = {k: v for k, v in data.items() if k not in _NOT_OF_A_STORE}
        key = json.dumps(wanted, sort_keys=True)
        if key not in largest or largest[key].place.views < cell.place.views:
            largest[key] = cell
    for cell in largest.values():
        words = (*cell.words, *(("--trainer.accelerator=cpu",) if devices == "cpu" else ()))
        process = start_process(prepare_dataset, (words,), None)
        try:
            process.join()
        except BaseException:
            process.kill()
            raise


def run_locally(
    jobs: Sequence[CellJob],
    slots: Sequence[Slot],
    devices: str,
    on_end: Report,
    stop_after_seconds: float | None = None,
) -> None:
    """Run cells on this machine until none is left, or the time is over.

    Cells that run when the time is over end as usual. On any exception (Ctrl-C) they are killed,
    and continue from their checkpoints the next time.

    Args:
        jobs: What to run, in this order.
        slots: Where.
        devices: As in ``make_slots``.
        on_end: Called with every job whose process has ended.
        stop_after_seconds: Start no further cell after so long.
    """
    waiting, free = deque(jobs), deque(slots)
    running: dict[Any, _Running] = {}
    deadline = float("inf") if stop_after_seconds is None else time.monotonic() + stop_after_seconds
    try:
        while True:
            while waiting and free and time.monotonic() < deadline:
                slot = free.popleft()
                started = _start(waiting.popleft(), slot, devices)
                running[started.process.sentinel] = started
            if not running:
                break
            for sentinel in connection.wait(list(running)):
                ended = running.pop(sentinel)
                free.append(ended.slot)
                _settle(ended)
                on_end(ended.job)
    finally:
        for left in running.values():
            left.process.kill()


def _start(job: CellJob, slot: Slot, devices: str) -> _Running:
    words = device_words(job.cell.settings, slot, devices)
    job = replace(job, device_words=words, num_threads=slot.num_threads)
    process = start_process(run_cell, (job,), job.log)
    return _Running(process, job, slot, time.monotonic())


def _settle(ended: _Running) -> None:
    """Record the end of a process that could not do so itself."""
    ended.process.join()
    code, job = ended.process.exitcode, ended.job
    if code == 0:
        return
    error = f"its process ended with status {code}"
    number = signal.SIGTERM if code == 128 + signal.SIGTERM else -(code or 0)
    if number > 0:
        error = f"{KILLED}: its process was ended by signal {number:d}"
    record_lost(job, error, time.monotonic() - ended.started)


def git_commit() -> str | None:
    """Find the commit of this code, marked where files differ from it; None outside of git."""
    root = Path(__file__).parents[2]

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "-C", str(root), *words], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        commit = git("rev-parse", "--short=12", "HEAD")
        changed = git("status", "--porcelain", "--", "lightning_dws", "conf", "main.py")
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{commit} with changes" if changed else commit
