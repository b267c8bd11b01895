"""Classes of files from a CSV: the same signals as of folders that are the classes."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from coloured_images import fill, paint
from scipy.io import wavfile

from lightning_dws.cli import main
from lightning_dws.errors import DataError
from lightning_dws.inrs import ArrayFolder, AudioFolder, ImageFolder, MeshFolder

SPLITS = ("train", "val", "test")
SHARES = {"val_share": 0.25, "test_share": 0.25}


def write_images(root):
    for number in range(12):
        paint(root / f"{number % 2}/{number}.png", (20 * number, 0, 9), seed=number)


def write_arrays(root):
    for number in range(12):
        (root / str(number % 2)).mkdir(parents=True, exist_ok=True)
        np.save(root / f"{number % 2}/{number}.npy", np.arange(8).reshape(2, 2, 2) + number)


def write_sounds(root):
    for number in range(12):
        (root / str(number % 2)).mkdir(parents=True, exist_ok=True)
        tone = np.sin(np.arange(40) * (1 + number))
        wavfile.write(root / f"{number % 2}/{number}.wav", 8000, tone.astype(np.float32))


def write_meshes(root):
    for number in range(12):
        (root / str(number % 2)).mkdir(parents=True, exist_ok=True)
        trimesh.creation.box((1, 1, 1 + number)).export(root / f"{number % 2}/{number}.off")


KINDS = {
    "images": (write_images, ImageFolder),
    "arrays": (write_arrays, ArrayFolder),
    "sounds": (write_sounds, lambda root, **rest: AudioFolder(root, seconds=0.005, **rest)),
    "meshes": (write_meshes, MeshFolder),
}


def order_of(signals, split):
    """What is in a split: the files' names and classes."""
    order = signals.candidates(split) if isinstance(signals, MeshFolder) else signals.split(split)
    names = [Path(signals._listing.describe(index)).name for index in order.object_id.tolist()]
    return names, [signals.classes[label] for label in order.label.tolist()]


@pytest.mark.parametrize("kind", KINDS)
def test_a_table_is_as_good_as_folders(tmp_path, kind):
    write, make = KINDS[kind]
    write(tmp_path / "classes")
    files = sorted((tmp_path / "classes").rglob("*.*"))
    (tmp_path / "flat").mkdir()
    lines = ["quality,Filename,label"]
    for path in reversed(files):
        shutil.copy(path, tmp_path / "flat")
        lines.append(f"good,{path.name},{path.parent.name}")
    (tmp_path / "flat" / "table.csv").write_text("\n".join(lines))
    by_folder = make(str(tmp_path / "classes"), **SHARES)
    by_table = make(str(tmp_path / "flat"), labels="table.csv", **SHARES)  # in the folder
    assert by_table.classes == by_folder.classes == ("0", "1")
    for split in SPLITS:
        assert order_of(by_table, split) == order_of(by_folder, split)
    if not isinstance(by_table, MeshFolder):
        ids = by_table.split("train").object_id
        assert torch.equal(by_table.values(ids), by_folder.values(ids))


@pytest.fixture
def folder(tmp_path):
    """Twelve images, half of them in a folder that says nothing."""
    for number in range(12):
        paint(tmp_path / "files" / ("more" if number > 5 else ".") / f"{number}.png", (9, 9, 9))
    return tmp_path / "files"


def names(count=12):
    return [f"more/{number}.png" if number > 5 else f"{number}.png" for number in range(count)]


def table(folder, text):
    path = folder.parent / "table.csv"
    path.write_text(text)
    return ImageFolder(str(folder), labels=str(path), **SHARES)


def test_what_is_written_otherwise_is_the_same_and_another_class_is_not(folder):
    cells = [(name, f"class {number % 2}") for number, name in enumerate(names())]
    plain = table(folder, "".join(f"{a},{b}\n" for a, b in cells)).name
    assert table(folder, "".join(f"./{a}\t {b}\n" for a, b in cells[::-1])).name == plain
    without = "\ufeffID;split_by;Class\r\n" + "".join(f"{a[:-4]};x;{b}\r\n" for a, b in cells)
    assert table(folder, without).name == plain
    cells[3] = (cells[3][0], "class 0")
    assert table(folder, "".join(f"{a},{b}\n" for a, b in cells)).name != plain


def test_splits_are_as_the_table_says(folder):
    words = {0: "Training", 1: "valid", 2: "test"}
    rows = [f"{words[(n // 2) % 3]},{n % 2},{name}" for n, name in enumerate(names())]
    signals = table(folder, "split,label,file\n" + "\n".join(rows))
    found = {split: sorted(order_of(signals, split)[0]) for split in SPLITS}
    assert found["val"] == sorted(["2.png", "3.png", "8.png", "9.png"])
    assert found["test"] == sorted(["4.png", "5.png", "10.png", "11.png"])
    other = "split,label,file\n" + "\n".join(rows).replace("valid", "test", 1)
    assert table(folder, other).name != signals.name


def test_files_that_are_not_named_or_not_there_are_told(folder, capsys):
    rows = [f"{name},{number % 2}\n" for number, name in enumerate(names(11))]
    signals = table(folder, "".join([*rows, "later.png,1\n"]))
    signals.prepare(dict.fromkeys(SPLITS), show_progress=False)
    assert f"1 image that {folder.parent / 'table.csv'} does not name" in capsys.readouterr().err
    skipped = signals.skipped(dict.fromkeys(SPLITS))
    assert list(skipped) == ["later.png"]
    assert "is missing" in skipped["later.png"]


def test_images_beside_folders_of_classes_are_told(tmp_path, capsys):
    fill(tmp_path, 4)
    paint(tmp_path / "beside.png", (1, 2, 3))
    deep = next(path for path in sorted(tmp_path.iterdir()) if path.is_dir()) / "deep"
    deep.mkdir()
    paint(deep / "below.png", (1, 2, 3))
    ImageFolder(str(tmp_path), **SHARES).prepare({"val": 1}, False)
    said = capsys.readouterr().err
    assert "1 image beside the folders of classes, such as beside.png" in said
    below = (deep / "below.png").relative_to(tmp_path)
    assert f"1 image in folders below those of classes, such as {below}" in said


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty, expected a table of files and their classes"),
        ("file,class\n", "has no line but that of its columns"),
        ("file,size,class,split\n0.png,1,a\n", "line 2: 3 cells, expected 4"),
        ("0.png,a\n1.png\n", "line 2: 1 cell, expected 2"),
        ("file,size\n0.png,1\n", "line 1: 'file' is no image in"),
        ("a,b,c,d\n0.png,1,2,3\n", "columns a, b, c, d; expected 'file' and 'class'"),
        ("img,digit\n0.png,1\n", "line 1: 'img' is no image in"),
        ("0.png,a\n1.png,\n", "line 2: no class"),
        ("0.png,a\n1.png,b\n./0.png,b\n", "line 3: '0.png', which line 1 names too"),
        ("0.png,a\nnotes.txt,b\n", "line 2: 'notes.txt' is no image, by its name"),
        ("0.png,a\n../secret.png,b\n", "line 2: '../secret.png', expected a file in"),
        ("x.png,a\ny.png,b\n", "line 1: 'x.png' is no image in .* no other line names one"),
        ("0.png,a,train\n1.png,b,later\n", "line 2: split 'later', expected train, val or test"),
        ("0.png,a,train\n1.png,b,\n", "line 2: no split, which other lines have"),
        ("0.png,a,train\n1.png,a,val\n", "no line of split 'test'"),
        ("0.png,a,train\n1.png,b,test\n", "line 2: class 'b', which no line of split 'train'"),
        ("0.png,a\n1.png,b\n", "class 'a' has 1 image, too few"),
    ],
)
def test_what_is_no_table_of_classes_is_told(folder, text, message):
    (folder / "notes.txt").write_text("not an image")
    with pytest.raises(DataError, match=message) as error:
        table(folder, text).split("train")
    assert "\n" not in str(error.value)


def test_a_table_that_is_not_there_is_told(folder):
    with pytest.raises(DataError, match=r"elsewhere\.csv: is missing"):
        _ = ImageFolder(str(folder), labels="elsewhere.csv").classes
    with pytest.raises(DataError, match="or a CSV of files and classes as the option labels"):
        _ = ImageFolder(str(folder / "more")).classes


def test_from_the_command_line(folder, tmp_path, capsys):
    (folder / "table.csv").write_text("".join(f"{n},{k % 2}\n" for k, n in enumerate(names())))
    words = [
        "inrs",
        "fit",
        "--config",
        "conf/inrs/image_folder.yaml",
        f"--root={tmp_path / 'data'}",
    ]
    words += [f"--signals.root={folder}", "--signals.labels=table.csv", "--signals.size=[4,4]"]
    words += [f"--signals.{name}={share}" for name, share in SHARES.items()]
    main([*words, "--architecture.widths=[2,4,3]", "--recipe.steps=6"])
    assert (Path(capsys.readouterr().out.split()[-1]) / "dataset.json").exists()
