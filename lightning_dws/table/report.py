"""The report: what the cells on disk say, as Markdown and CSV. Nothing else is ever shown."""

import csv
import io
import math
from collections.abc import Iterable
from typing import Any

from lightning_dws.counting import counted
from lightning_dws.files import write_atomically
from lightning_dws.table.cells import CellStore
from lightning_dws.table.claims import MARGIN, examine_claims
from lightning_dws.table.grid import Coordinates, TableConfig
from lightning_dws.table.method import describe_method
from lightning_dws.table.results import BASELINE, Entry, Results
from lightning_dws.table.statistics import Estimate, rank_correlation
from lightning_dws.table.table_score import TableScore


def write_report(table: TableConfig, cells: CellStore, figures: Iterable[str] = ()) -> None:
    """Write ``report.md`` and ``results.csv`` from the cells on disk.

    Args:
        table: Whose cells.
        cells: The disk.
        figures: Names of pictures in the report's folder, to be shown in it.
    """
    results = Results(table, cells)
    parts = [
        f"# {table.name}",
        _state(results),
        describe_method(_distinct(results.scores.values())),
        *(f"![{name}]({name})" for name in figures),
        *_claims(results),
    ]
    for dataset in table.datasets:
        for model in table.models:
            parts += _grid(results, dataset, model)
    parts += [*_correlations(results), *_conditions(results), *_problems(results)]
    cells.folder.mkdir(parents=True, exist_ok=True)
    text = "\n\n".join(part for part in parts if part) + "\n"
    write_atomically(cells.folder / "report.md", text.encode())
    write_atomically(cells.folder / "results.csv", _csv(results).encode())


def _state(results: Results) -> str:
    total, finished, failed = len(results.records), len(results.finished), len(results.failed)
    left = total - finished - failed
    cells = counted(total, "cell")
    state = counted(finished, f"of {cells} is finished", f"of {cells} are finished")
    if failed:
        state += f", {failed} failed"
    not_run = counted(left, "has not run", "have not run")
    return f"{state}, {not_run}." if left else f"{state}."


def _grid(results: Results, dataset: str, model: str) -> list[str]:
    """Write the table of one model on one dataset."""
    columns = [Entry(BASELINE, model, dataset, views) for views in results.table.views]
    augmentations = results.table.rows_of(model)
    header, ours = ["augmentation"], f"{model} on {dataset}"
    rows = [[name] for name in augmentations]
    for column in columns:
        views, best = counted(column.views, "view"), _best(results, column)
        score = results.score(column).kind.words
        entries = [column.in_row(name) for name in augmentations]
        header += [f"{views}: {score}", f"{views}: gain"]
        figures = [[_figure(results, e, best), _gain(results, e)] for e in entries]
        posters = [results.poster(entry) for entry in entries]
        if any(posters):
            header.append(f"{views}: poster, {results.table.poster[dataset]}")
            for own, poster in zip(figures, posters, strict=True):
                own.append(format_figure(poster) or "not on it")
        for row, own in zip(rows, figures, strict=True):
            row += own
    return [f"## {ours}", markdown_table(header, rows)]


def _best(results: Results, column: Entry) -> float | None:
    figures = [results.figure(column.in_row(name)) for name in results.table.augmentations]
    return results.score(column).best(figure[0] for figure in figures if figure is not None)


def _figure(results: Results, entry: Entry, best: float | None) -> str:
    figure = results.figure(entry)
    num_seeds, found, failed = (
        len(results.table.seeds),
        len(results.runs(entry)),
        results.num_failed(entry),
    )
    notes = []
    if found < num_seeds and found:
        notes.append(f"{found} of {counted(num_seeds, 'seed')}")
    if failed:
        notes.append(f"{failed} failed")
    if undefined := results.num_undefined(entry):
        notes.append(f"{undefined} undefined")
    if figure is None:
        return ", ".join(notes) or "not run"
    text = format_figure(figure, results.decimals(entry))
    text = f"**{text}**" if figure[0] == best else text
    return f"{text} ({', '.join(notes)})" if notes else text


def _gain(results: Results, entry: Entry) -> str:
    gain = results.gain(entry)
    if gain is None:
        return ""
    text = format_estimate(gain, results.decimals(entry))
    if gain.num_seeds < len(results.runs(entry)):  # the others have no run to compare with
        text += f" ({gain.num_seeds} of {counted(len(results.table.seeds), 'seed')})"
    return text


def format_figure(figure: tuple[float, float | None] | None, decimals: int = 1) -> str:
    """Write mean and standard deviation.

    Example:
        >>> format_figure((76.04, 1.2)), format_figure((76.04, None), 2), format_figure(None)
        ('76.0 ± 1.2', '76.04', '')
    """
    if figure is None:
        return ""
    mean, std = figure
    text = f"{mean:.{decimals}f}"
    return text if std is None else f"{text} ± {std:.{decimals}f}"


def format_estimate(estimate: Estimate, decimals: int = 1) -> str:
    """Write a difference and its interval, if it has one.

    Example:
        >>> format_estimate(Estimate(1.25, -0.5, 3.0, 3))
        '+1.2 [-0.5, +3.0]'
        >>> format_estimate(Estimate(0.125, -math.inf, math.inf, 1), decimals=3)
        '+0.125'
    """
    value, low, high = (f"{x:+.{decimals}f}" for x in (estimate.value, estimate.low, estimate.high))
    return f"{value} [{low}, {high}]" if math.isfinite(estimate.low) else value


def markdown_table(header: list[str], rows: list[list[str]]) -> str:
    """Write a table in Markdown."""
    safe = [[text.replace("|", "\\|") for text in row] for row in (header, *rows)]
    lines = [f"| {' | '.join(row)} |" for row in safe]
    return "\n".join([lines[0], "| --- " * len(header) + "|", *lines[1:]])


def _claims(results: Results) -> list[str]:
    findings = examine_claims(results)
    if not findings:
        return []
    rows = [
        [
            finding.claim.text,
            finding.dataset,
            finding.columns,
            format_estimate(finding.estimate, finding.decimals),
            str(finding.estimate.num_seeds),
            finding.verdict,
        ]
        for finding in findings
    ]
    header = ["claim", "dataset", "model, views", "difference", "seeds", "verdict"]
    note = (
        "*Shown* or *contradicted*: zero is outside of the interval, on the claim's side or on the "
        "other; one seed decides nothing. *Does not hurt* is shown where less than "
        f"{MARGIN:g} point may be lost, contradicted where more is. *all* is the mean over the "
        "models and views below it."
    )
    return ["## The claims", markdown_table(header, rows), note]


def _correlations(results: Results) -> list[str]:
    rows = []
    for column in _columns(results):
        known = [
            (figure[0], poster[0])
            for name in results.table.augmentations
            if (figure := results.figure(column.in_row(name))) is not None
            and (poster := results.poster(column.in_row(name))) is not None
        ]
        correlation = rank_correlation(*zip(*known, strict=True)) if known else None
        if correlation is not None:
            place = [column.dataset, column.model, counted(column.views, "view")]
            rows.append([*place, str(len(known)), *(f"{value:.2f}" for value in correlation)])
    if not rows:
        return []
    header = ["dataset", "model", "views", "rows", "Spearman's rho", "p"]
    return ["## Rank correlation with the poster's column", markdown_table(header, rows)]


def _columns(results: Results) -> list[Entry]:
    table = results.table
    return [
        Entry(BASELINE, m, d, v) for d in table.datasets for m in table.models for v in table.views
    ]


def _conditions(results: Results) -> list[str]:
    """Say under which conditions the figures came about, all that occurred."""
    if not results.finished:
        return []
    lines = []
    for dataset in results.table.datasets:
        records = [r for place, r in results.finished.items() if place.dataset == dataset]
        for sizes in _distinct(record["num_objects"] for record in records):
            counts = ", ".join(f"{count} {split}" for split, count in sizes.items())
            lines.append(f"{dataset}: {counts} objects")
        for views in results.table.views:
            own = [
                r for place, r in results.finished.items() if place == _at(place, dataset, views)
            ]
            for steps, epochs in _distinct((r["steps"], r["epochs"]) for r in own):
                in_epochs = "1 epoch" if epochs == 1 else f"{epochs:g} epochs"
                text = f"{counted(steps, 'optimizer step')}, {in_epochs}"
                lines.append(f"{dataset}, {counted(views, 'view')}: {text}")
    environments = [record["environment"] for record in results.finished.values()]
    commits = sorted({str(c) for e in environments for c in e["git_commits"]})
    lines.append(f"code: commit {', '.join(commits)}")
    for versions in _distinct(environment["versions"] for environment in environments):
        lines.append(", ".join(f"{name} {number}" for name, number in versions.items()))
    for device in _distinct((e["device"], e["hardware"], e["threads"]) for e in environments):
        lines.append("{}, {}, torch threads of a cell: {}".format(*device))
    seconds = sum(record["wall_seconds"] for record in results.finished.values())
    lines.append(f"hours of all finished cells together: {seconds / 3600:.2f}")
    return ["## Conditions", "\n".join(f"- {line}" for line in lines)]


def _at(place: Coordinates, dataset: str, views: int) -> Coordinates:
    return Coordinates(place.augmentation, place.model, dataset, views, place.seed)


def _distinct(values: Iterable[Any]) -> list[Any]:
    distinct: list[Any] = []
    for value in values:
        if value not in distinct:
            distinct.append(value)
    return distinct


def _problems(results: Results) -> list[str]:
    if not results.failed:
        return []
    rows = [[_in_a_cell(place), record["error"]] for place, record in results.failed.items()]
    return ["## Failed cells", markdown_table(["cell", "error"], rows)]


def _in_a_cell(place: Coordinates) -> str:
    return str(place).replace(" | ", ", ")


def _csv(results: Results) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = ("dataset", "model", "views", "augmentation", "seeds_finished", "seeds_failed")
    kinds = {score.kind for score in results.scores.values()}
    several = len(kinds) > 1  # then a column says of each row which it is
    prefix = "score" if several else next(iter(kinds)).name
    figures = (f"{prefix}_mean", f"{prefix}_std", "gain", "gain_low", "gain_high", "gain_seeds")
    column_of_score = ["score"] if several else []
    writer.writerow([*names, *column_of_score, *figures, "poster_mean", "poster_std"])
    for column in _columns(results):
        for augmentation in results.table.rows_of(column.model):
            entry = column.in_row(augmentation)
            score, gain = results.score(entry), results.gain(entry)
            limits = (gain.value, gain.low, gain.high) if gain else (None, None, None)
            values = [*(*(results.figure(entry) or ()), None, None)[:2], *limits]
            poster = [*(*(results.poster(entry) or ()), None, None)[:2]]
            writer.writerow(
                [
                    column.dataset,
                    column.model,
                    column.views,
                    augmentation,
                    len(results.runs(entry)),
                    results.num_failed(entry),
                    *([score.name] if several else []),
                    *(_in_csv(value, score) for value in values),
                    gain.num_seeds if gain else "",
                    *(_in_csv(value, score) for value in poster),
                ]
            )
    return text.getvalue()


def _in_csv(value: float | None, score: TableScore) -> str:
    if value is None or not math.isfinite(value):
        return ""
    return f"{value:.4f}" if score.kind.in_percent else f"{value:.6g}"
