"""The trials of a sweep on disk: Optuna's study in a journal, a text file of the sweep's folder.

A trial that was asked for is open until its outcome is told. What a process that was killed left
open is asked for again, with the same options, by the sweep that goes on.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.pruners import BasePruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState

from lightning_dws.errors import DataError
from lightning_dws.files import make_directory
from lightning_dws.randomness import stream_seed
from lightning_dws.sweep.sweep_config import SweepConfig

JOURNAL = "journal.log"
ERROR, KILLED, SECONDS, STEP = "error", "killed", "seconds", "step"  # what is noted of a trial
_FINGERPRINT = "fingerprint"
_FIXED = "fixed_params"  # Optuna's note of a trial that is asked for again
_FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)


def open_study(config: SweepConfig, folder: Path) -> optuna.Study:
    """Open a sweep's study, or begin it.

    Raises:
        DataError: The folder holds the trials of another sweep, or its journal cannot be read.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path = make_directory(folder) / JOURNAL
    try:
        storage = JournalStorage(JournalFileBackend(str(path)))
        if any(known.study_name == config.name for known in storage.get_all_studies()):
            study = optuna.load_study(study_name=config.name, storage=storage)
        else:
            study = optuna.create_study(
                storage=storage,
                study_name=config.name,
                direction="maximize" if config.task.mode == "max" else "minimize",
            )
        study.pruner = _pruner(config)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: not a sweep's journal ({type(error).__name__}: {error})"
        ) from error
    known = study.user_attrs.get(_FINGERPRINT)
    if known is None:
        study.set_user_attr(_FINGERPRINT, config.fingerprint)
    elif known != config.fingerprint:
        raise DataError(
            f"{folder}: holds trials of another base, space, sampler or score than {config.name} "
            "has now; give it another name, or delete the folder"
        )
    return study


def _pruner(config: SweepConfig) -> BasePruner:
    if config.pruning is None:
        return NopPruner()
    return MedianPruner(config.pruning["startup_trials"], config.pruning["warmup_steps"])


def _sampler(config: SweepConfig, number: int) -> BaseSampler:
    """Make a sampler for one trial: it draws the same whether the sweep was interrupted or not."""
    seed = stream_seed(config.seed, 0, number, "sweep") % 2**32
    if config.sampler == "random":
        return RandomSampler(seed=seed)
    return TPESampler(seed=seed, n_startup_trials=config.startup_trials)


def settle_lost(study: optuna.Study) -> None:
    """Note that the processes of open trials are gone; none of them runs any more."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        tell_failure(study, trial.number, "its process was killed", killed=True)


def tell_failure(study: optuna.Study, number: int, error: str, *, killed: bool = False) -> None:
    """End a trial without a score.

    Args:
        study: Of the sweep.
        number: The trial's.
        error: In one line.
        killed: Whether it was no fault of its own: such a trial is run again.
    """
    trial = as_trial(study, number)
    trial.set_user_attr(ERROR, error)
    trial.set_user_attr(KILLED, killed)
    study.tell(number, state=TrialState.FAIL)


def as_trial(study: optuna.Study, number: int) -> Trial:
    """Give an open trial by its number."""
    [found] = [trial for trial in study.get_trials(deepcopy=False) if trial.number == number]
    return Trial(study, found._trial_id)


def ask_again(study: optuna.Study, *, failed: bool) -> None:
    """Ask for trials again that were killed.

    Args:
        study: Of the sweep.
        failed: Also for those that failed by themselves.
    """
    trials = study.get_trials(deepcopy=False)
    for trial in trials:
        lost = was_killed(trial) or (failed and is_failed(trial))
        if lost and trial.params and not _has_later(trial, trials):
            study.enqueue_trial(dict(trial.params))


def ask(study: optuna.Study, config: SweepConfig) -> Trial | None:
    """Give the next trial to run; None where there are as many as the sweep has."""
    trials = study.get_trials(deepcopy=False)
    waits = any(trial.state == TrialState.WAITING for trial in trials)
    if not waits and len(counted_trials(trials)) >= config.trials:
        return None
    num_drawn = sum(_FIXED not in trial.system_attrs for trial in trials)
    study.sampler = _sampler(config, num_drawn)
    return study.ask(config.space.distributions)


def counted_trials(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Give the trials that a sweep's number of trials counts.

    Not those that wait or were killed, nor those that failed and were run again.
    """
    begun = [t for t in trials if t.state != TrialState.WAITING and not was_killed(t)]
    return [trial for trial in begun if not (is_failed(trial) and _has_later(trial, begun))]


def _has_later(trial: FrozenTrial, trials: Iterable[FrozenTrial]) -> bool:
    return any(t.number > trial.number and _params_of(t) == trial.params for t in trials)


def find_equal(study: optuna.Study, trial: Trial) -> FrozenTrial | None:
    """Find a finished trial of the same options: its run would be the same again."""
    return next(
        (
            other
            for other in study.get_trials(deepcopy=False, states=_FINISHED)
            if other.params == trial.params
        ),
        None,
    )


def was_killed(trial: FrozenTrial) -> bool:
    """Whether a trial's process was ended from outside."""
    return trial.state == TrialState.FAIL and bool(trial.user_attrs.get(KILLED))


def is_failed(trial: FrozenTrial) -> bool:
    """Whether a trial failed by itself."""
    return trial.state == TrialState.FAIL and not trial.user_attrs.get(KILLED)


def _params_of(trial: FrozenTrial) -> dict[str, Any]:
    """Give a trial's options, also of one that waits."""
    return trial.params or trial.system_attrs.get(_FIXED, {})
