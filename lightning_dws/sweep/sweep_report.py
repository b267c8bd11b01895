"""What a sweep found: its report, its picture, and the best config."""

from collections.abc import Sequence
from pathlib import Path

import optuna
import yaml
from optuna.trial import FrozenTrial, TrialState

from lightning_dws.counting import counted
from lightning_dws.figures import save_figure
from lightning_dws.files import write_atomically
from lightning_dws.sweep import study as studies
from lightning_dws.sweep.pictures import draw_sweep, score_of
from lightning_dws.sweep.study import ERROR, SECONDS, STEP, is_failed
from lightning_dws.sweep.sweep_config import SweepConfig, shown
from lightning_dws.table.pieces import command_of, merge_pieces, words_of

REPORT, BEST, FIGURE = "report.md", "best.yaml", "figures/sweep.png"


def write_results(config: SweepConfig, study: optuna.Study, folder: Path) -> FrozenTrial | None:
    """Write ``report.md``, its picture, and ``best.yaml``, which ``fit --config`` takes.

    Args:
        config: The sweep.
        study: Its trials.
        folder: Of its results.

    Returns:
        The best trial; None where none is finished.
    """
    trials = studies.counted_trials(study.get_trials(deepcopy=False))
    ranked = rank(config, trials)
    best = ranked[0] if ranked else None
    if best is not None:
        _write_best(config, best, folder)
    scored = [trial for trial in trials if trial.value is not None or trial.intermediate_values]
    drawn = [trial for trial in scored if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    if drawn:
        save_figure(draw_sweep(config, drawn), folder / FIGURE)
    text = _report(config, trials, ranked, bool(drawn))
    write_atomically(folder / REPORT, text.encode())
    return best


def rank(config: SweepConfig, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Give the finished trials, the best first."""
    sign = -1 if config.task.mode == "max" else 1
    finished = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    return sorted(finished, key=lambda trial: sign * score_of(trial))


def format_score(config: SweepConfig, score: float) -> str:
    """Write a score for people: a share in %."""
    return f"{100 * score:.2f} %" if config.task.in_percent else f"{score:.4g}"


def describe_end(config: SweepConfig, trial: FrozenTrial) -> str:
    """Say how a trial ended."""
    if trial.state == TrialState.COMPLETE:
        return format_score(config, score_of(trial))
    if trial.state == TrialState.PRUNED:
        step = max(trial.intermediate_values)
        return f"ended early at step {step}, {format_score(config, score_of(trial))}"
    return f"FAILED: {trial.user_attrs.get(ERROR, 'unknown')}"


def _write_best(config: SweepConfig, best: FrozenTrial, folder: Path) -> None:
    found = format_score(config, score_of(best))
    lines = (
        f"# python main.py fit --config {folder / BEST}",
        f"# Trial {best.number} of the sweep {config.name}: {config.monitor} {found}",
        yaml.safe_dump(merge_pieces(config.pieces(best.params)), sort_keys=False),
    )
    write_atomically(folder / BEST, "\n".join(lines).encode())


def _report(
    config: SweepConfig, trials: list[FrozenTrial], ranked: list[FrozenTrial], drawn: bool
) -> str:
    names = list(config.space.axes)
    ended_early = [trial for trial in trials if trial.state == TrialState.PRUNED]
    failed = [trial for trial in trials if is_failed(trial)]
    sampler = config.sampler
    if sampler == "tpe":
        sampler += f" after {config.startup_trials} random ones"
    lines = [
        f"# Sweep {config.name}",
        "",
        f"{len(trials)} of {counted(config.trials, 'trial')}: {len(ranked)} finished, "
        f"{len(ended_early)} ended early, {len(failed)} failed. Judged by the best "
        f"{config.monitor} of a run; nothing was tested. Sampler: {sampler}, seed {config.seed}.",
        "",
    ]
    if ranked:
        command = command_of(words_of(config.pieces(ranked[0].params)))
        found = format_score(config, score_of(ranked[0]))
        lines += [f"Best: trial {ranked[0].number}, {found}. `{BEST}` is its config:", ""]
        lines += ["```", command, "```", ""]
    if drawn:
        lines += [f"![Scores of the trials]({FIGURE})", ""]
    heads = ["trial", *map(config.short, names), config.monitor, "at step", "seconds"]
    lines += [_row(heads), _row(["---"] * len(heads))]
    for trial in [*ranked, *ended_early]:
        values = [shown(trial.params[name]) for name in names]
        notes = [str(trial.user_attrs.get(name, "")) for name in (STEP, SECONDS)]
        lines.append(_row([str(trial.number), *values, describe_end(config, trial), *notes]))
    if failed:
        lines += ["", "Failed:", ""]
        lines += [
            f"- trial {t.number} ({config.describe(t.params)}): {t.user_attrs.get(ERROR)}"
            for t in failed
        ]
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
