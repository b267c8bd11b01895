import json
import re
import shlex
from collections import Counter
from pathlib import Path

import pytest
import yaml
from table_command import MIXUP, NOISE

from lightning_dws.cli import main
from lightning_dws.errors import DataError
from lightning_dws.table.cells import CellStore
from lightning_dws.table.forecast import forecast
from lightning_dws.table.grid import read_table
from lightning_dws.table.pieces import merge_pieces, settings_hash, words_of
from lightning_dws.table.table_score import scores_of

ROOT = Path(__file__).parents[2]
CLAIM = {"text": "x", "first": "MixUp", "second": "none"}
PRESETS = [
    path
    for path in sorted((ROOT / "conf" / "table").glob("*.yaml"))
    if path.stem not in ("rows", "poster")
]
NOT_SETTINGS = {"config", "seed_everything"}


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_every_preset_lists_its_cells(path, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(ROOT)
    main(["table", "--config", f"conf/table/{path.name}", "--dry_run", "--results_root", "none"])
    cells = read_table([f"conf/table/{path.name}"]).cells
    assert f"{len(cells)} cells: {len(cells)} left" in capsys.readouterr().out
    assert len({cell.hash for cell in cells}) == len(cells)
    assert len({cell.settings["trainer"]["max_steps"] for cell in cells}) == 1


def test_digits_has_168_cells_in_order(monkeypatch):
    monkeypatch.chdir(ROOT)
    cells = read_table(["conf/table/digits.yaml"]).cells
    assert len(cells) == 168
    assert [cell.place.seed for cell in cells] == [0] * 56 + [1] * 56 + [2] * 56
    assert [cell.place.augmentation for cell in cells[:5]] == ["none"] * 4 + ["translate"]


def test_rows_in_order_come_first(table):
    table.content["order"] = ["MixUp"]
    places = [cell.place for cell in read_table([table.words[2]]).cells]
    expected = [("MixUp", 0)] * 4 + [("MixUp", 1)] * 4 + [("none", 0)] * 4 + [("none", 1)] * 4
    assert [(place.augmentation, place.seed) for place in places] == expected


def test_a_row_that_is_left_out_may_be_named_in_order(table):
    table.content["order"] = ["MixUp", "none"]
    left = read_table([table.words[2]], ["augmentations.MixUp=null"])
    assert {cell.place.augmentation for cell in left.cells} == {"none"}
    assert left.order == ("none",)


@pytest.mark.parametrize("preset", ["digits", "fmnist-mini", "fmnist"])
def test_settings_are_what_the_command_line_makes_of_the_words(preset, monkeypatch, capsys):
    """Merged here and merged there: all that a cell's settings say is what its run uses."""
    monkeypatch.chdir(ROOT)
    cells = read_table([f"conf/table/{preset}.yaml"], ["seeds=[3]", "views=[2]"]).cells
    for cell in cells[:: 5 if preset == "digits" else 11]:
        with pytest.raises(SystemExit):
            main([*shlex.split(cell.command)[2:], "--print_config"])
        used = yaml.safe_load(capsys.readouterr().out)
        assert used["seed_everything"] == 3
        assert_says(used, cell.settings, cell.place)


def assert_says(used, said, where) -> None:
    """Check that all that is said is in what is used, where defaults are filled in."""
    if isinstance(said, dict):
        for name, value in said.items():
            assert_says(used[name], value, f"{where}: {name}")
    elif isinstance(said, list):
        assert len(used) == len(said), where
        for one, other in zip(used, said, strict=True):
            assert_says(one, other, where)
    elif isinstance(used, dict):
        assert used["class_path"] == said, where
    else:
        assert used == said or str(used) == str(said), where  # a text where both are allowed


def test_files_are_merged_with_all_they_name(tmp_path):
    (tmp_path / "inrs").mkdir()
    (tmp_path / "inrs" / "a.yaml").write_text("signals: x\nseed: 1\n")
    (tmp_path / "data.yaml").write_text("data: {dataset: inrs/a.yaml, views: 3}\n")
    top = tmp_path / "top.yaml"
    top.write_text("config: [data.yaml]\ndata: {views: 4}\ntrainer: {callbacks: [1]}\n")
    merged = merge_pieces([str(top), {"trainer": {"callbacks+": [2]}}, {"name": "x"}])
    assert merged == {
        "data": {"dataset": {"signals": "x", "seed": 1}, "views": 4},
        "trainer": {"callbacks": [1, 2]},
        "name": "x",
    }


def test_what_decides_a_result_decides_the_hash():
    plain = merge_pieces([NOISE, {"trainer": {"max_steps": 5}}])
    plain["data"]["dataset"] = {"signals": "tiny.Blobs"}
    nothing = ({"data": {"root": "x"}}, {"trainer": {"accelerator": "gpu", "logger": False}})
    for same in (*nothing, {"name": "y"}):
        assert settings_hash(merge_pieces([plain, same])) == settings_hash(plain)
    for other in ({"data": {"views": 2}}, {"trainer": {"max_steps": 6}}, MIXUP):
        assert settings_hash(merge_pieces([plain, other])) != settings_hash(plain)


def test_where_a_store_is_decides_what_is_found_by_its_name():
    first, second = ({"data": {"root": root, "store": "mine"}} for root in ("v1", "v2"))
    assert settings_hash(first) != settings_hash(second)


def test_a_row_is_changed_in_place(table, tmp_path):
    """Settings go over the files that the row has, which stay."""
    (tmp_path / "noise.yaml").write_text(yaml.safe_dump(NOISE))
    table.content["augmentations"]["noise"] = "noise.yaml"
    later = tmp_path / "later.yaml"
    later.write_text(yaml.safe_dump({"augmentations": {"noise": {"data": {"batch_size": 4}}}}))
    paths = [table.words[2]]
    for changed in (
        read_table([*paths, str(later)]),
        read_table(paths, ["augmentations.noise.data.batch_size=4"]),
    ):
        [cell, *_] = [c for c in changed.cells if c.place.augmentation == "noise"]
        assert cell.settings["data"]["batch_size"] == 4
        assert cell.settings["data"]["augmentations"] == NOISE["data"]["augmentations"]


def test_a_file_that_changes_meanwhile_is_noticed(table, tmp_path):
    row = tmp_path / "noise.yaml"
    row.write_text(yaml.safe_dump(NOISE))
    table.content["augmentations"]["noise"] = "noise.yaml"
    cells = read_table([table.words[2]]).cells
    for cell in cells:
        cell.check_files()
    row.write_text(yaml.safe_dump({**NOISE, "seed_everything": 4, "trainer": {"max_steps": 7}}))
    for cell in cells:
        if cell.place.augmentation == "noise":
            with pytest.raises(DataError, match="changed since the table began"):
                cell.check_files()
        else:
            cell.check_files()


def test_show_gives_the_one_cell_of_that_name(table, capsys):
    table.content["augmentations"]["more MixUp"] = {**MIXUP, "name": "x", **NOISE}
    table.run("--show", "MixUp | DWS | blobs | 1 view | seed 0")
    assert capsys.readouterr().out.count("python main.py fit") == 1


def test_settings_that_are_no_yaml_are_one_error(table, capsys):
    with pytest.raises(SystemExit):
        table.run("--set", "seeds=[0", "--dry_run")
    error = capsys.readouterr().err
    assert "--set" in error
    assert "Traceback" not in error


def test_a_row_whose_name_has_dots_is_set_and_left_out_by_its_name(table, capsys):
    table.content["augmentations"]["MixUp + perm. 0.5"] = {"name": "x", **NOISE}
    table.run("--set", "augmentations.MixUp + perm. 0.5.name=y", "--dry_run")
    assert "MixUp + perm. 0.5 |" in capsys.readouterr().out
    table.run("--set", "augmentations.MixUp + perm. 0.5=null", "--dry_run")
    assert "MixUp + perm" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("augmentations.MixUpp=null", "augmentations.MixUpp is null.*did you mean 'MixUp'"),
        ("models.DWS.=null", "expected NAME.NAME=VALUE, got 'models.DWS.=null'"),
        ("seeds", "expected NAME.NAME=VALUE, got 'seeds'"),
    ],
)
def test_a_setting_that_would_do_nothing_is_refused(table, capsys, word, message):
    with pytest.raises(SystemExit):
        table.run("--set", word, "--dry_run")
    assert re.search(message, capsys.readouterr().err)


def test_a_row_that_is_null_where_there_is_none_to_leave_out_is_told(table, capsys):
    table.content["augmentations"]["none"] = None
    with pytest.raises(SystemExit):
        table.run("--dry_run")
    said = capsys.readouterr().err
    assert "tiny.yaml: augmentations.none is null, which leaves a row out" in said
    assert "a row without settings is {}" in said

    table.content["augmentations"]["none"] = {}
    (table.folder / "base.yaml").write_text(yaml.safe_dump(table.content))
    table.content = {"config": "base.yaml", "augmentations": {"MixUp": None}}
    table.run("--dry_run")
    assert "MixUp" not in capsys.readouterr().out


def test_words_say_what_pieces_say():
    assert words_of([{"a": {"b": 1, "c": "5"}}, {"d": [1]}, {"e": None, "f": "x y"}]) == [
        "--a.b=1",
        '--a.c="5"',
        "--config",
        json.dumps({"d": [1]}),
        "--e=null",
        "--f=x y",
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": None}, "needs seeds"),
        ({"seed": [1]}, "unknown setting seed"),
        ({"seeds": [0, 0]}, "names a number twice"),
        ({"views": 10}, "views must be a list of whole numbers"),
        ({"augmentations": ["x"]}, "augmentations must be pieces"),
        ({"models": {"DWS": 3}}, "models.DWS: expected names"),
        ({"models": {"DWS": "absent.yaml"}}, "absent.yaml: No such file"),
        ({"order": ["nothing"]}, "order names nothing"),
        ({"only": {"nothing": ["DWS"]}}, "only names nothing, which is no augmentation"),
        ({"only": {"MixUp": ["GNN"]}}, "only names GNN, which is no model"),
        ({"only": {"MixUp": "DWS"}}, "only must be lists of models by row"),
        ({"poster": {"nothing": "FMNIST"}}, "poster names nothing"),
        (
            {"poster": {"blobs": "CIFAR"}},
            "poster names CIFAR, of which there are no poster_figures",
        ),
        ({"poster_figures": {"FMNIST": {"DWS": {"none": 3}}}}, "poster_figures must be pairs by"),
        (
            {"claims": [CLAIM | {"first": "Mixup"}]},
            "claim 'x' names the row 'Mixup'; the table knows",
        ),
        ({"claims": [CLAIM | {"expected": "more"}]}, "expected must be one of"),
        ({"claims": [CLAIM | {"views": 1}]}, "not a claim"),
        ({"claims": "MixUp"}, "claims must be a list"),
    ],
)
def test_a_wrong_table_is_one_clear_error(table, change, message, capsys):
    table.content |= change
    with pytest.raises(SystemExit) as stop:
        table.run("--dry_run")
    assert stop.value.code == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_row_may_be_for_some_models_alone(table):
    table.content["only"] = {"MixUp": ["wide"]}
    config = read_table([table.words[2]])
    places = {(cell.place.augmentation, cell.place.model) for cell in config.cells}
    assert places == {("none", "DWS"), ("none", "wide"), ("MixUp", "wide")}
    assert config.rows_of("DWS") == ["none"]
    assert config.rows_of("wide") == ["none", "MixUp"]
    config = read_table([table.words[2]], ["models.wide=null"])  # left out, and still named
    assert {cell.place.augmentation for cell in config.cells} == {"none"}


def test_starts_are_compared_before_forms_and_forms_before_seeds(monkeypatch):
    monkeypatch.chdir(ROOT)
    places = [cell.place for cell in read_table(["conf/table/starts.yaml"]).cells]
    assert {place.dataset for place in places[:24]} == {
        f"{signals}, {start}"
        for signals in ("digits", "clothes")
        for start in ("random", "shared", "half")
    }
    assert {(place.augmentation, place.seed) for place in places[:24]} == {("none", 0)}
    assert {place.augmentation for place in places[24:96]} == {"signs", "phases", "aligned"}
    assert {place.model for place in places if "MixUp" in place.augmentation} == {"DWS"}
    assert [place.seed for place in places] == sorted(place.seed for place in places)


def test_a_claim_may_be_of_a_row_that_a_table_leaves_out(table):
    table.content["claims"] = [CLAIM]
    config = read_table([table.words[2]], ["augmentations.MixUp=null"])
    assert [claim.first for claim in config.claims] == ["MixUp"]


def test_a_later_file_and_set_change_a_table(table, tmp_path):
    later = tmp_path / "later.yaml"
    later.write_text("augmentations: {MixUp: null}\nseeds: [5]\n")
    path = table.words[2]
    cells = read_table([path, str(later)], ["common.trainer.max_steps=9"]).cells
    assert Counter(cell.place.augmentation for cell in cells) == {"none": 4}
    assert {cell.settings["trainer"]["max_steps"] for cell in cells} == {9}
    assert {cell.place.seed for cell in cells} == {5}


def test_a_cell_runs_on_one_device(table):
    table.content["common"]["trainer"]["devices"] = 2
    with pytest.raises(DataError, match=r"one device.*trainer\.devices is 2"):
        assert read_table([table.words[2]]).cells


def test_a_circle_of_files_is_named(tmp_path):
    (tmp_path / "a.yaml").write_text("config: [a.yaml]")
    with pytest.raises(DataError, match="include each other"):
        read_table([str(tmp_path / "a.yaml")])


def test_show_prints_commands(table, capsys):
    main([*table.words, "--show", "MixUp | DWS | blobs | 1 view | seed 1"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "# MixUp | DWS | blobs | 1 view | seed 1: left"
    assert lines[1].startswith("python main.py fit --config ")
    assert lines[1].endswith("--data.views=1 --trainer.devices=1 --seed_everything=1")
    assert len(lines) == 2
    with pytest.raises(SystemExit):
        main([*table.words, "--show", "nothing"])


def test_rows_of_another_task_are_told_before_any_is_run(table, capsys):
    table.content["augmentations"]["psnr"] = {"task": "regression", "model": {"targets": ["psnr"]}}
    with pytest.raises(SystemExit) as stop:
        main([*table.words, "--dry_run"])
    assert stop.value.code == 1
    assert (
        "tiny: none | DWS | blobs | 1 view | seed 0 is of the task classification, psnr | DWS | "
        "blobs | 1 view | seed 0 of regression"
    ) in capsys.readouterr().err


@pytest.mark.parametrize(
    ("score", "error"),
    [
        ("acuracy", "does not measure; there are accuracy, .*; did you mean 'accuracy'"),
        (["accuracy"], "score must be the name of one"),
    ],
)
def test_a_score_that_is_not_measured_is_told(table, score, error):
    table.content["score"] = score
    with pytest.raises(DataError, match=error):
        scores_of(read_table([table.words[2]]))


def test_the_forecast_is_made_from_finished_cells(table):
    """Of one model: two cells took 30 and 50 s, and two at a time are to run."""
    cells = read_table([table.words[2]]).cells
    own = [cell for cell in cells if cell.place.model == "DWS"]
    store = CellStore(table.results)
    for cell, seconds in zip(own[:2], (30, 50), strict=True):
        store.write(cell.name, {"hash": cell.hash, "status": "finished", "wall_seconds": seconds})
    text = forecast(store, own[2:], own[:2], 2)
    assert "DWS: 6 left, 40 s each, from 2 finished" in text
    assert "left: 2 min with 2 at a time" in text
    others = [cell for cell in cells if cell.place.model == "wide"]
    assert "left: 8 cells of unknown duration" in forecast(store, others, own[:2], 1)
