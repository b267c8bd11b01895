"""Run one trial in this process, and tell its outcome to the sweep's study."""

import shutil
import signal
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import torch
from optuna.trial import Trial, TrialState
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.cli import LightningCLI
from pytorch_lightning.utilities.exceptions import SIGTERMException

from lightning_dws.callbacks import BestCheckpoints
from lightning_dws.lightning_cli import WeightSpaceCLI, run_lightning
from lightning_dws.plugins import with_plugins
from lightning_dws.sweep.study import SECONDS, STEP, as_trial, open_study, tell_failure
from lightning_dws.sweep.sweep_config import SweepConfig
from lightning_dws.sweep.trial_recorder import TrialRecorder
from lightning_dws.table.worker import (
    clear_if_unreadable,
    error_line,
    last_at_validation,
    quiet_words,
)


@dataclass(frozen=True)
class TrialJob:
    """All that a process needs to run a trial.

    Attributes:
        config: Of the sweep.
        folder: Of its results.
        number: The trial's in the study.
        words: What stands behind ``python main.py fit`` to run it alone.
        run_folder: Where it keeps checkpoints and its log, until it is finished.
        device_words: Words of ``fit`` that say where it runs.
        num_threads: Of torch; None leaves them.
        keep_run: Keep the run's folder when it is finished.
    """

    config: SweepConfig
    folder: str
    number: int
    words: tuple[str, ...]
    run_folder: str
    device_words: tuple[str, ...] = ()
    num_threads: int | None = None
    keep_run: bool = False

    @property
    def log(self) -> Path:
        """The file that takes what the run prints."""
        return Path(self.run_folder) / "log.txt"


class TrialCLI(WeightSpaceCLI):
    """The command line of a single run that reports its scores; nothing is tested or drawn."""

    recorder: TrialRecorder
    trial: Trial

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[Callback]) -> Trainer:
        kind = self._model_class
        self.recorder = TrialRecorder(f"val/{kind.score}", kind.mode, self._report_score)
        best = [callback for callback in callbacks if isinstance(callback, ModelCheckpoint)]
        last = last_at_validation(self.config_init[self.subcommand].checkpoint.dirpath)
        ours = [self.recorder, BestCheckpoints(), *best, last]
        return LightningCLI._instantiate_trainer(self, with_plugins(config), ours)

    def _report_score(self, step: int, score: float) -> bool:
        self.trial.report(score, step)
        return self.trial.should_prune()

    def _find_run(self) -> None:
        """Make no folder of a run: the sweep says where a trial's files are."""

    def _report(self, best: str | None) -> None:
        """Say nothing: the sweep's own command does."""


def run_trial(job: TrialJob) -> None:
    """Run a trial to its end. Whatever goes wrong is noted in the study."""
    study = open_study(job.config, Path(job.folder))
    folder = Path(job.run_folder)
    started = time.perf_counter()
    try:
        recorder = _train(job, study, folder)
        step, score = recorder.best()
    except SIGTERMException:  # Lightning's: not the trial's failure
        sys.exit(128 + signal.SIGTERM)
    except (Exception, SystemExit) as error:  # one trial's failure does not end the sweep
        traceback.print_exc()
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        tell_failure(study, job.number, error_line(error, job.log))
        return
    trial = as_trial(study, job.number)
    trial.set_user_attr(SECONDS, round(time.perf_counter() - started, 1))
    trial.set_user_attr(STEP, step)
    if recorder.is_pruned:
        study.tell(job.number, state=TrialState.PRUNED)
    else:
        study.tell(job.number, score)
    if not job.keep_run:
        shutil.rmtree(folder, ignore_errors=True)


def _train(job: TrialJob, study: optuna.Study, folder: Path) -> TrialRecorder:
    clear_if_unreadable(folder)
    if job.num_threads:
        torch.set_num_threads(job.num_threads)
    TrialCLI.trial = as_trial(study, job.number)
    words = [*quiet_words([*job.words, *job.device_words], folder), "--test_after_fit=false"]
    return run_lightning(words, TrialCLI, save_config_callback=None).recorder
