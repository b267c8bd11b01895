"""State dicts that lie anywhere, and a CSV of their classes: split as images are."""

import shutil

import pytest
import torch
from coloured_images import paint
from test_import_sources import SEQUENTIAL, do_import, make_state

from lightning_dws.errors import DataError
from lightning_dws.inrs import ImageFolder

SPLITS = ("train", "val", "test")
NAMES = [f"more/{number}" if number > 7 else str(number) for number in range(20)]
CLASSES = {name: "cat" if number % 2 else "dog" for number, name in enumerate(NAMES)}


def write_flat(root, views=1):
    for seed, name in enumerate(NAMES):
        for view in range(views):
            path = root / f"{name}{f'_view{view}' if views > 1 else ''}.pth"
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.save(make_state(SEQUENTIAL[:2], (2, 3, 1), 10 * seed + view), path)
    return root


def write_table(path, rows):
    path.write_text("".join(",".join(row) + "\n" for row in rows))
    return ["--labels", str(path)]


def contents(store):
    """The numbers in the files' names of each split, and the classes of their objects."""
    return {
        split: [
            (number, store.classes[label])
            for number, label in zip(
                store.split(split).object_id.tolist(),
                store.split(split).label.tolist(),
                strict=True,
            )
        ]
        for split in store.splits
    }


def test_without_splits_they_are_shared_out_as_images_of_the_same_names(tmp_path):
    root = write_flat(tmp_path / "flat")
    labels = write_table(tmp_path / "table.csv", reversed(CLASSES.items()))
    words = [*labels, "--val_share", "0.2", "--test_share", "0.3"]
    store = do_import(root, tmp_path / "store", *words)
    assert store.classes == ("cat", "dog")

    for name in NAMES:
        paint(tmp_path / "images" / f"{name}.png", (9, 9, 9))
    images = ImageFolder(str(tmp_path / "images"), labels=labels[1], val_share=0.2, test_share=0.3)
    for split, count in zip(SPLITS, (10, 4, 6), strict=True):
        order = images.split(split)
        wanted = [
            (int(images._listing.paths[index].stem), images.classes[label])
            for index, label in zip(order.object_id.tolist(), order.label.tolist(), strict=True)
        ]
        assert len(wanted) == count
        assert contents(store)[split] == wanted
    batch = store.split("train")
    state = make_state(SEQUENTIAL[:2], (2, 3, 1), 10 * int(batch.object_id[3]))
    row = torch.cat([tensor.flatten() for tensor in state.values()])
    assert torch.equal(batch.parameters[3], row)


def test_views_of_an_object_are_in_one_split(tmp_path):
    root = write_flat(tmp_path / "flat", views=3)
    rows = [(f"{name}_view{view}", CLASSES[name]) for name in NAMES for view in range(3)]
    words = write_table(tmp_path / "table.csv", rows)
    store = do_import(root, tmp_path / "store", *words)
    found = contents(store)
    assert [store.num_views(split) for split in SPLITS] == [3, 3, 3]
    assert [len(set(found[split])) for split in SPLITS] == [16, 2, 2]
    assert len({number for split in SPLITS for number, _ in found[split]}) == 20

    rows[4] = (rows[4][0], "dog")  # 1_view1, and objects of odd numbers are cats
    words = write_table(tmp_path / "table.csv", rows)
    with pytest.raises(DataError, match=r"'1_view1\.pth' is a view of the same object as '1_view0"):
        do_import(root, tmp_path / "other", *words)


def test_splits_are_as_the_table_says(tmp_path):
    root = write_flat(tmp_path / "flat")
    words = {0: "Training", 1: "valid", 2: "test"}
    rows = [("label", "ID", "split")]
    rows += [(CLASSES[name], name, words[n // 2 % 3]) for n, name in enumerate(NAMES)]
    # the table lies in the folder
    write_table(root / "table.csv", rows)
    found = contents(do_import(root, tmp_path / "store", "--labels", "table.csv"))
    assert sorted(found["val"]) == [(n, CLASSES[NAMES[n]]) for n in (2, 3, 8, 9, 14, 15)]
    assert sorted(found["test"]) == [(n, CLASSES[NAMES[n]]) for n in (4, 5, 10, 11, 16, 17)]

    words = write_table(
        tmp_path / "table.csv", [tuple(c.replace("valid", "train") for c in row) for row in rows]
    )
    store = do_import(root, tmp_path / "cut", *words, "--val_share", "0.3")
    assert [len(part) for part in contents(store).values()] == [10, 4, 6]


def test_files_that_are_not_named_or_not_there_are_told(tmp_path, capsys):
    root = write_flat(tmp_path / "flat")
    (root / "deep" / "er").mkdir(parents=True)
    shutil.copy(root / "0.pth", root / "deep" / "er" / "x.pth")
    (root / "0.ckpt").write_bytes(b"x")
    words = write_table(tmp_path / "table.csv", [*CLASSES.items(), ("later.pth", "cat")])
    with pytest.raises(DataError, match=r"1 bad file, .*--skip-bad: later\.pth: no such file"):
        do_import(root, tmp_path / "store", *words)
    store = do_import(root, tmp_path / "store", *words, "--skip-bad")
    assert sum(map(len, contents(store).values())) == 20
    told = capsys.readouterr().err
    assert f"left out: 1 state dict that {words[1]} does not name, such as deep/er/x.pth" in told
    assert "1 file of weights is not of the layout" in told
    assert "0.ckpt" in told


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty, expected a table of files and their classes"),
        ("0.pth,a\nnotes.txt,b\n", "line 2: 'notes.txt' is no state dict, by its name"),
        ("0.pth,a\n../secret.pth,b\n", "line 2: '../secret.pth', expected a file in"),
        ("x.pth,a\ny.pth,b\n", "line 1: 'x.pth' is no state dict in .* no other line names one"),
        ("0.pth,a,train\n1.pth,b,later\n", "line 2: split 'later', expected train, val or test"),
        ("0.pth,a,train\n1.pth,a,val\n", "no line of split 'test'"),
        ("0.pth,a\n1.pth,b\n", "class 'a' has 1 state dict, too few: its part of split 'train'"),
    ],
)
def test_what_is_no_table_of_classes_is_told(tmp_path, text, message):
    root = write_flat(tmp_path / "flat")
    (root / "notes.txt").write_text("no weights")
    (tmp_path / "table.csv").write_text(text)
    with pytest.raises(DataError, match=message) as error:
        do_import(root, tmp_path / "store", "--labels", str(tmp_path / "table.csv"))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "store" / "dataset.json").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--val_share", "0.2"], "val_share is for files with --labels; .* --num_val"),
        (["--labels", "t.csv", "--num_val", "2"], "num_val is for folders of splits; .*val_share"),
        (["--labels", "t.csv", "--test_share", "0.95"], "must be positive and add up to less"),
        ([], r"no INRs of layout state-dicts.* a CSV of files and classes as the option labels"),
    ],
)
def test_options_that_do_not_fit_are_told(tmp_path, words, message):
    root = write_flat(tmp_path / "flat")
    write_table(root / "t.csv", CLASSES.items())
    with pytest.raises(DataError, match=message):
        do_import(root, tmp_path / "store", *words)


def test_other_layouts_take_no_labels(tmp_path):
    root = write_flat(tmp_path / "flat")
    with pytest.raises(DataError, match="labels are for --format state-dicts, not for multiview"):
        do_import(root, tmp_path / "store", "--labels", "t.csv", format_name="multiview")
