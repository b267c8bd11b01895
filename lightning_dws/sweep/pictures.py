"""A sweep drawn: the scores of its trials, one after another and over each option."""

from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

from optuna.trial import FrozenTrial, TrialState

from lightning_dws.figures import new_figure
from lightning_dws.sweep.space import Axis
from lightning_dws.sweep.sweep_config import SweepConfig, shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMNS = 3
_MARGIN = 0.05  # beyond the bounds of an axis, as a share of it
_COLOURS = {TrialState.COMPLETE: "tab:blue", TrialState.PRUNED: "lightgrey"}


def draw_sweep(config: SweepConfig, trials: Sequence[FrozenTrial]) -> "Figure":
    """Draw the scores of trials over their numbers, with the best so far, and over each option.

    Args:
        config: The sweep.
        trials: With a score, the last one of those that were ended early.
    """
    from matplotlib.ticker import AutoLocator, MaxNLocator, NullFormatter

    panels = 1 + len(config.space.axes)
    columns = min(panels, _COLUMNS)
    figure, grid = new_figure(-(-panels // columns), columns, cell=3.4)
    axes = list(grid.flat)[:panels]
    for axis in axes:
        axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axis.yaxis.set_major_locator(AutoLocator())
        axis.spines[["left", "bottom"]].set_visible(True)
        axis.set_ylabel(config.monitor)
    numbers = [float(trial.number) for trial in trials]
    _scatter(axes[0], numbers, trials)
    axes[0].set_xlabel("trial")
    finished = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    choose = max if config.task.mode == "max" else min
    best = list(accumulate((score_of(trial) for trial in finished), choose))
    axes[0].step([t.number for t in finished], best, where="post", color="tab:orange")
    for axis, (name, part) in zip(axes[1:], config.space.axes.items(), strict=True):
        axis.set_xlabel(config.short(name))
        if part.kind == "choice":
            places = [float(part.labels.index(trial.params[name])) for trial in trials]
            axis.set_xticks(range(len(part.labels)), [shown(label) for label in part.labels])
            axis.set_xlim(-0.5, len(part.labels) - 0.5)
        else:
            places = [float(trial.params[name]) for trial in trials]
            if part.is_log:
                axis.set_xscale("log")
                axis.xaxis.set_minor_formatter(NullFormatter())
            elif part.kind != "int":
                axis.xaxis.set_major_locator(AutoLocator())
            axis.set_xlim(*_with_margin(part))
        _scatter(axis, places, trials)
    return figure


def score_of(trial: FrozenTrial) -> float:
    """Give a trial's score; of one that was ended early, the last one."""
    if trial.value is not None:
        return trial.value
    return trial.intermediate_values[max(trial.intermediate_values)]


def _scatter(axis: "Axes", places: list[float], trials: Sequence[FrozenTrial]) -> None:
    colours = [_COLOURS[trial.state] for trial in trials]
    axis.scatter(places, [score_of(trial) for trial in trials], c=colours, s=18)


def _with_margin(axis: Axis) -> tuple[float, float]:
    low, high = (float(value) for value in axis.values)
    if axis.is_log:
        margin = (high / low) ** _MARGIN
        return low / margin, high * margin
    margin = _MARGIN * (high - low)
    return low - margin, high + margin
