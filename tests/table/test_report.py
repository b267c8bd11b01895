"""The report from cells that are written by hand, so that every figure in it is known."""

import csv
import re
from pathlib import Path

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from table_command import TinyTable
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from lightning_dws.errors import DataError
from lightning_dws.table import pictures
from lightning_dws.table.cells import CellStore
from lightning_dws.table.claims import Finding, examine_claims
from lightning_dws.table.grid import read_table
from lightning_dws.table.published import Claim
from lightning_dws.table.recorder import pack_bits
from lightning_dws.table.results import Entry, Results
from lightning_dws.table.statistics import Estimate

ROOT = Path(__file__).parents[2]
NUM_OBJECTS = 40


def write_cell(cells: CellStore, cell, num_correct: int) -> None:
    """Write a finished cell that classifies the first so many objects rightly."""
    correct = [place < num_correct for place in range(NUM_OBJECTS)]
    cells.write(
        cell.name,
        {
            "hash": cell.hash,
            "status": "finished",
            "test": {"accuracy": num_correct / NUM_OBJECTS, "loss": 1.0},
            "best": {"val_accuracy": 0.5, "step": 4},
            "steps": 6,
            "epochs": 2.0,
            "wall_seconds": 1.5,
            "num_objects": {"train": 24, "val": 6, "test": NUM_OBJECTS},
            "environment": {
                "git_commits": ["abc"],
                "versions": {"torch": "9.9"},
                "device": "cpu",
                "hardware": "a processor",
                "threads": 1,
            },
            "test_objects": {"count": NUM_OBJECTS, "ids": "x", "correct": pack_bits(correct)},
            "history": {
                "step": [3, 6],
                "train_loss": [1.0, 0.5],
                "train_accuracy": [0.5, 0.75],
                "val_loss": [1.0, 1.5],
                "val_accuracy": [0.5, 0.25],
            },
        },
    )


@pytest.fixture
def filled(table: TinyTable):
    """Rows none and MixUp of one model; 1 view: none 20, 24 of 40, MixUp 30, 34; 2 views empty."""
    table.content["models"] = {"DWS": table.content["models"]["DWS"]}
    table.content["claims"] = [{"text": "MixUp beats none", "first": "MixUp", "second": "none"}]
    path = table.words[2]
    config = read_table([path])
    cells = CellStore(table.results / "tiny")
    counts = {("none", 0): 20, ("none", 1): 24, ("MixUp", 0): 30, ("MixUp", 1): 34}
    for cell in config.cells:
        if cell.place.views == 1:
            write_cell(cells, cell, counts[cell.place.augmentation, cell.place.seed])
    return table, config, cells


def report(table: TinyTable) -> str:
    table.run("--report_only")
    return (table.results / "tiny" / "report.md").read_text()


def line(text: str, start: str) -> str:
    [found] = [row for row in text.splitlines() if row.startswith(start)]
    return found


def test_figures_are_those_of_the_cells(filled):
    table, *_ = filled
    text = report(table)
    assert "4 of 8 cells are finished, 4 have not run." in text
    assert line(text, "| none |") == "| none | 55.0 ± 7.1 |  | 68.3 ± 0.6 | not run |  |"
    mixup = line(text, "| MixUp |")
    assert mixup.startswith("| MixUp | **80.0 ± 7.1** | +25.0 [")
    assert mixup.endswith("] | 74.4 ± 1.2 | not run |  |")
    assert "24 train, 6 val, 40 test objects" in text
    assert "6 optimizer steps, 2 epochs" in text
    assert "commit abc" in text
    assert "torch 9.9" in text
    assert "cpu, a processor" in text
    for name in ("gains", "overfitting"):
        assert (table.results / "tiny" / "figures" / f"{name}.png").stat().st_size > 1000
        assert f"figures/{name}.png" in text


def test_the_legend_of_gains_lies_on_no_bar(filled, monkeypatch):
    table, *_ = filled
    figures = {}
    monkeypatch.setattr(
        pictures, "save_chart", lambda figure, path: figures.update({path.stem: figure})
    )
    report(table)
    figure = figures["gains"]
    FigureCanvasAgg(figure).draw()
    [legend] = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["1 view"]
    for axes in figure.axes:
        assert axes.get_legend() is None
        assert not axes.get_tightbbox().overlaps(legend.get_window_extent())


def test_bars_of_gains_stand_at_their_rows_where_other_views_were_not_run(filled, monkeypatch):
    table, *_ = filled
    figures = {}
    monkeypatch.setattr(
        pictures, "save_chart", lambda figure, path: figures.update({path.stem: figure})
    )
    report(table)
    [axes] = figures["gains"].axes
    assert [bar.get_y() + bar.get_height() / 2 for bar in axes.patches] == pytest.approx([0.0])
    assert axes.get_yticklabels()[0].get_text() == "MixUp"


def test_several_datasets_have_panels_of_their_own_and_models_the_rows_they_have(table: TinyTable):
    table.content |= {"only": {"MixUp": ["wide"]}, "views": [1], "seeds": [0]}
    blobs = table.content["datasets"]["blobs"]
    table.content["datasets"]["more blobs"] = {"data": {**blobs["data"], "num_train_objects": 20}}
    cells = CellStore(table.results / "tiny")
    for cell in read_table([table.words[2]]).cells:
        write_cell(cells, cell, 20)
    text = report(table)
    assert "6 of 6 cells are finished." in text
    assert "not run" not in text
    assert text.count("| MixUp |") == 2
    rows = (table.results / "tiny" / "results.csv").read_text().splitlines()[1:]
    assert len(rows) == 6
    for name in ("accuracies", "gains", "overfitting"):
        assert (table.results / "tiny" / "figures" / f"{name}.png").stat().st_size > 1000


def test_the_posters_column_is_only_where_the_poster_has_figures(filled):
    table, *_ = filled
    table.content["augmentations"]["own row"] = []
    table.content["models"]["MLP"] = table.content["models"]["DWS"]
    text = report(table)
    of_poster, of_others = text.split("## MLP on blobs")
    assert line(of_poster, "| own row |").count("not on it") == 1  # there are no columns of 2 views
    assert "poster, FMNIST" in of_poster
    assert "2 views: poster" not in of_poster
    assert "poster, FMNIST" not in of_others
    assert "not on it" not in of_others


def test_the_csv_holds_the_same(filled):
    table, *_ = filled
    report(table)
    with open(table.results / "tiny" / "results.csv") as file:
        rows = {(row["augmentation"], row["views"]): row for row in csv.DictReader(file)}
    mixup = rows["MixUp", "1"]
    assert float(mixup["accuracy_mean"]) == 80.0
    assert float(mixup["accuracy_std"]) == pytest.approx(50**0.5, abs=1e-4)
    assert float(mixup["gain"]) == 25
    assert float(mixup["gain_low"]) < 25 < float(mixup["gain_high"])
    assert float(mixup["poster_mean"]) == 74.36
    assert rows["MixUp", "2"]["accuracy_mean"] == rows["none", "1"]["gain"] == ""


def test_claims_speak_of_the_cells_there_are(filled):
    _, config, cells = filled
    [finding] = examine_claims(Results(config, cells))
    assert finding.claim.text == "MixUp beats none"
    assert finding.columns == "DWS, 1 view"
    assert finding.estimate.value == 25
    assert finding.verdict == "shown"


@pytest.mark.parametrize(
    ("counts", "verdict"), [((20, 24), "undecided"), ((4, 8), "contradicted"), ((30,), "undecided")]
)
def test_a_claim_can_fail(filled, counts, verdict):
    """MixUp as good as none, worse than it, and with one seed only."""
    _, config, cells = filled
    for cell in config.cells:
        if cell.place.augmentation == "MixUp" and cell.place.views == 1:
            cells.forget(cell.hash)
            if cell.place.seed < len(counts):
                write_cell(cells, cell, counts[cell.place.seed])
    [finding] = examine_claims(Results(config, cells))
    assert finding.verdict == verdict


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(-0.9, -0.1, "shown"), (-3.0, -1.1, "contradicted"), (-1.2, 0.5, "undecided")],
)
def test_less_than_the_margin_is_no_harm(low, high, verdict):
    claim = Claim("MixUp does no harm", "MixUp", "none", expected="harmless")
    estimate = Estimate((low + high) / 2, low, high, 3)
    assert Finding(claim, "blobs", "DWS, 1 view", estimate).verdict == verdict


def test_a_gain_says_of_how_many_seeds_it_is(filled):
    table, config, cells = filled
    [cell] = [c for c in config.cells if str(c.place) == "none | DWS | blobs | 1 view | seed 1"]
    cells.forget(cell.hash)
    assert re.search(r"\+25\.0 \[[^]]*\] \(1 of 2 seeds\)", line(report(table), "| MixUp |"))
    with open(table.results / "tiny" / "results.csv") as file:
        [seeds] = [row["gain_seeds"] for row in csv.DictReader(file) if row["gain"]]
    assert seeds == "1"


def test_failed_and_foreign_cells(filled):
    table, config, cells = filled
    [cell] = [c for c in config.cells if str(c.place) == "MixUp | DWS | blobs | 2 views | seed 1"]
    cells.write(cell.name, {"hash": cell.hash, "status": "failed", "error": "a | b"})
    text = report(table)
    assert "1 failed, 3 have not run" in text
    assert line(text, "| MixUp |").split(" | ")[4] == "1 failed"
    assert line(text, "| MixUp, DWS, blobs, 2 views, seed 1 |").endswith("| a \\| b |")
    table.content["common"]["trainer"]["max_steps"] = 8
    text = report(table)
    assert "0 of 8 cells are finished" in text
    assert not re.search(r"\d ± \d.*\| not run", line(text, "| none |").split("|")[2])
    assert "Conditions" not in text


def test_a_gain_needs_the_same_test_objects(filled):
    _, config, cells = filled
    for cell in config.cells:
        record = cells.read(cell.hash)
        if record and cell.place.augmentation == "MixUp":
            record["test_objects"]["ids"] = "others"
            cells.write(cell.name, record)
    assert Results(config, cells).gain(Entry("MixUp", "DWS", "blobs", 1)) is None


def test_tensorboard_lists_every_finished_cell(filled):
    table, *_ = filled
    for _ in range(2):  # the second time replaces the first
        report(table)
    sessions = sorted((table.results / "tiny" / "tensorboard").iterdir())
    assert len(sessions) == 4
    events = EventAccumulator(str(sessions[0]))
    events.Reload()
    assert sessions[0].name == "MixUp, DWS, blobs, 1 view, seed 0"
    assert events.Scalars("hp/test_accuracy")[0].value == pytest.approx(0.75)
    assert [event.step for event in events.Scalars("val/loss")] == [3, 6]
    content = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    hparams = HParamsPluginData.FromString(content).session_start_info.hparams
    assert hparams["augmentation"].string_value == "MixUp"
    assert hparams["seed"].number_value == 0


def test_a_damaged_cell_is_named(filled):
    _, config, cells = filled
    [path] = (cells.folder / "cells").glob(f"*{config.cells[0].hash}.json")
    path.write_text(path.read_text()[:50])
    with pytest.raises(DataError, match=r"none_dws_blobs_1_0.*delete it"):
        Results(config, cells)


def test_the_posters_figures():
    find = read_table([str(ROOT / "conf" / "table" / "digits.yaml")]).poster_figures.find
    assert find("ModelNet40", "DWS", "none", 1) == (16.17, 0.25)
    assert find("FMNIST", "GNN", "alignment + MixUp", 10) == (82.94, 0.31)
    assert find("ModelNet40", "DWS", "rotation", 1) is None
    assert find("FMNIST", "MLP", "none", 1) is None
