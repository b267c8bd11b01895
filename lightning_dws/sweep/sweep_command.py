"""The command ``sweep``."""

import sys
from collections.abc import Sequence
from pathlib import Path

import optuna
from jsonargparse.typing import NonNegativeInt, PositiveFloat, PositiveInt
from optuna.trial import FrozenTrial, TrialState

from lightning_dws.counting import counted
from lightning_dws.errors import DataError
from lightning_dws.parse_errors import ArgumentParser
from lightning_dws.program import program
from lightning_dws.sweep import study as studies
from lightning_dws.sweep.option_trial import check_space
from lightning_dws.sweep.sweep_config import SweepConfig, read_sweep
from lightning_dws.sweep.sweep_report import (
    BEST,
    REPORT,
    describe_end,
    format_score,
    write_results,
)
from lightning_dws.sweep.sweep_runner import SweepRunner
from lightning_dws.table.cells import CellStore
from lightning_dws.table.runner import make_slots


def run_sweep(args: Sequence[str]) -> None:
    """Run the command that the words behind ``sweep`` say.

    Raises:
        DataError: The sweep cannot be read or run, or no trial of it finished.
    """
    parser = _parser()
    options = parser.parse_args(list(args))
    if options.config is None:
        parser.error("sweep needs --config FILE, such as conf/sweep/digits_dws.yaml")
    config = read_sweep(options.config, options.trials)
    try:
        slots = make_slots(options.jobs, options.devices)
    except ValueError as error:
        parser.error(str(error))
    if not options.report_only:
        check_space(config)
    folder = Path(options.results_root) / config.name
    study = studies.open_study(config, folder)
    with CellStore(folder).locked("sweep") as mine:
        if not mine:
            raise DataError(f"{folder}: another process runs this sweep; give that one more --jobs")
        try:
            if not options.report_only:
                studies.settle_lost(study)
                studies.ask_again(study, failed=options.retry_failed)
                _tell_begin(config, study)
                runner = SweepRunner(config, study, folder, options.devices, options.keep_runs)
                seconds = None if options.max_hours is None else 3600 * options.max_hours
                runner.run(slots, _Progress(config, study), seconds)
        except KeyboardInterrupt:
            sys.stderr.write("\nstopped; the same command continues where this one was\n")
            sys.exit(130)
        best = write_results(config, study, folder)
    _tell_end(config, study, folder, best)


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog=f"{program()} sweep",
        description="Search for the options of 'fit' with the best validation score, by Optuna. "
        "The same command goes on where one was interrupted.",
    )
    parser.add_argument("--config", type=str | None, default=None, help="the sweep's file")
    parser.add_argument(
        "--trials",
        type=PositiveInt | None,
        default=None,
        help="how many, those before included (default: as the file says)",
    )
    parser.add_argument(
        "--jobs",
        type=NonNegativeInt,
        default=0,
        help="trials at a time, which share the cores (default: one, or one for each GPU)",
    )
    parser.add_argument(
        "--devices", type=str, default="auto", help="auto, cpu, or numbers of GPUs such as 0,1"
    )
    parser.add_argument(
        "--max_hours", type=PositiveFloat | None, default=None, help="then start no further trial"
    )
    for name, text in (
        ("retry_failed", "run trials again that have failed"),
        ("report_only", "write the report of the trials so far, and run nothing"),
        ("keep_runs", "keep checkpoints of finished trials"),
    ):
        parser.add_argument(f"--{name}", action="store_true", help=text)
    parser.add_argument("--results_root", type=str, default="results", help="folder of sweeps")
    return parser


class _Progress:
    """Write a line for every trial that ends."""

    def __init__(self, config: SweepConfig, study: optuna.Study) -> None:
        self._config, self._study = config, study

    def __call__(self, trial: FrozenTrial) -> None:
        config = self._config
        begun = studies.counted_trials(self._study.get_trials(deepcopy=False))
        ended = sum(other.state != TrialState.RUNNING for other in begun)
        sys.stdout.write(
            f"[{ended}/{config.trials}] trial {trial.number}: {describe_end(config, trial)} "
            f"({config.describe(trial.params)})\n"
        )
        sys.stdout.flush()


def _tell_begin(config: SweepConfig, study: optuna.Study) -> None:
    ended = len(studies.counted_trials(study.get_trials(deepcopy=False)))
    left = max(0, config.trials - ended)
    trials = counted(config.trials, "trial")
    sys.stdout.write(f"{config.name}: {trials}, {ended} ended, {left} to run\n")


def _tell_end(
    config: SweepConfig, study: optuna.Study, folder: Path, best: FrozenTrial | None
) -> None:
    sys.stdout.write(f"report          {folder / REPORT}\n")
    if best is not None and best.value is not None:
        score = format_score(config, best.value)
        sys.stdout.write(
            f"best            trial {best.number}: {config.monitor} {score} "
            f"({config.describe(best.params)})\n"
            f"its config      {program()} fit --config {folder / BEST}\n"
        )
        return
    failed = study.get_trials(deepcopy=False, states=(TrialState.FAIL,))
    if failed:
        error = failed[0].user_attrs.get(studies.ERROR)
        raise DataError(f"{config.name}: no trial finished; the first one failed: {error}")
