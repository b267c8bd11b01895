import json
import os
import shutil

import numpy as np
import pytest
import torch
from coloured_images import COLOURS, fill, paint
from PIL import Image

from lightning_dws import INRArchitecture
from lightning_dws.errors import DataError
from lightning_dws.inrs import ImageFolder, INRDatasetSpec, Recipe, Wanted, prepare_store
from lightning_dws.inrs.preparation import prepare as preparation
from lightning_dws.inrs.signals import image_files, image_folder, kept_signals


@pytest.fixture
def pool(tmp_path):
    return fill(tmp_path / "pool")


@pytest.fixture
def given_splits(tmp_path):
    folder = tmp_path / "given"
    for split, count in (("train", 10), ("test", 4), ("valid", 3)):
        fill(folder / split, count)
    return folder


def sizes(data):
    return {name: len(data.split(name)) for name in ("train", "val", "test")}


def test_a_pool_is_split_stratified_and_disjoint(pool):
    data = ImageFolder(str(pool), val_share=0.1, test_share=0.2)
    assert sizes(data) == {"train": 42, "val": 6, "test": 12}
    assert data.classes == ("blue", "green", "red")
    parts = [data.split(name) for name in ("train", "val", "test")]
    assert torch.cat([part.object_id for part in parts]).sort().values.tolist() == list(range(60))
    for part in parts:
        assert torch.bincount(part.label).unique().numel() == 1
        assert torch.equal(part.label, part.object_id // 20)
    again = ImageFolder(str(pool), val_share=0.1, test_share=0.2)
    assert torch.equal(again.split("val").object_id, data.split("val").object_id)


def test_values_are_the_files_pixels(pool):
    data = ImageFolder(str(pool))
    assert data.grid_shape == (5, 6)
    ids = torch.tensor([47, 3, 47])
    values = data.values(ids)
    assert values.shape == (3, 30, 3)
    assert values.dtype == torch.float32
    assert values.min() >= 0
    assert values.max() <= 1
    pixels = torch.tensor(np.array(Image.open(pool / "red" / "007.png")))
    assert torch.equal(values[0], (pixels / 255).flatten(0, 1))
    assert torch.equal(values[0], values[2])
    assert data.values(ids[:0]).shape == (0, 30, 3)
    assert data.coordinates.shape == (30, 2)


def test_given_splits_are_kept(given_splits):
    data = ImageFolder(str(given_splits))
    assert sizes(data) == {"train": 30, "val": 9, "test": 12}
    assert data.split("val").object_id.sort().values.tolist() == list(range(30, 39))
    assert data.split("test").object_id.sort().values.tolist() == list(range(39, 51))
    for name, folder in (("train", "train"), ("val", "valid"), ("test", "test")):
        split = data.split(name)
        paths = [data._listing.paths[index] for index in split.object_id.tolist()]
        assert {path.parents[1].name for path in paths} == {folder}
        assert [path.parent.name for path in paths] == [
            data.classes[label] for label in split.label.tolist()
        ]


def test_validation_is_cut_from_training_where_it_is_not_given(given_splits):
    shutil.rmtree(given_splits / "valid")
    data = ImageFolder(str(given_splits), val_share=0.2)
    assert sizes(data) == {"train": 24, "val": 6, "test": 12}
    assert torch.bincount(data.split("val").label).tolist() == [2, 2, 2]
    ids = torch.cat([data.split(name).object_id for name in ("train", "val")])
    assert ids.sort().values.tolist() == list(range(30))
    assert data.split("test").object_id.min() == 30


def test_nothing_is_decoded_before_it_is_asked_for(pool, monkeypatch):
    decoded = []

    def read_image(path, *args, **options):
        decoded.append(path.name)
        return image_files.read_image(path, *args, **options)

    monkeypatch.setattr(image_folder, "read_image", read_image)
    monkeypatch.setattr(Image.Image, "load", lambda image: pytest.fail("decoded"))
    assert ImageFolder("/no/where").root.name == "where"
    data = ImageFolder(str(pool))
    assert data.name
    assert data.channels == 3
    assert len(data._splits["train"]) == 48
    monkeypatch.undo()
    monkeypatch.setattr(image_folder, "read_image", read_image)
    data.values(torch.tensor([1, 2, 1]))
    data.values(torch.tensor([2, 1]))
    assert decoded == ["001.png", "002.png"]
    monkeypatch.setattr(kept_signals, "MOST_BYTES", 2 * 90)
    for _ in range(2):
        data.values(torch.tensor([4]))
    assert decoded[2:] == ["004.png", "004.png"]


def test_order_and_name_do_not_depend_on_place_or_file_system(pool, tmp_path, monkeypatch):
    data = ImageFolder(str(pool))
    other = tmp_path / "elsewhere" / "pool"
    shutil.copytree(pool, other)
    list_folder = os.listdir
    monkeypatch.setattr(os, "listdir", lambda folder: sorted(list_folder(folder), reverse=True))
    moved = ImageFolder(str(other))
    assert moved.name == data.name
    assert torch.equal(moved.split("train").object_id, data.split("train").object_id)
    assert torch.equal(moved.values(torch.arange(60)), data.values(torch.arange(60)))


def test_the_name_tells_files_and_options_apart(pool):
    name = ImageFolder(str(pool)).name
    assert name.startswith("pool-")
    others = [
        ImageFolder(str(pool), size=(4, 4)).name,
        ImageFolder(str(pool), mode="grey").name,
        ImageFolder(str(pool), val_share=0.2).name,
        ImageFolder(str(pool), test_share=0.2).name,
    ]
    assert ImageFolder(str(pool), size=(5, 6), mode="colour").name == name
    assert ImageFolder(str(pool), name="mine").name == f"mine{name.removeprefix('pool')}"
    path = pool / "red" / "003.png"
    path.rename(pool / "red" / "900.png")
    others.append(ImageFolder(str(pool)).name)
    (pool / "red" / "900.png").rename(pool / "green" / "900.png")
    others.append(ImageFolder(str(pool)).name)
    assert len({name, *others}) == 7


def test_options_without_effect_do_not_change_the_name(given_splits):
    name = ImageFolder(str(given_splits)).name
    assert ImageFolder(str(given_splits), val_share=0.3, test_share=0.3).name == name
    shutil.rmtree(given_splits / "valid")
    name = ImageFolder(str(given_splits)).name
    assert ImageFolder(str(given_splits), test_share=0.3).name == name
    assert ImageFolder(str(given_splits), val_share=0.3).name != name


def test_uncompressed_images_of_equal_size_are_told_apart(tmp_path):
    names = []
    for grey in (50, 51):
        root = tmp_path / str(grey) / "images"
        for label in ("a", "b"):
            for index in range(10):
                (root / label).mkdir(parents=True, exist_ok=True)
                Image.new("L", (5, 5), grey).save(root / label / f"{index}.bmp")
        names.append(ImageFolder(str(root)).name)
    assert names[0] != names[1]


def test_sizes_and_modes(pool):
    paint(pool / "red" / "900.png", COLOURS["red"], size=(30, 20))
    data = ImageFolder(str(pool))
    assert data.grid_shape == (5, 6)
    assert data.values(torch.tensor([60])).shape == (1, 30, 3)
    small = ImageFolder(str(pool), size=(3, 2), mode="grey")
    assert small.grid_shape == (3, 2)
    assert small.values(torch.arange(4)).shape == (4, 6, 1)
    for path in pool.rglob("*.png"):
        with Image.open(path) as image:
            image.convert("L").save(path)
    assert ImageFolder(str(pool)).channels == 1
    assert ImageFolder(str(pool), mode="colour").values(torch.tensor([0])).shape == (1, 30, 3)
    for number, path in enumerate(sorted(pool.rglob("*.png"))):
        Image.new("L", (5 + number, 5)).save(path)
    with pytest.raises(DataError, match="no two images have the same size; give the size"):
        ImageFolder(str(pool)).name  # noqa: B018


def test_hidden_and_other_files_are_left_out(pool):
    expected = ImageFolder(str(pool)).name
    (pool / ".cache").mkdir()
    (pool / "__MACOSX").mkdir()
    (pool / "README.txt").write_text("about")
    (pool / "red" / ".DS_Store").write_bytes(b"x")
    (pool / "red" / "._001.png").write_bytes(b"x")
    (pool / "red" / "labels.csv").write_text("1")
    (pool / "red" / "more.png").mkdir()
    assert ImageFolder(str(pool)).name == expected


def spoil(path):
    content = path.read_bytes()
    path.write_bytes(content[:-30])
    return lambda: path.write_bytes(content)


def prepare(root, data, **options):
    spec = INRDatasetSpec(data, INRArchitecture((2, 4, 3)), Recipe(steps=3, learning_rate=1e-3))
    wanted = Wanted({"train": None, "val": None, "test": None}, {"train": 2})
    return prepare_store(root / spec.store_name, spec, wanted, show_progress=False, **options)


def test_damaged_files_are_skipped_and_told(pool, tmp_path, capsys):
    whole = ImageFolder(str(pool))
    places = {name: whole.split(name).object_id.tolist() for name in ("train", "val", "test")}
    (pool / "red" / "007.png").write_text("no image")
    spoil(pool / "green" / "004.png")
    data = ImageFolder(str(pool))
    for name, ids in places.items():
        assert data.split(name).object_id.tolist() == [i for i in ids if i not in (24, 47)]
    store = prepare(tmp_path, data)
    report = json.loads((store.directory / "skipped.json").read_text())
    assert list(report) == ["green/004.png", "red/007.png"]
    assert all(reason.startswith("not a readable image (") for reason in report.values())
    printed = capsys.readouterr().err
    for name, reason in report.items():
        assert f"skipped: {name}: {reason}\n" in printed
    with pytest.raises(DataError, match=r"green/004\.png: not a readable image"):
        data.values(torch.tensor([24]))


def test_what_is_done_is_not_decoded_again(pool, tmp_path, monkeypatch):
    spoil(pool / "green" / "004.png")
    prepare(tmp_path, ImageFolder(str(pool)))
    monkeypatch.setattr(image_folder, "read_image", lambda *a, **k: pytest.fail("decoded"))
    prepare(tmp_path, ImageFolder(str(pool)))


def test_repaired_files_alone_are_fitted(pool, tmp_path, monkeypatch, capsys):
    sound = prepare(tmp_path / "straight", ImageFolder(str(pool)))
    repairs = [spoil(pool / "red" / "007.png"), spoil(pool / "green" / "004.png")]
    fitted = []
    fit = preparation.fit_inrs

    def fit_inrs(*arguments, **options):
        fitted.extend(options["object_id"].tolist())
        return fit(*arguments, **options)

    first = prepare(tmp_path / "stores", ImageFolder(str(pool)))
    monkeypatch.setattr(preparation, "fit_inrs", fit_inrs)
    repairs[0]()
    second = prepare(tmp_path / "stores", ImageFolder(str(pool)))
    num_views = 2 if 47 in second.split("train").object_id else 1
    assert fitted == [47] * num_views
    assert list(json.loads((second.directory / "skipped.json").read_text())) == ["green/004.png"]
    fitted.clear()
    repairs[1]()
    third = prepare(tmp_path / "stores", ImageFolder(str(pool)))
    assert set(fitted) == {24}
    assert "INRs are taken from an earlier store" in capsys.readouterr().err
    assert not (third.directory / "skipped.json").exists()
    assert third.directory.name == sound.directory.name
    assert len({store.directory for store in (first, second, third)}) == 3
    for path in sound.directory.glob("*.*s*"):
        assert (third.directory / path.name).read_bytes() == path.read_bytes()


def test_other_changes_take_over_nothing(pool, tmp_path, monkeypatch):
    repair = spoil(pool / "green" / "004.png")
    prepare(tmp_path, ImageFolder(str(pool)))
    repair()
    paint(pool / "green" / "005.png", COLOURS["red"])
    fitted = []
    fit = preparation.fit_inrs
    monkeypatch.setattr(
        preparation, "fit_inrs", lambda *a, **k: fitted.extend(k["object_id"]) or fit(*a, **k)
    )
    prepare(tmp_path, ImageFolder(str(pool)))
    assert len(fitted) == 48 * 2 + 12


def test_a_folder_without_a_readable_image_is_one_error(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.png").write_text("x")
    with pytest.raises(DataError, match=r"no image can be read, first .*1\.png"):
        ImageFolder(str(tmp_path)).channels  # noqa: B018


def test_links_that_leave_the_folder_are_refused(pool, tmp_path):
    inside = pool / "red" / "link.png"
    inside.symlink_to(pool / "blue" / "001.png")
    data = ImageFolder(str(pool))
    assert data.split("train").object_id.numel() + 12 == 61
    inside.unlink()
    outside = tmp_path / "secret.png"
    paint(outside, COLOURS["red"])
    for target in (outside, pool / "nothing.png", inside):
        inside.symlink_to(target)
        with pytest.raises(DataError, match=r"red/link\.png: a link to nothing inside"):
            ImageFolder(str(pool)).classes  # noqa: B018
        inside.unlink()
    (pool / "yellow").symlink_to(tmp_path)
    with pytest.raises(DataError, match=r"yellow: a link to nothing inside"):
        ImageFolder(str(pool)).classes  # noqa: B018
    (pool / "yellow").unlink()
    (tmp_path / "alias").symlink_to(pool)
    assert len(ImageFolder(str(tmp_path / "alias")).split("test")) == 6


def test_a_class_with_too_few_images_is_named(pool):
    for path in sorted((pool / "green").iterdir())[2:]:
        path.unlink()
    with pytest.raises(DataError, match=r"class 'green' has 2 images, too few: .*'(val|test)'"):
        ImageFolder(str(pool)).split("train")


def test_a_tiny_folder_is_an_error_not_a_crash(tmp_path):
    paint(tmp_path / "a" / "1.png", COLOURS["red"])
    with pytest.raises(DataError, match="class 'a' has 1 image, too few"):
        ImageFolder(str(tmp_path)).split("train")


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        ((), "no folders of classes"),
        (("a", "b/deep"), "b: no images in it"),
        (("train/a",), "train/ without test/"),
        (("train/a", "val/a"), "train/ without test/"),
        (("train/a", "test/a", "val/a", "valid/a"), r"both val/ and valid/"),
        (("train/a", "test/a", "other/a"), "beside other/"),
        (("train/a", "test/b"), "test/b: a class that train/ does not have"),
        (("train/a", "test/"), "test: no images in it|test: no folders of classes"),
        (("caf\u00e9", "cafe\u0301"), "accents spelt in two ways"),
    ],
)
def test_another_layout_is_explained(tmp_path, folders, message):
    root = tmp_path / "root"
    root.mkdir()
    for folder in folders:
        path = root / folder
        path.mkdir(parents=True)
        if not folder.endswith("/"):
            paint(path / "1.png", COLOURS["red"])
    with pytest.raises(DataError, match=message):
        ImageFolder(str(root)).classes  # noqa: B018


def test_a_class_may_be_called_train(tmp_path):
    for name in ("train", "bus"):
        for index in range(20):
            paint(tmp_path / name / f"{index}.png", COLOURS["red"], seed=index)
    assert ImageFolder(str(tmp_path)).classes == ("bus", "train")


def test_a_missing_folder_is_named():
    with pytest.raises(DataError, match="/no/where: no such folder"):
        ImageFolder("/no/where").split("train")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": (0, 3)}, "size must be"),
        ({"mode": "gray"}, "mode must be one of"),
        ({"val_share": 0.0}, "val_share and test_share must be positive"),
        ({"val_share": 0.5, "test_share": 0.5}, "add up to less than 1, got 0.5 and 0.5"),
        ({"name": "a/b"}, "name must consist of"),
    ],
)
def test_arguments_out_of_their_range_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        ImageFolder("anywhere", **options)
