"""Tables of scores that are no accuracies: of cells written by hand, and of cells that ran."""

import csv
import math

import pytest
import torch
from scipy.stats import kendalltau
from sklearn.metrics import r2_score
from table_command import TinyTable
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_report import line, report

from lightning_dws.errors import DataError
from lightning_dws.table.cells import CellStore
from lightning_dws.table.grid import read_table
from lightning_dws.table.results import Entry, Results
from lightning_dws.table.table_score import scores_of
from lightning_dws.table.worker import CellJob, run_cell
from lightning_dws.tasks.regression_scores import shares_in_r2, shares_in_tau

PSNR = {"task": "regression", "model": {"targets": ["psnr"]}}
CONTRASTIVE = {"task": "contrastive", "model": {"pairs": "views"}}
NUM_OBJECTS = 12


def write_cell(cells: CellStore, cell, test: dict, by_object: dict, score: str) -> None:
    environment = {
        "git_commits": ["abc"],
        "versions": {"torch": "9.9"},
        "device": "cpu",
        "hardware": "a processor",
        "threads": 1,
    }
    history = {"step": [3], "train_loss": [1.0], f"train_{score}": [None]}
    record = {
        "hash": cell.hash,
        "status": "finished",
        "test": test,
        "best": {f"val_{score}": 0.5, "step": 3},
        "steps": 3,
        "epochs": 1.0,
        "wall_seconds": 1.0,
        "num_objects": {"train": 24, "val": 6, "test": NUM_OBJECTS},
        "environment": environment,
        "test_objects": {"count": NUM_OBJECTS, "ids": "x", **by_object},
        "history": {**history, "val_loss": [1.0], f"val_{score}": [0.5]},
    }
    cells.write(cell.name, record)


def write_cells(table: TinyTable, values: dict, name: str, score: str, spread: float | None):
    """Write the cells of one view; objects spread around the mean, or have no scores."""
    table.content["models"] = {"DWS": table.content["models"]["DWS"]}
    table.content["views"] = [1]
    steps = [0.0 if spread is None else spread * (-1) ** n for n in range(NUM_OBJECTS)]
    cells = CellStore(table.results / "tiny")
    for cell in read_table([table.words[2]]).cells:
        value = values[cell.place.augmentation][cell.place.seed]
        by_object = {} if spread is None else {name: [value + step for step in steps]}
        write_cell(cells, cell, {"loss": 1.0, name: value}, by_object, score)


def test_a_rank_correlation_is_shown_by_its_name_and_without_percent(table):
    table.content["common"] |= PSNR
    table.content["score"] = "kendall_tau"
    table.content["claims"] = [
        {"text": "MixUp is better", "first": "MixUp", "second": "none"},
        {"text": "MixUp is harmless", "first": "MixUp", "second": "none", "expected": "harmless"},
    ]
    values = {"none": [0.251, 0.262], "MixUp": [0.342, 0.351]}
    write_cells(table, values, "kendall_tau", "r2", spread=0.01)
    text = report(table)
    method = (
        "kendall tau of regression (higher is better), at the checkpoint of the best validation"
    )
    assert f"{method} r2" in " ".join(text.split())
    assert "| augmentation | 1 view: kendall tau | 1 view: gain |" in text
    assert line(text, "| none |") == "| none | 0.257 ± 0.008 |  |"
    assert line(text, "| MixUp |").startswith("| MixUp | **0.347 ± 0.006** | +0.090 [")
    assert "%" not in text.replace("95 %", "")
    assert "FMNIST" not in text  # the poster's figures are accuracies
    assert line(text, "| MixUp is better |").startswith(
        "| MixUp is better | blobs | DWS, 1 view | +0.090 ["
    )
    assert "MixUp is harmless" not in text
    folder = table.results / "tiny"
    with open(folder / "results.csv") as file:
        rows = {row["augmentation"]: row for row in csv.DictReader(file)}
    assert float(rows["MixUp"]["kendall_tau_mean"]) == pytest.approx(0.3465)
    assert (folder / "figures" / "gains.png").exists()
    events = EventAccumulator(str(folder / "tensorboard" / "MixUp, DWS, blobs, 1 view, seed 0"))
    events.Reload()
    assert events.Scalars("hp/test_kendall_tau")[0].value == pytest.approx(0.342)
    assert {"hp/best_val_r2", "val/r2", "train/loss"} <= set(events.Tags()["scalars"])


def test_the_lower_is_better_of_a_loss_and_seeds_alone_bound_its_gain(table):
    """No single object has one: two pairs of 0.02 and 0.06 have t's interval of one freedom."""
    table.content["score"] = "loss"
    write_cells(
        table, {"none": [0.30, 0.35], "MixUp": [0.28, 0.29]}, "loss", "accuracy", spread=None
    )
    text = report(table)
    assert line(text, "| none |") == "| none | 0.325 ± 0.035 |  |"
    reach = 0.02 * 12.7062
    assert line(text, "| MixUp |") == (
        f"| MixUp | **0.285 ± 0.007** | +0.040 [{0.04 - reach:+.3f}, {0.04 + reach:+.3f}] |"
    )
    table.content["seeds"] = [0]
    assert line(report(table), "| MixUp |") == "| MixUp | **0.280** | +0.020 |"


def test_a_score_that_is_not_defined_is_left_out(table):
    table.content["common"] |= PSNR
    write_cells(table, {"none": [0.1, 0.2], "MixUp": [None, 0.4]}, "r2", "r2", spread=None)
    text = report(table)
    assert line(text, "| MixUp |") == "| MixUp | **0.400** (1 undefined) | +0.200 (1 of 2 seeds) |"
    table.content["score"] = "kendall_tau"
    with pytest.raises(DataError, match=r"was tested by loss, r2, not by kendall_tau"):
        Results(read_table([table.words[2]]), CellStore(table.results / "tiny")).figure(
            Entry("none", "DWS", "blobs", 1)
        )


def test_cells_of_two_tasks_run_and_stand_in_one_table(table, capfd):
    blobs = table.content["datasets"]["blobs"]
    table.content |= {"seeds": [0], "views": [2]}
    table.content["models"] = {"net": table.content["models"]["DWS"]}
    table.content["datasets"] = {
        "fit": blobs | PSNR,
        "pairs": blobs | CONTRASTIVE,
    }
    table.content["augmentations"] = {"none": {}}
    del table.content["poster"]
    cells = CellStore(table.results / "tiny")
    config = read_table([table.words[2]])
    for cell in config.cells:
        run_cell(CellJob(cell, str(cells.folder), str(cells.folder / "runs" / cell.name)))
    records = {r["cell"]["dataset"]: r for r in table.records().values()}
    assert {name: r.get("error") for name, r in records.items()} == dict.fromkeys(records)
    assert isinstance(records["pairs"]["test_objects"]["probe_accuracy"], str)
    by_object = records["fit"]["test_objects"]["r2"]
    assert sum(by_object) / 6 == pytest.approx(records["fit"]["test"]["r2"], rel=1e-4)
    assert records["fit"]["history"]["val_r2"][-1] is not None
    assert records["pairs"]["history"]["val_loss"] == [None] * 3
    text = report(table)
    for name, score in (("fit", "r2"), ("pairs", "probe accuracy")):
        assert f"2 views: {score} |" in text.split(f"## net on {name}")[1].splitlines()[2]
    with open(table.results / "tiny" / "results.csv") as file:
        assert [row["score"] for row in csv.DictReader(file)] == [
            "r2",
            "probe_accuracy",
        ]
    assert (table.results / "tiny" / "figures" / "overfitting.png").exists()


@pytest.mark.parametrize("num_targets", [1, 2])
def test_jackknife_values_are_those_of_leaving_one_out(num_targets):
    generator = torch.Generator().manual_seed(0)
    true = torch.randn(9, num_targets, generator=generator, dtype=torch.float64).round(decimals=1)
    predicted = true + torch.randn(true.shape, generator=generator, dtype=torch.float64).round()

    def r2(p, t) -> float:
        return float(r2_score(t.numpy(), p.numpy()))

    def tau(p, t) -> float:
        both = zip(p.T.numpy(), t.T.numpy(), strict=True)
        return sum(kendalltau(*pair).statistic for pair in both) / num_targets

    for score, shares in ((r2, shares_in_r2), (tau, shares_in_tau)):
        found = shares(predicted, true)
        kept = [[n for n in range(9) if n != left] for left in range(9)]
        without = torch.tensor([score(predicted[rows], true[rows]) for rows in kept])
        expected = score(predicted, true) + 8 * (without.mean() - without)
        assert found.tolist() == pytest.approx(expected.tolist(), abs=1e-6)
        assert float(found.mean()) == pytest.approx(score(predicted, true))


def test_a_cell_that_started_from_a_checkpoint_goes_on_from_its_own(table):
    """It ended before it was recorded: its run is there, and so is what it started from."""
    table.content |= {"seeds": [0], "views": [1]}
    table.content["models"] = {"DWS": table.content["models"]["DWS"]}
    table.content["augmentations"] = {"none": {}}
    cells = CellStore(table.results / "tiny")

    def run(cell) -> dict:
        folder = cells.folder / "runs" / cell.name
        run_cell(CellJob(cell, str(cells.folder), str(folder), keep_run=True))
        return cells.read(cell.hash)

    [first] = read_table([table.words[2]]).cells
    run(first)
    path = cells.folder / "runs" / first.name / "checkpoints" / "last.ckpt"
    table.content["augmentations"] = {"none": {}, "started": {"init_from": str(path)}}
    [started] = [c for c in read_table([table.words[2]]).cells if c.hash != first.hash]
    straight = run(started)
    assert straight["status"] == "finished", straight
    assert straight["history"] != cells.read(first.hash)["history"]
    cells.forget(started.hash)
    again = run(started)
    assert [again[name] for name in ("test", "history")] == [
        straight[name] for name in ("test", "history")
    ]


def test_scores_are_written_for_people(table):
    table.content["datasets"]["fit"] = table.content["datasets"]["blobs"] | PSNR
    scores = scores_of(read_table([table.words[2]]))
    assert scores["blobs", "DWS"].write({"test": {"accuracy": 0.7654}}) == "76.5 %"
    assert scores["fit", "DWS"].write({"test": {"r2": 0.34567}}) == "r2 0.346"
    assert scores["fit", "DWS"].write({"test": {"r2": None}}) == "r2 undefined"


def test_constant_predictions_have_no_rank_correlation():
    true = torch.arange(5.0)[:, None]
    assert math.isnan(shares_in_tau(torch.ones_like(true), true)[0])
