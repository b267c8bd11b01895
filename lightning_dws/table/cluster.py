"""Run cells as SLURM jobs, one each, through submitit."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_dws.errors import DataError
from lightning_dws.table.processes import redirect_output
from lightning_dws.table.worker import KILLED, CellJob, record_lost, run_cell

if TYPE_CHECKING:
    import submitit


_LONGEST_REASON = 200  # characters of what submitit says


class ClusterJob:
    """A cell as submitit runs it: a job that is preempted is queued again, and continues."""

    def __call__(self, job: CellJob) -> None:
        """Run the cell; submitit's own log keeps what goes before and after."""
        redirect_output(job.log)
        run_cell(job)

    def checkpoint(self, job: CellJob) -> "submitit.helpers.DelayedSubmission":
        """Tell submitit what to queue when the job is stopped before its end."""
        import submitit

        return submitit.helpers.DelayedSubmission(self, job)


def run_on_cluster(
    jobs: Sequence[CellJob],
    folder: Path,
    options: Mapping[str, Any],
    on_end: Callable[[CellJob], None],
) -> None:
    """Submit a job array with one cell each, and wait for it.

    When this process ends, the jobs go on; the same command later submits what is left and is in
    no other process's hands.

    Args:
        jobs: What to run.
        folder: For submitit's own files, on a file system that all hosts share.
        options: Parameters of ``submitit.AutoExecutor``, e.g. ``slurm_partition``; besides,
            ``cluster``: ``slurm``, or ``local`` to try it without.
        on_end: Called with every job that has ended.

    Raises:
        DataError: submitit is not installed, or does not accept the options.
    """
    try:
        import submitit
    except ImportError as error:
        raise DataError(
            "--slurm needs submitit: python -m pip install 'lightning-dws[slurm]'"
        ) from error
    parameters = {"name": "lightning_dws", "timeout_min": 240, **options}
    cluster = parameters.pop("cluster", "slurm")
    try:
        executor = submitit.AutoExecutor(folder, cluster=cluster)
        executor.update_parameters(**parameters)
        cells = [replace(job, num_threads=parameters.get("cpus_per_task")) for job in jobs]
        submitted = executor.map_array(ClusterJob(), cells)
    except (RuntimeError, NameError, TypeError, ValueError, OSError) as error:
        raise DataError(f"--slurm: {' '.join(str(error).split())}") from error
    started = time.monotonic()
    for job, handle in zip(jobs, submitted, strict=True):
        try:
            handle.result()  # what a cell raises is in its file already
        except (
            submitit.core.utils.UncompletedJobError,
            submitit.core.utils.FailedJobError,
        ) as error:
            reason = " ".join(str(error).split())[:_LONGEST_REASON]
            record_lost(job, f"{KILLED}: {reason}", time.monotonic() - started)
        on_end(job)
