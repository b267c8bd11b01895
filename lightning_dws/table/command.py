"""The command ``table``."""

import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from jsonargparse import Namespace
from jsonargparse.typing import NonNegativeInt, PositiveFloat

from lightning_dws.counting import counted
from lightning_dws.errors import DataError
from lightning_dws.parse_errors import ArgumentParser
from lightning_dws.program import program
from lightning_dws.table.board import write_board
from lightning_dws.table.cells import CellStore
from lightning_dws.table.cluster import run_on_cluster
from lightning_dws.table.forecast import Progress, forecast
from lightning_dws.table.grid import Cell, TableConfig, read_table
from lightning_dws.table.pictures import draw_figures
from lightning_dws.table.report import write_report
from lightning_dws.table.results import Results
from lightning_dws.table.row_checks import find_refused, tell_refused
from lightning_dws.table.runner import git_commit, make_slots, prepare_datasets, run_locally
from lightning_dws.table.table_score import Scores, scores_of
from lightning_dws.table.worker import CellJob, record_refused, was_killed


def run_table(args: Sequence[str]) -> None:
    """Run the command that the words behind ``table`` say."""
    parser = _parser()
    options = parser.parse_args(list(args))
    if not options.config:
        parser.error("table needs --config FILE, such as conf/table/digits.yaml")
    table = read_table(options.config, options.set)
    scores = scores_of(table)
    cells = CellStore(Path(options.results_root) / table.name)
    try:
        if options.show is not None:
            _show(table, cells, options.show)
        elif options.dry_run:
            _list(table, cells, options.retry_failed, max(1, options.jobs), options.devices)
        else:
            if not options.report_only:
                _run(table, cells, scores, options)
            _report(table, cells)
    except DataError:
        raise
    except ValueError as error:
        parser.error(str(error))


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog=f"{program()} table",
        description="Run what is left of a table of experiments, and write its report.",
    )
    parser.add_argument(
        "--config", type=str, action="append", help="a table's file; later ones change earlier ones"
    )
    parser.add_argument(
        "--set", type=str, nargs="+", default=[], help="settings of the table, such as seeds=[0]"
    )
    parser.add_argument(
        "--jobs",
        type=NonNegativeInt,
        default=0,
        help="cells at a time, which share the cores (default: one, or one for each GPU)",
    )
    parser.add_argument(
        "--devices", type=str, default="auto", help="auto, cpu, or numbers of GPUs such as 0,1"
    )
    parser.add_argument(
        "--max_hours", type=PositiveFloat | None, default=None, help="then start no further cell"
    )
    for name, text in (
        ("retry_failed", "run cells again that have failed"),
        ("dry_run", "list the cells and what is left, and run nothing"),
        ("report_only", "write the report from the cells on disk, and run nothing"),
        ("keep_runs", "keep checkpoints of finished cells"),
    ):
        parser.add_argument(f"--{name}", action="store_true", help=text)
    parser.add_argument(
        "--show", type=str | None, default=None, help="print commands of cells with this in a name"
    )
    parser.add_argument(
        "--slurm",
        type=dict | None,
        default=None,
        help="run on SLURM, with submitit's parameters: '{slurm_partition: gpu, gpus_per_node: 1}'",
    )
    parser.add_argument("--results_root", type=str, default="results", help="folder of tables")
    parser.add_argument(
        "--runs_root", type=str | None, default=None, help="unfinished runs (default: with results)"
    )
    return parser


def _left(table: TableConfig, cells: CellStore, retry_failed: bool) -> list[Cell]:
    """Give the cells that are to run: each once, though two rows may say the same.

    A cell whose process was killed failed by nothing of its own, and goes on.
    """
    left: dict[str, Cell] = {}
    for cell in table.cells:
        record = cells.read(cell.hash)
        failed = record is not None and record["status"] == "failed"
        if record is None or (failed and (retry_failed or was_killed(record))):
            left.setdefault(cell.hash, cell)
    return list(left.values())


def _run(table: TableConfig, cells: CellStore, scores: Scores, options: Namespace) -> None:
    todo = _left(table, cells, options.retry_failed)
    done = len(table.cells) - len(_left(table, cells, retry_failed=True))
    sys.stdout.write(
        f"{table.name}: {counted(len(table.cells), 'cell')}, {done} finished, {len(todo)} to run\n"
    )
    if not todo:
        return
    slots = None if options.slurm else make_slots(options.jobs, options.devices)
    runs = Path(options.runs_root) / table.name if options.runs_root else cells.folder / "runs"
    commit = git_commit()
    jobs = [
        CellJob(
            cell=cell,
            table_folder=str(cells.folder),
            run_folder=str(runs / cell.name),
            device_words=("--trainer.accelerator=cpu",) if options.devices == "cpu" else (),
            git_commit=commit,
            keep_run=options.keep_runs,
        )
        for cell in todo
    ]
    end = None if options.max_hours is None else time.monotonic() + 3600 * options.max_hours
    try:
        refused = _find_refused(table, cells, todo, options.devices)
        for job in (job for job in jobs if job.cell in refused):
            record_refused(job, refused[job.cell])
        jobs = [job for job in jobs if job.cell not in refused]
        if not jobs:
            return
        todo = [job.cell for job in jobs]
        progress = Progress(cells, todo, scores)
        prepare_datasets(todo, options.devices)
        if slots is None:
            run_on_cluster(jobs, runs / "slurm", options.slurm, progress)
        else:
            seconds = None if end is None else end - time.monotonic()
            run_locally(jobs, slots, options.devices, progress, seconds)
    except KeyboardInterrupt:
        sys.stderr.write("\nstopped; the same command continues where this one was\n")
        sys.exit(130)


def _find_refused(
    table: TableConfig, cells: CellStore, todo: list[Cell], devices: str
) -> dict[Cell, str]:
    """Find cells that no run can be made of, and tell them."""
    finished = [cell for cell in table.cells if cells.is_finished(cell.hash)]
    words = ("--trainer.accelerator=cpu",) if devices == "cpu" else ()
    refused = find_refused(todo, finished, words)
    tell_refused(refused)
    return refused


def _states(table: TableConfig, cells: CellStore) -> list[tuple[Cell, str]]:
    states = []
    for cell in table.cells:
        record = cells.read(cell.hash)
        states.append((cell, "left" if record is None else str(record["status"])))
    return states


def _summary(table: TableConfig, cells: CellStore) -> str:
    counts = Counter(state for _, state in _states(table, cells))
    states = ", ".join(f"{count} {state}" for state, count in counts.items())
    return f"{table.name}: {counted(len(table.cells), 'cell')}: {states}\n"


def _list(
    table: TableConfig, cells: CellStore, retry_failed: bool, num_jobs: int, devices: str
) -> None:
    states = _states(table, cells)
    for cell, state in states:
        sys.stdout.write(f"{state:8} {cell.place}  ({cell.hash})\n")
    sys.stdout.write(_summary(table, cells))
    done = [cell for cell, state in states if state == "finished"]
    todo = _left(table, cells, retry_failed)
    sys.stdout.write(f"{forecast(cells, todo, done, num_jobs)}\n")
    sys.stdout.flush()
    _find_refused(table, cells, todo, devices)


def _show(table: TableConfig, cells: CellStore, part: str) -> None:
    chosen = [cell for cell in table.cells if part in (cell.name, cell.hash, str(cell.place))]
    chosen = chosen or [c for c in table.cells if part in c.name or part in str(c.place)]
    if not chosen:
        raise DataError(f"{table.name} has no cell with {part!r} in its name; --dry_run lists them")
    for cell in chosen:
        record = cells.read(cell.hash)
        state = "left" if record is None else record["status"]
        if record is not None:
            where = record["environment"]
            state += f", {where['hardware']}, torch threads: {where['threads']}"
        sys.stdout.write(f"# {cell.place}: {state}\n{cell.command}\n")


def _report(table: TableConfig, cells: CellStore) -> None:
    with cells.locked("report", wait=True):  # another command may have come to its end as well
        results = Results(table, cells)
        write_report(table, cells, draw_figures(results, cells.folder))
        write_board(results.finished, cells.folder / "tensorboard")
    sys.stdout.write(_summary(table, cells))
    sys.stdout.write(f"report          {cells.folder / 'report.md'}\n")
    sys.stdout.write(f"TensorBoard     tensorboard --logdir {cells.folder / 'tensorboard'}\n")
