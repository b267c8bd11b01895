"""The report's pictures: gains as bars, and how training and held-out loss part."""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from lightning_dws.counting import counted
from lightning_dws.figures import save_chart
from lightning_dws.table.results import BASELINE, Entry, Results
from lightning_dws.table.table_score import TableScore
from lightning_dws.tasks import DEFAULT_TASK

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_FILE_NAMES = {"accuracy": "accuracies"}  # of pictures of a score, where it is another


def draw_figures(results: Results, folder: Path) -> list[str]:
    """Draw what the cells on disk allow.

    Args:
        results: The cells.
        folder: Of the report; the pictures are in its folder ``figures``.

    Returns:
        Their names, relative to the folder.
    """
    drawn = []
    kinds: dict[str, Callable[[Results], Figure | None]] = {
        _FILE_NAMES.get(score.name, score.name): partial(_draw_scores, score=score)
        for score in results.scores.values()
    }
    kinds |= {"gains": _draw_gains, "overfitting": _draw_overfitting}
    for name, draw in kinds.items():
        figure = draw(results)
        if figure is not None:
            save_chart(figure, folder / "figures" / f"{name}.png")
            drawn.append(f"figures/{name}.png")
    return drawn


def _places(results: Results) -> list[tuple[str, str]]:
    """Give the datasets and models of which any cell is finished."""
    finished = {(place.dataset, place.model) for place in results.finished}
    table = results.table
    return [(d, m) for d in table.datasets for m in table.models if (d, m) in finished]


def _make_axes(places: list[tuple[str, str]], height: float) -> "tuple[Figure, list[Axes]]":
    """Make a panel for each dataset and model: in one row, or one row for each dataset."""
    from matplotlib.figure import Figure

    datasets = list(dict.fromkeys(dataset for dataset, _ in places))
    columns = max(sum(name == dataset for name, _ in places) for dataset in datasets)
    figure = Figure(figsize=(1.5 + 4.2 * columns, height * len(datasets)), layout="constrained")
    grid = figure.subplots(len(datasets), columns, squeeze=False)
    axes = []
    for row, name in zip(grid, datasets, strict=True):
        models = [model for dataset, model in places if dataset == name]
        for axis, model in zip(row, models, strict=False):
            axis.set_title(f"{model} on {name}")
            axes.append(axis)
        for axis in row[len(models) :]:
            axis.set_visible(False)
    return figure, axes


def _draw_scores(results: Results, score: TableScore) -> "Figure | None":
    """Draw a score of all rows by dataset, where there are several: a panel for each model."""
    table = results.table
    places = [place for place in _places(results) if results.scores[place] == score]
    datasets = [name for name in table.datasets if any(name == dataset for dataset, _ in places)]
    if len(datasets) < 2:
        return None
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    models = [name for name in table.models if any(name == model for _, model in places)]
    views, thickness = table.views[0], 0.8 / len(table.augmentations)
    figure = Figure(
        figsize=(2 + 3.5 * len(models), 1.5 + 0.9 * len(datasets)), layout="constrained"
    )
    all_axes = figure.subplots(1, len(models), squeeze=False, sharex=True, sharey=True)[0]
    for axes, model in zip(all_axes, models, strict=True):
        for number, row in enumerate(table.augmentations):
            entries = [Entry(row, model, dataset, views) for dataset in datasets]
            known = [
                results.figure(entry) if (entry.dataset, model) in places else None
                for entry in entries
            ]
            found = [(place, figures) for place, figures in enumerate(known) if figures is not None]
            axes.barh(
                [place + (number + 0.5) * thickness - 0.4 for place, _ in found],
                [mean for _, (mean, _) in found],
                xerr=[std or 0.0 for _, (_, std) in found],
                height=thickness * 0.9,
                color=f"C{number}",
            )
        axes.set_title(model)
        axes.set_xlabel(f"test {score.kind.words}{' (%)' if score.kind.in_percent else ''}")
        axes.set_yticks(range(len(datasets)), datasets)
        axes.set_ylim(len(datasets) - 0.4, -0.6)
    colors = [
        Patch(color=f"C{number}", label=row) for number, row in enumerate(table.augmentations)
    ]
    figure.legend(handles=colors, loc="outside right upper", fontsize=8)
    return figure


def _draw_gains(results: Results) -> "Figure | None":
    rows = [name for name in results.table.augmentations if name != BASELINE]
    places = [place for place in _places(results) if _any_gain(results, rows, place)]
    if not places:
        return None
    views = [
        count
        for count in results.table.views
        if any(results.gain(Entry(row, m, d, count)) for d, m in places for row in rows)
    ]
    figure, all_axes = _make_axes(places, 1.2 + 0.2 * len(rows) * (len(views) + 0.5))
    thickness = 0.8 / len(views)
    leftmost = dict(reversed(places))
    for axes, (dataset, model) in zip(all_axes, places, strict=True):
        for number, count in enumerate(views):
            gains = [results.gain(Entry(row, model, dataset, count)) for row in rows]
            found = [(place, gain) for place, gain in enumerate(gains) if gain is not None]
            if not found:  # no bar, and so no colour in the legend
                continue
            axes.barh(
                [place + (number + 0.5) * thickness - 0.4 for place, _ in found],
                [gain.value for _, gain in found],
                height=thickness * 0.9,
                color=f"C{results.table.views.index(count)}",
                label=counted(count, "view"),
                xerr=[
                    [_reach(gain.value - gain.low) for _, gain in found],
                    [_reach(gain.high - gain.value) for _, gain in found],
                ],
                error_kw={"linewidth": 1, "capsize": 2},
            )
        axes.axvline(0, color="black", linewidth=0.8)
        axes.set_yticks(range(len(rows)), rows if leftmost[dataset] == model else [])
        axes.set_ylim(len(rows) - 0.4, -0.6)  # the same in every panel, whatever has been run
        kind = results.scores[dataset, model].kind
        unit = "points" if kind.in_percent else kind.words
        axes.set_xlabel(f"gain over no augmentation ({unit}, 95 % interval)")
    _add_legend(figure, all_axes)
    return figure


def _add_legend(figure: "Figure", all_axes: "list[Axes]") -> None:
    """Explain all panels' colours below them, where no bar and no curve is."""
    handles: dict[str, Artist] = {}
    for axes in all_axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(str(label), handle)
    figure.legend(
        list(handles.values()), list(handles), loc="outside lower center", ncols=2, fontsize=8
    )


def _reach(length: float) -> float:
    """Give the length of an interval's half; one without bounds is not drawn."""
    return max(0.0, length) if math.isfinite(length) else 0.0


def _any_gain(results: Results, rows: list[str], place: tuple[str, str]) -> bool:
    dataset, model = place
    entries = (Entry(r, model, dataset, v) for r in rows for v in results.table.views)
    return any(results.gain(entry) is not None for entry in entries)


def _draw_overfitting(results: Results) -> "Figure | None":
    """Draw training and held-out loss without augmentation, averaged over the seeds."""
    curves = {
        place: [
            (views, curve)
            for views in results.table.views
            if (curve := _mean_curves(results, place, views)) is not None
        ]
        for place in _places(results)
    }
    curves = {place: own for place, own in curves.items() if own}
    if not curves:
        return None
    figure, all_axes = _make_axes(list(curves), 3.6)
    for axes, own in zip(all_axes, curves.values(), strict=True):
        for number, (views, (steps, train, held_out)) in enumerate(own):
            color, name = f"C{number}", counted(views, "view")
            axes.plot(steps, train, "--", color=color, label=f"{name}, training")
            axes.plot(steps, held_out, "-", color=color, label=f"{name}, held out (validation)")
        axes.set_xlabel("optimizer step")
    classified = all(results.scores[place].task == DEFAULT_TASK.task_name() for place in curves)
    loss = "cross-entropy" if classified else "loss"
    all_axes[0].set_ylabel(f"{loss}, no augmentation")
    all_axes[0].legend(fontsize=8)
    return figure


def _mean_curves(
    results: Results, place: tuple[str, str], views: int
) -> tuple[list[float], list[float], list[float]] | None:
    dataset, model = place
    runs = results.runs(Entry(BASELINE, model, dataset, views)).values()
    histories = [record["history"] for record in runs]
    if not histories or any(h["step"] != histories[0]["step"] for h in histories):
        return None
    if all(value is None for history in histories for value in history["val_loss"]):
        return None  # what the task measures in validation is no loss
    train, held_out = (
        [_mean(values) for values in zip(*(h[name] for h in histories), strict=True)]
        for name in ("train_loss", "val_loss")
    )
    return histories[0]["step"], train, held_out


def _mean(values: tuple[float | None, ...]) -> float:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else float("nan")
