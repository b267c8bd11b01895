import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from lightning_dws.cli import main
from lightning_dws.config_files import expand_includes, list_files, merge_settings, read_settings
from lightning_dws.errors import DataError
from lightning_dws.table.grid import read_table


def test_files_include_files(tmp_path):
    (tmp_path / "pieces").mkdir()
    (tmp_path / "pieces" / "a.yaml").write_text("config: [b.yaml]\nx: 1\n")
    (tmp_path / "pieces" / "b.yaml").write_text("x: 2\n")
    (tmp_path / "top.yaml").write_text("config: [pieces/a.yaml]\n")
    words = expand_includes(["fit", f"--config={tmp_path / 'top.yaml'}", "--x", "3"])
    names = [Path(word).name for word in words if word.endswith(".yaml")]
    assert names == ["b.yaml", "a.yaml", "top.yaml"]
    assert words[0] == "fit"
    assert words[-2:] == ["--x", "3"]
    (tmp_path / "pieces" / "b.yaml").write_text("config: [a.yaml]\n")
    with pytest.raises(DataError, match="include each other"):
        expand_includes(["fit", "--config", str(tmp_path / "top.yaml")])


def test_a_file_in_a_file_may_be_named_without_a_list(tmp_path):
    (tmp_path / "a.yaml").write_text("config: b.yaml\nx: 1\n")
    (tmp_path / "b.yaml").write_text("x: 2\ny: 3\n")
    assert read_settings(str(tmp_path / "a.yaml")) == {"x": 1, "y": 3}


def test_an_included_list_is_appended_to_what_comes_before_the_file(tmp_path):
    """As on the command line, where the files stand in a row."""
    (tmp_path / "first.yaml").write_text("callbacks: [a]\n")
    (tmp_path / "inner.yaml").write_text("callbacks+: [b]\n")
    (tmp_path / "second.yaml").write_text("config: [inner.yaml]\ncallbacks+: [c]\n")
    (tmp_path / "top.yaml").write_text("config: [first.yaml, second.yaml]\n")
    assert read_settings(str(tmp_path / "top.yaml")) == {"callbacks": ["a", "b", "c"]}


def test_arguments_are_those_of_a_class_that_was_named_before_them(tmp_path):
    """As on the command line; without it, runs of two networks would have one hash."""
    (tmp_path / "a.yaml").write_text("model: {network: my.Network}\n")
    (tmp_path / "b.yaml").write_text("config: a.yaml\nmodel: {network: {init_args: {dim: 3}}}\n")
    network = {"class_path": "my.Network", "init_args": {"dim": 3}}
    assert read_settings(str(tmp_path / "b.yaml")) == {"model": {"network": network}}


def test_a_circle_is_found_through_another_spelling(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "a.yaml").write_text("config: [link/a.yaml]\n")
    with pytest.raises(DataError, match="include each other"):
        list_files(str(tmp_path / "a.yaml"))


def test_a_circle_is_found_through_a_setting_that_names_a_file(tmp_path):
    (tmp_path / "a.yaml").write_text("data: {dataset: b.yaml}\n")
    (tmp_path / "b.yaml").write_text("recipe: a.yaml\n")
    with pytest.raises(DataError, match="include each other"):
        read_settings(str(tmp_path / "a.yaml"))


BOMB = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n"
    for before, name in zip("abcdef", "bcdefg", strict=True)
)
BAD = {
    "contains itself": b"data: &x {y: *x}\n",
    "line 2 contains itself": b"a: 1\nlist: &x [1, *x]\n",
    "aliases make": BOMB.encode(),
    "not a YAML file": b"\xff\xfe\x00a",
    "not a YAML": b"a: [1, 2",
    "expected settings by name, found '- 1'": b"- 1\n",
    "expected settings by name, found nothing": b"# empty\n",
    "config must list the names": b"config: {a: 1}\n",
}


def make_odd(kind: str, path: Path) -> None:
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)


READERS = {
    "fit": lambda path: main(["fit", "--config", path]),
    "fit, included": lambda path: main(["fit", f"--config={including(path)}"]),
    "fit, named": lambda path: main(["fit", f"--config={including(path, 'data: {dataset: %s}')}"]),
    "inrs fit": lambda path: main(["inrs", "fit", "--config", path]),
    "table": lambda path: main(["table", "--config", path]),
}


def including(path: str, text: str = "config: [%s]") -> str:
    outer = Path(path).with_name("outer.yaml")
    outer.write_text(text % Path(path).name)
    return str(outer)


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
@pytest.mark.parametrize("message", BAD)
def test_a_bad_file_is_one_line_everywhere(message, reader, tmp_path, capsys):
    path = tmp_path / "bad.yaml"
    path.write_bytes(BAD[message])
    with pytest.raises(SystemExit) as stop:
        reader(str(path))
    assert stop.value.code == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {path}: ")
    assert message in error
    assert error.count("\n") == 1


# a setting that is no file's name stays what it is
@pytest.mark.parametrize("reader", sorted(READERS.keys() - {"fit, named"}))
@pytest.mark.parametrize("kind", ["folder", "pipe", "missing"])
def test_what_is_no_file_is_one_line_everywhere(kind, reader, tmp_path, capsys):
    path = tmp_path / "bad.yaml"
    make_odd(kind, path)
    with pytest.raises(SystemExit) as stop:
        READERS[reader](str(path))
    assert stop.value.code == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {path}: ")
    assert error.count("\n") == 1


def test_a_name_with_a_nul_is_one_line(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["fit", "--config", "a\0b.yaml"])
    assert stop.value.code == 1
    assert "not the name of a file" in capsys.readouterr().err


def test_a_table_takes_included_rows(tmp_path):
    (tmp_path / "rows.yaml").write_text("augmentations: {none: [], noise: {seed_everything: 1}}\n")
    (tmp_path / "table.yaml").write_text(
        "config: [rows.yaml]\nname: t\nseeds: [0]\nviews: [1]\n"
        "models: {m: {name: a}}\ndatasets: {d: {name: b}}\n"
    )
    table = read_table([str(tmp_path / "table.yaml")])
    assert [cell.place.augmentation for cell in table.cells] == ["none", "noise"]


@pytest.mark.parametrize("text", ["x: {0}\ny: {0}\n", "config: [{0}, {0}]\n"])
def test_files_that_double_at_every_level_are_refused_soon(tmp_path, text):
    for level in range(20):
        (tmp_path / f"{level}.yaml").write_text(text.format(f"{level + 1}.yaml"))
    (tmp_path / "20.yaml").write_text("a: 1\n")
    with pytest.raises(DataError, match=r"0\.yaml: includes more than 200 files"):
        read_settings(str(tmp_path / "0.yaml"))


@pytest.mark.parametrize("words", [["--config"], ["--config="], ["--config", "--print_config"]])
def test_a_config_without_a_file_is_named(words, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["fit", *words])
    assert stop.value.code == 2
    assert "-c/--config: expected one argument" in capsys.readouterr().err


_VALUES = st.sampled_from([None, 1, 2.5, "x", "${data.views}", True])
_TREES = st.dictionaries(
    st.sampled_from("abc"),
    st.recursive(_VALUES, lambda deeper: st.dictionaries(st.sampled_from("abc"), deeper)),
)


@settings(max_examples=60, deadline=None, database=None)
@given(_TREES, _TREES)
def test_settings_merge_as_omegaconf_merges_them(earlier, later):
    expected = OmegaConf.to_container(OmegaConf.merge(earlier, later), resolve=False)
    assert merge_settings(earlier, later) == expected


def test_lists_replace_others_and_a_plus_appends_to_them():
    earlier = {"a": [{"x": 1}], "b": {"y": 2}, "c": [3]}
    merged = merge_settings(earlier, {"a+": [4], "b+": 5, "c": [6], "d+": 7})
    assert merged == {"a": [{"x": 1}, 4], "b": [{"y": 2}, 5], "c": [6], "d": [7]}
    merged["a"][0]["x"] = 9
    assert earlier["a"] == [{"x": 1}]


def test_a_list_and_settings_by_name_replace_each_other():
    assert merge_settings({"a": [1]}, {"a": {"b": 2}}) == {"a": {"b": 2}}
    assert merge_settings({"a": {"b": 2}}, {"a": [1]}) == {"a": [1]}
