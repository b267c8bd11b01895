"""The page of ``inrs browse``: what is in the file. What it computes is in ``browser/``."""

import base64
import hashlib
import html
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from saved import CLASSES, save_network
from tiny import random_batch

from lightning_dws import INRArchitecture
from lightning_dws.cli import main
from lightning_dws.errors import DataError
from lightning_dws.inrs import INRStore
from lightning_dws.inrs.store import StoreHeader
from lightning_dws.inrs.store.convention import ImageConvention
from lightning_dws.page import PageContents, choose_inrs, write_page
from lightning_dws.prediction.predicted_classes import PredictedClass, read_predicted_classes

HOSTILE = ("</script><script>alert(1)</script>", "<!--<script>", "&lt;b&gt; @@DATA@@ \udc80 é")
EXACT = torch.tensor([float("1e-45"), -0.0, 3.4028235e38, 1 / 3])


def write_store(folder, num_inrs=30, architecture=None, classes=HOSTILE, views=1):
    batch = random_batch(architecture or INRArchitecture((2, 6, 5, 1), w0=8.0), num_inrs)
    batch.parameters[0, :4] = EXACT
    number = torch.arange(num_inrs)
    batch = batch.replace(
        label=(number // views) ** 2 % len(classes), object_id=number // views, view=number % views
    )
    return INRStore.write(folder, {"train": batch}, classes, psnr={"train": 20.0 + number / 7})


class Page(HTMLParser):
    """The elements of a page, with the text of its scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.open = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.open = tag

    def handle_endtag(self, tag):
        self.open = ""

    def handle_data(self, data):
        self.texts.setdefault(self.open, []).append(data)

    @property
    def data(self):
        return json.loads(self.texts["script"][0])


def browse(folder, *words) -> tuple[str, Page]:
    path = folder / "page.html"
    main(["inrs", "browse", *map(str, words), "--output", str(path)])
    text = path.read_text(encoding="utf-8")
    return text, Page(text)


def test_the_file_needs_no_other(tmp_path, capsys):
    text, page = browse(tmp_path, write_store(tmp_path / "<i>store").directory)
    assert not re.search(r"https?:|//\w+\.|@import|url\(|import\(|fetch\(|XMLHttp", text)
    for tag, attributes in page.elements:
        assert tag not in ("link", "img", "iframe", "base", "object")
        assert not {"src", "href", "srcset", "style"} & attributes.keys()
        assert not any(name.startswith("on") for name in attributes)
    assert capsys.readouterr().out == f"{tmp_path / 'page.html'}: 30 INRs, 0.1 MB\n"


def test_the_policy_allows_its_own_code_alone(tmp_path):
    _, page = browse(tmp_path, write_store(tmp_path / "store").directory)
    [policy] = [a["content"] for tag, a in page.elements if a.get("http-equiv")]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    for name, content in (("script", page.texts["script"][1]), ("style", page.texts["style"][0])):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}';" in policy


def test_weights_come_back_bit_for_bit(tmp_path):
    store = write_store(tmp_path / "store")
    _, page = browse(tmp_path, store.directory)
    rows = np.frombuffer(base64.b64decode(page.data["parameters"]), dtype="<f4")
    batch = store.split("train")
    order = [batch.object_id.tolist().index(int(number)) for number in page.data["object_id"]]
    assert sorted(order) == list(range(30))
    assert rows.tobytes() == batch[order].parameters.numpy().tobytes()
    assert page.data["label"] == batch.label[order].tolist()
    assert page.data["psnr"] == store.psnr("train")[order].tolist()
    assert page.data["architecture"] == store.architecture.to_dict()


def test_names_are_text_and_never_markup(tmp_path):
    store = write_store(tmp_path / "<i>&store")
    text, page = browse(tmp_path, store.directory)
    assert page.data["classes"] == [name.replace("\udc80", "?") for name in HOSTILE]
    assert page.data["title"] == "<i>&store · train"
    assert "".join(page.texts["title"]) == "<i>&store · train"
    assert text.count("<script") == 2
    assert html.escape("<i>&store") in text
    assert "alert(1)</script>" not in text


def test_what_is_not_known_is_null(tmp_path):
    batch = random_batch(size=3)
    store = INRStore.write(tmp_path / "store", {"train": batch}, ())
    _, page = browse(tmp_path, store.directory)
    assert page.data["psnr"] == [None, None, None]
    assert page.data["predictions"] is None
    assert page.data["classes"] == []


def test_inrs_are_spread_over_the_classes_and_views_stay_together(tmp_path):
    store = write_store(tmp_path / "store", 120, classes=("a", "b", "c", "d"), views=3)
    inrs = choose_inrs(store, "train", num_inrs=20, views=2).inrs
    assert len(inrs) == 20
    assert inrs.label.tolist() == sorted(inrs.label.tolist())
    assert inrs.view.tolist() == [0, 1] * 10
    assert torch.equal(inrs.object_id[::2], inrs.object_id[1::2])
    assert len(inrs.object_id.unique()) == 10
    assert set(inrs.label.tolist()) == set(store.split("train").label.tolist())


def test_by_default_a_page_is_small(tmp_path):
    wide = INRArchitecture((2, 128, 128, 1))
    store = write_store(tmp_path / "store", 60, wide)
    contents = choose_inrs(store, "train")
    assert 20 < len(contents.inrs) < 60
    assert 1e6 < write_page(tmp_path / "page.html", contents) < 3e6
    assert len(choose_inrs(store, "train", num_inrs=50).inrs) == 50


@pytest.mark.parametrize(
    ("widths", "convention", "kind"),
    [
        ((1, 4, 2), {}, "line"),
        ((2, 4, 3), {}, "image"),
        ((2, 4, 2), {}, "image"),
        ((2, 4, 4), {"has_alpha": True}, "image"),
        ((3, 4, 1), {}, "shape"),
        ((3, 4, 1), {"is_volume": True}, "volume"),
        ((3, 4, 2), {}, "volume"),  # distances have one output
    ],
)
def test_inrs_of_every_kind_are_shown(tmp_path, widths, convention, kind):
    inrs = random_batch(INRArchitecture(widths), 4)
    header = StoreHeader(
        inrs.architecture, ("a",), "x", (5,) * widths[0], {}, 0, ImageConvention(**convention)
    )
    plain = PageContents("page", header, inrs, torch.zeros(4)).to_dict()
    assert (plain["kind"], plain["has_alpha"]) == (kind, "has_alpha" in convention)
    store = write_store(tmp_path / "store", 4, INRArchitecture(widths))
    _, page = browse(tmp_path, store.directory)
    assert page.data["architecture"]["widths"] == list(widths)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--split", "test"], "no split 'test'"),
        (["--views", "2"], "0 objects in view 1"),
        (["--predictions", "none.csv"], "none.csv: is missing"),
        (["--output", "."], "is a folder"),
    ],
)
def test_errors_are_one_line(tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    store = write_store(tmp_path / "store")
    with pytest.raises(SystemExit) as stop:
        main(["inrs", "browse", str(store.directory), *words])
    assert stop.value.code == 1
    [line] = capsys.readouterr().err.splitlines()
    assert message in line


@pytest.fixture
def predicted(tmp_path, capsys):
    """A store, and what a network says of it, as ``predict --data`` writes it."""
    store = write_store(tmp_path / "store", 12, classes=CLASSES, views=2)
    path = tmp_path / "predictions.csv"
    words = [f"--ckpt_path={save_network(tmp_path / 'net.ckpt')}", f"--data={store.directory}"]
    main(["predict", *words, f"--output={path}"])
    capsys.readouterr()
    return store, path


def test_predictions_of_the_command_are_shown(tmp_path, predicted):
    store, path = predicted
    _, page = browse(tmp_path, store.directory, "--predictions", path, "--views", 2)
    header, *rows = [line.split(",") for line in path.read_text().splitlines()]
    assert header[:3] == ["name", "label", "prediction"]
    wanted = {row[0]: (row[1], row[2], max(map(float, row[4:]))) for row in rows}
    assert len(page.data["predictions"]) == len(wanted) == 12
    shown = zip(
        *(page.data[name] for name in ("object_id", "view", "label", "predictions")), strict=True
    )
    for object_id, view, label, found in shown:
        row = CLASSES[label], found["name"], found["probability"]
        assert row == wanted[f"train/{object_id}/view {view}"]


def test_what_was_not_predicted_is_left_out(tmp_path, predicted):
    store, path = predicted
    some = read_predicted_classes(path)
    some = {key: one for key, one in some.items() if key[0] in (1, 4)}
    inrs = choose_inrs(store, "train", views=2, predictions=some).inrs
    assert sorted(inrs.object_id.tolist()) == [1, 1, 4, 4]
    with pytest.raises(DataError, match="name no INR of its split 'train'"):
        choose_inrs(store, "train", predictions={(99, 0): PredictedClass("left", None)})


def test_predictions_of_the_callback_are_read(tmp_path):
    path = tmp_path / "predictions.csv"
    columns = "object_id,view,label,prediction,probability left,probability a b\n"
    path.write_text(f"{columns}7,0,0,1,0.25,0.75\n-3,2,1,0,0.6,0.4\n")
    assert read_predicted_classes(path) == {
        (7, 0): PredictedClass("a b", 0.75),
        (-3, 2): PredictedClass("left", 0.6),
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("a,b\n1,2\n", "found a, b"),
        ("name,prediction\ncat.png,cat\n", "line 2: expected the name of a store's INR"),
        ("object_id,prediction,probability a\n1,0,0.5\n1,3,0.5\n", "line 3: "),
        ("object_id,prediction,probability a\n1,0,nan\n", "line 2: expected a probability"),
        ("object_id,prediction\n1\n", "line 2 has 1 cell, expected 2"),
        ("\x00\x01\x02" * 50, "expected a table"),
    ],
)
def test_what_is_no_table_of_predictions_is_told(tmp_path, text, message):
    path = tmp_path / "predictions.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message) as error:
        read_predicted_classes(path)
    assert "\n" not in str(error.value)
