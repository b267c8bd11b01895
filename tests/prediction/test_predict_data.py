"""``predict --data``: folders of images, meshes and networks, stores and splits."""

import csv
import shutil

import pytest
import torch
import trimesh
from PIL import Image
from safetensors.torch import save_file
from saved import CLASSES, blob_images, rewrite_note, save_checkpoint, save_network, write_images
from test_cli import NETWORK, RUN, TINY, run_folder
from tiny import RECIPE, random_batch

from lightning_dws import INRArchitecture, load_checkpoint
from lightning_dws.cli import main
from lightning_dws.errors import DataError
from lightning_dws.inrs import INRStore, Sampling, Solids, SpokenDigits
from lightning_dws.inrs.preparation import prepare
from lightning_dws.inrs.preparation.fitting_record import FittingRecord
from lightning_dws.inrs.sounds.wav_files import write_wav
from lightning_dws.inrs.store.convention import ImageConvention
from lightning_dws.inrs.store.unfinished import UnfinishedStore
from lightning_dws.prediction.inputs import Reader


@pytest.fixture
def predict(tmp_path, monkeypatch):
    """Predict, in an empty folder of its own; give the CSV's rows."""
    place = tmp_path / "here"
    place.mkdir()
    monkeypatch.chdir(place)
    checkpoint = save_network(tmp_path / "net.ckpt")

    def run(data, *words, path=checkpoint):
        main(["predict", f"--ckpt_path={path}", f"--data={data}", "--output=out.csv", *words])
        with open("out.csv", newline="", errors="surrogateescape") as file:
            return list(csv.DictReader(file))

    return run


@pytest.fixture
def error_of(predict, capsys):
    """Predict what cannot be; give the one line that says why."""

    def run(*args, **kwargs):
        with pytest.raises(SystemExit) as stop:
            predict(*args, **kwargs)
        assert stop.value.code == 1
        [line] = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
        return line

    return run


def refuse_to_fit(monkeypatch):
    def fit(*args, **kwargs):
        raise AssertionError("fitted again")

    monkeypatch.setattr(prepare, "fit_inrs", fit)


def shares(row):
    return [float(row[f"probability {name}"]) for name in CLASSES]


def test_a_folder_of_images_is_fitted_once_and_classified(tmp_path, predict, monkeypatch, capsys):
    folder = tmp_path / "images"
    write_images(folder)
    rows = predict(folder)
    assert [row["name"] for row in rows] == [f"image_{number}.png" for number in range(6)]
    [directory] = (tmp_path / "here" / "data" / "inrs").iterdir()
    found = load_checkpoint(tmp_path / "net.ckpt").predict(INRStore(directory).split("test"))
    expected = sorted(zip(found.class_names, found.probabilities[:, 0].tolist(), strict=True))
    assert sorted((row["prediction"], shares(row)[0]) for row in rows) == [
        (name, pytest.approx(share, abs=1e-6)) for name, share in expected
    ]
    assert all(float(row["psnr"]) > 0 for row in rows)
    assert "6, " in capsys.readouterr().out
    refuse_to_fit(monkeypatch)
    assert predict(folder) == rows


def test_an_inr_is_its_images_whatever_the_file_is_called(tmp_path, predict, monkeypatch, capsys):
    """Renamed, moved, copied, and with others beside it: known ones are not fitted again."""
    before = predict(write_images(tmp_path / "a")[0].parent)
    refuse_to_fit(monkeypatch)
    folder = tmp_path / "b" / "deep" / "right"
    folder.mkdir(parents=True)
    for number in (4, 2):
        shutil.copy(tmp_path / "a" / f"image_{number}.png", folder / f"{number}.png")
    shutil.copy(folder / "4.png", tmp_path / "b" / "copy.png")
    rows = predict(tmp_path / "b")
    assert [(row["name"], row["label"]) for row in rows] == [
        ("copy.png", ""),
        ("deep/right/2.png", "right"),
        ("deep/right/4.png", "right"),
    ]
    assert [shares(row) for row in rows] == [shares(before[number]) for number in (4, 2, 4)]
    assert "% of 2 whose class is known" in capsys.readouterr().out
    assert shares(predict(folder / "2.png")[0]) == shares(before[2])


def test_what_a_killed_process_fitted_is_not_fitted_again(tmp_path, predict, monkeypatch):
    folder = write_images(tmp_path / "images")[0].parent
    with monkeypatch.context() as patch:
        patch.setattr(UnfinishedStore, "publish", lambda self: (_ for _ in ()).throw(OSError()))
        with pytest.raises(SystemExit):
            predict(folder)
    refuse_to_fit(monkeypatch)
    assert len(predict(folder)) == 6


def test_images_of_other_sizes_and_modes_are_converted_and_bad_ones_named(
    tmp_path, predict, capsys
):
    folder = write_images(tmp_path / "images", 1)[0].parent
    Image.fromarray(blob_images(1)[0]).convert("RGBA").resize((60, 50)).save(folder / "large.webp")
    Image.new("I;16", (6, 5), 65535).save(folder / "white.png")
    Image.new("L", (60, 5)).save(folder / "wide.gif")
    (folder / "broken.png").write_text("no image")
    (folder / "notes.txt").write_text("no image either")
    (folder / ".hidden.png").write_text("not looked at")
    for _ in range(2):
        assert [row["name"] for row in predict(folder)] == [
            "image_0.png",
            "large.webp",
            "white.png",
            "wide.gif",
        ]
        said = capsys.readouterr().err
        assert said.count("skipped: broken.png: not a readable image") == 1
        assert "1 image is stretched to 5x6, such as wide.gif of 5x60" in said
        assert "2 images are made grey, such as large.webp" in said


def test_inrs_unlike_those_trained_on_and_what_is_only_assumed_are_told(tmp_path, predict, capsys):
    folder = write_images(tmp_path / "images")[0].parent
    predict(folder)
    assert "INRs are fitted worse" not in capsys.readouterr().err
    path = tmp_path / "net.ckpt"
    record = load_checkpoint(path).record.to_dict()
    assumed = {"kind": "images", "assumed": True}
    rewrite_note(path, inrs=record | {"lowest_psnr": 149.0, "preparation": assumed})
    predict(folder)
    said = capsys.readouterr().err
    assert "6 of 6 INRs are fitted worse than 99 % of those that were trained on (149.0 dB)" in said
    assert "does not say how its images were prepared" in said


def test_names_that_are_exchanged_exchange_their_predictions(tmp_path, predict):
    """A damaged file's reason is kept by its name, which may be another image's next time."""
    folder = write_images(tmp_path / "images", 2)[0].parent
    (folder / "bad.png").write_text("no image")
    rows = predict(folder)
    (folder / "bad.png").rename(folder / "x.png")
    (folder / "image_0.png").rename(folder / "bad.png")
    found = {row["name"]: shares(row) for row in predict(folder)}
    assert found == {"bad.png": shares(rows[0]), "image_1.png": shares(rows[1])}


def test_networks_are_read_and_others_named(tmp_path, predict, error_of, capsys):
    batch, folder = random_batch(size=3), tmp_path / "networks"
    folder.mkdir()
    states = [batch.to_sequential(number).state_dict() for number in range(3)]
    torch.save(states[0], folder / "a.pth")
    torch.save({"state_dict": states[1], "label": 2}, folder / "b.pt")
    save_file(states[2], folder / "c.safetensors")
    other = random_batch(INRArchitecture((2, 7, 1)))
    torch.save(other.to_sequential(0).state_dict(), folder / "d.pth")
    (folder / "e.pth").write_bytes(b"no network")
    rows = predict(folder)
    assert [(row["name"], row["label"], row["psnr"]) for row in rows] == [
        ("a.pth", "", ""),
        ("b.pt", "right", ""),
        ("c.safetensors", "", ""),
    ]
    expected = load_checkpoint(tmp_path / "net.ckpt").predict(batch).probabilities
    found = torch.tensor([shares(row) for row in rows])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    said = capsys.readouterr().err
    assert "skipped: d.pth: an INR of widths (2, 7, 1), the network reads those of" in said
    assert "skipped: e.pth: " in said
    assert "taken for INRs of w0 8, 8, output offset 0.5" in said
    assert "w0 of the first layer is 30, expected 8" in error_of(folder, "--w0", "30")


def test_meshes_are_sampled_and_fitted(tmp_path, predict, error_of, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("lightning_dws.inrs.shapes.base.num_cores", lambda: 0)
    solids = Solids(sampling=Sampling(num_points=100, grid_size=4))
    architecture = INRArchitecture((3, 5, 1), output_offset=0.0)
    path = save_checkpoint(
        tmp_path / "shapes.ckpt", solids, architecture=architecture, recipe=RECIPE
    )
    folder = tmp_path / "meshes"
    folder.mkdir()
    for name in ("a.off", "b.stl"):
        trimesh.creation.box((1, 2, 3)).export(folder / name)
    (folder / "flat.off").write_text("OFF\n3 1 0\n0 0 0\n0 0 0\n0 0 0\n3 0 1 2\n")
    rows = predict(folder, path=path)
    assert [row["name"] for row in rows] == ["a.off", "b.stl"]
    assert "skipped: flat.off: all triangles are degenerate" in capsys.readouterr().err
    refuse_to_fit(monkeypatch)
    assert predict(folder, path=path) == rows
    images = write_images(tmp_path / "images")[0].parent
    assert "found 6 images; expected meshes" in error_of(images, path=path)


def test_sounds_are_fitted_once_whatever_they_are_called(
    predict, error_of, tmp_path, capsys, monkeypatch
):
    spoken = SpokenDigits()
    architecture = INRArchitecture((1, 6, 1), output_offset=0.0)
    path = save_checkpoint(
        tmp_path / "sounds.ckpt", spoken, architecture=architecture, recipe=RECIPE
    )
    folder = tmp_path / "sounds"
    for number, signal in enumerate(spoken.values(torch.tensor([0, 40]))):
        write_wav(folder / f"{number}.wav", signal[:, 0], spoken.rate)
    (folder / "damaged.wav").write_bytes(b"RIFF")
    rows = predict(folder, path=path)
    assert [row["name"] for row in rows] == ["0.wav", "1.wav"]
    assert "skipped: damaged.wav: not a readable WAV file" in capsys.readouterr().err
    refuse_to_fit(monkeypatch)
    assert predict(folder, path=path) == rows
    images = write_images(tmp_path / "images")[0].parent
    assert "found 6 images; expected sounds" in error_of(images, path=path)


def test_a_store_and_a_split_are_predicted_and_compared(tmp_path, predict, error_of, store, capsys):
    rows = predict(store.directory)
    assert len(rows) == 2 * 24 + 6 + 6
    first = store.split("train").object_id[0]
    assert rows[0]["name"] == f"train/{first}/view 0"
    path = tmp_path / "net.ckpt"
    record = load_checkpoint(path).record.to_dict()
    rewrite_note(path, inrs=record | {"store": f"elsewhere/{store.directory.name}"})
    test = predict("test", f"--root={store.directory.parent}")
    assert test == rows[-6:]
    assert [row["label"] for row in test] == [CLASSES[label] for label in store.split("test").label]
    right = sum(row["label"] == row["prediction"] for row in test)
    assert f"accuracy        {100 * right / 6:.1f} % of 6" in capsys.readouterr().out
    assert "the network was trained on is not there" in error_of("test", "--root=nowhere")
    (store.directory / "dataset.json").unlink()
    assert "an unfinished store with 4 shards" in error_of(store.directory)


@pytest.mark.parametrize(
    ("files", "named"),
    [
        ({}, "found no file; expected images, state dicts"),
        ({"a.txt": b"x"}, "found 1 other file, such as a.txt"),
        ({"a.off": b"OFF"}, "found 1 mesh; expected images"),
        (
            {"a.png": b"x", "b.png": b"y"},
            "none of 2 files can be used, first a.png: not a readable",
        ),
        ({"a.pth": b"x"}, "none of 1 file can be used, first a.pth"),
        ({"a.pth": b"x", "a.png": b"x"}, "holds 1 file of weights"),
    ],
)
def test_what_holds_nothing_to_predict_is_one_error(tmp_path, error_of, files, named):
    folder = tmp_path / "folder"
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    assert named in error_of(folder)


def test_a_trained_checkpoint_is_all_that_is_needed(tmp_path, predict, error_of, capsys):
    """Moved away from its run, whose INRs and settings are gone."""
    runs = tmp_path / "runs"
    root = tmp_path / "stores"
    main(
        ["fit", *TINY, *NETWORK, *RUN, f"--data.root={root}", f"--trainer.default_root_dir={runs}"]
    )
    folder = write_images(tmp_path / "images")[0].parent
    rows = predict(folder, f"--runs={runs}", path="best")
    assert (root / "inrs").is_dir()  # the run's own folder of stores, while it is there
    assert predict(folder, f"--runs={runs}", path=run_folder(tmp_path)) == rows
    predict(folder, f"--runs={runs}", path="last")
    assert "last.ckpt" in capsys.readouterr().out
    best = next((run_folder(tmp_path) / "checkpoints").glob("best*"))
    moved = shutil.copy(best, tmp_path / "moved.ckpt")
    shutil.rmtree(runs)
    shutil.rmtree(root)
    assert predict(folder, path=moved) == rows
    rewrite_note(moved, inrs=None)  # of an earlier version: its settings say how
    capsys.readouterr()
    assert predict(folder, path=moved) == rows
    assert (
        "moved.ckpt: does not say how its INRs were fitted; taken from" in capsys.readouterr().err
    )
    rewrite_note(moved, settings=None)
    assert "how its INRs were fitted, nor on what it was" in error_of(folder, path=moved)


def test_runs_that_are_not_there_are_named(tmp_path, error_of):
    line = error_of(tmp_path, f"--runs={tmp_path / 'none'}", path="best")
    assert "no run has left a checkpoint here" in line


def test_classes_of_files_come_from_a_table(predict, error_of, tmp_path, capsys):
    write_images(tmp_path / "files", 4)
    table = tmp_path / "files" / "table.csv"
    table.write_text("image_0.png,left\nimage_1,right\nimage_2.png,other\n")
    rows = predict(tmp_path / "files", "--labels=table.csv")
    assert [row["label"] for row in rows] == ["left", "right", "", ""]
    told = capsys.readouterr()
    assert "of 2 whose class is known" in told.out
    assert "names 1 of 4 files not, such as image_3.png" in told.err
    assert "class 'other', which the network does not know" in told.err
    assert "none.csv: is missing" in error_of(tmp_path / "files", "--labels=none.csv")
    assert "classes of files, whereas test has its own" in error_of("test", f"--labels={table}")


def test_of_imported_volumes_arrays_are_expected(tmp_path):
    inrs = random_batch(INRArchitecture((3, 4, 1)), 6)
    volumes = ImageConvention(is_volume=True)
    store = INRStore.write(tmp_path / "volumes", inrs, CLASSES, convention=volumes)
    record = FittingRecord.of_store(store.directory, store.header, None)
    device = torch.device("cpu")
    reader = Reader(store.architecture, store.classes, lambda: record, tmp_path, device)
    write_images(tmp_path / "images")
    with pytest.raises(DataError, match="found 6 images; expected arrays"):
        reader.read(tmp_path / "images")
