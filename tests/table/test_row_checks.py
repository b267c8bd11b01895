"""Rows that make no run: told before the first cell, and not started."""

from unittest.mock import Mock

import pytest

from lightning_dws.table import command, row_checks

NOISE = {"data": {"augmentations": [{"class_path": "tiny.AddNoise"}]}}


@pytest.fixture
def pairs(table, monkeypatch):
    """A table of contrastive learning, whose rows none and MixUp are refused; checked here."""

    class Called:
        def __init__(self, function, arguments, log):
            function(*arguments)

        def join(self):
            pass

    monkeypatch.setattr(row_checks, "start_process", Called)
    table.content["common"] |= {"task": "contrastive"}
    table.content["models"] = {"net": table.content["models"]["DWS"]}
    table.content["augmentations"] |= {"noise": NOISE}
    table.content["augmentations"]["MixUp"] = NOISE | table.content["augmentations"]["MixUp"]
    del table.content["poster"]
    return table


def refusals(capsys) -> list[str]:
    printed = capsys.readouterr().err.splitlines()
    return [line for line in printed if line.startswith("cannot run: ")]


def test_rows_that_a_task_refuses_are_told_before_the_first_cell(pairs, capsys, monkeypatch):
    wanted = [
        "cannot run: none | net | blobs (4 cells): pairs of two draws need data.augmentations: "
        "without any, both are the same INR",
        "cannot run: MixUp | net | blobs (4 cells): MixUp: ContrastiveTask trains on pairs of one "
        "object, and has no labels or targets to mix",
    ]
    pairs.run("--dry_run")
    assert sorted(refusals(capsys)) == sorted(wanted)
    assert not list(pairs.folder.glob("data/*/*"))
    assert not pairs.records()

    started = []
    monkeypatch.setattr(command, "prepare_datasets", lambda cells, devices: started.extend(cells))
    monkeypatch.setattr(command, "run_locally", lambda jobs, *rest: started.extend(jobs))
    pairs.run()
    assert sorted(refusals(capsys)) == sorted(wanted)
    assert len(started) == 8
    assert {getattr(one, "cell", one).place.augmentation for one in started} == {"noise"}
    records = pairs.records().values()
    assert len(records) == 8
    assert {(r["status"], r["cell"]["augmentation"]) for r in records} == {
        ("failed", "none"),
        ("failed", "MixUp"),
    }
    assert {r["error"] for r in records} == {line.split("cells): ")[1] for line in wanted}

    pairs.run("--dry_run")  # what has failed is not tried again
    assert refusals(capsys) == []


def test_ctrl_c_ends_the_checks_at_once(table, monkeypatch):
    process = Mock()

    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(row_checks, "start_process", lambda *arguments: process)
    monkeypatch.setattr(row_checks, "Pipe", lambda duplex: (Mock(recv=interrupt), Mock()))
    with pytest.raises(KeyboardInterrupt):
        row_checks.find_refused(command.read_table([table.words[2]]).cells, [], ())
    process.kill.assert_called_once_with()


def test_one_cell_of_a_row_and_of_a_model_is_tried(table):
    cells = command.read_table([table.words[2]]).cells
    tried = row_checks._choose(cells, [])
    assert {(cell.place.augmentation, cell.place.model) for cell in tried} == {
        ("none", "DWS"),
        ("none", "wide"),
        ("MixUp", "DWS"),
    }
    assert {cell.place.views for cell in tried} == {1}
    assert row_checks._choose(cells, tried) == []
    assert row_checks.find_refused(cells, tried, ()) == {}
