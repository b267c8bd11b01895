"""Run the trials of a sweep that are left, several at a time, each in its own process."""

import signal
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from lightning_dws.sweep import study as studies
from lightning_dws.sweep.sweep_config import SweepConfig
from lightning_dws.sweep.trial_worker import TrialJob, run_trial
from lightning_dws.table.pieces import merge_pieces, settings_hash, words_of
from lightning_dws.table.processes import start_process
from lightning_dws.table.runner import Slot, device_words

OnEnd = Callable[[FrozenTrial], None]


@dataclass
class _Running:
    process: ForkServerProcess
    number: int
    slot: Slot


class SweepRunner:
    """Asks for trials and runs them.

    Args:
        config: What is searched.
        study: Its trials.
        folder: Of its results.
        devices: As in ``make_slots``.
        keep_runs: Keep the folders of finished runs.
    """

    def __init__(
        self,
        config: SweepConfig,
        study: optuna.Study,
        folder: Path,
        devices: str,
        keep_runs: bool = False,
    ) -> None:
        self._config = config
        self._study = study
        self._folder = folder
        self._devices = devices
        self._keep_runs = keep_runs

    def run(
        self, slots: Sequence[Slot], on_end: OnEnd, stop_after_seconds: float | None = None
    ) -> None:
        """Run trials until there are as many as the sweep has, or the time is over.

        On any exception (Ctrl-C) those that run are killed; they go on from their checkpoints when
        the sweep does.

        Args:
            slots: Where; one trial at a time in each.
            on_end: Called with every trial that has ended.
            stop_after_seconds: Start no further trial after so long.
        """
        free, running = deque(slots), dict[Any, _Running]()
        end = float("inf") if stop_after_seconds is None else time.monotonic() + stop_after_seconds
        try:
            while True:
                while free and time.monotonic() < end:
                    trial = studies.ask(self._study, self._config)
                    if trial is None:
                        break
                    if self._is_known(trial):
                        on_end(self._find(trial.number))
                        continue
                    started = self._start(trial, free.popleft())
                    running[started.process.sentinel] = started
                if not running:
                    break
                for sentinel in connection.wait(list(running)):
                    ended = running.pop(sentinel)
                    free.append(ended.slot)
                    self._settle(ended)
                    on_end(self._find(ended.number))
        finally:
            for left in running.values():
                left.process.kill()

    def _is_known(self, trial: Trial) -> bool:
        """Settle a trial whose options were tried before, by what came of it."""
        known = studies.find_equal(self._study, trial)
        if known is None:
            return False
        for name, value in known.user_attrs.items():
            trial.set_user_attr(name, value)
        if known.state == TrialState.COMPLETE:
            self._study.tell(trial, known.value)
        else:
            self._study.tell(trial, state=known.state)
        return True

    def _start(self, trial: Trial, slot: Slot) -> _Running:
        pieces = self._config.pieces(trial.params)
        settings = merge_pieces(pieces)
        job = TrialJob(
            config=self._config,
            folder=str(self._folder),
            number=trial.number,
            words=tuple(words_of(pieces)),
            run_folder=str(self._folder / "runs" / settings_hash(settings)),
            device_words=device_words(settings, slot, self._devices),
            num_threads=slot.num_threads,
            keep_run=self._keep_runs,
        )
        return _Running(start_process(run_trial, (job,), job.log), trial.number, slot)

    def _settle(self, ended: _Running) -> None:
        """Note the end of a process that could not do so itself."""
        ended.process.join()
        if self._find(ended.number).state != TrialState.RUNNING:
            return
        code = ended.process.exitcode or 0
        number = signal.SIGTERM if code == 128 + signal.SIGTERM else -code
        error = f"its process ended with status {code}"
        if number > 0:
            error = f"its process was ended by signal {number:d}"
        studies.tell_failure(self._study, ended.number, error, killed=number > 0)

    def _find(self, number: int) -> FrozenTrial:
        return self._study.get_trials(deepcopy=False)[number]
