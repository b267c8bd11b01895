"""Folders of arrays as signals: volumes, fields of two channels and series, from fit to predict."""

import csv

import numpy as np
import pytest
import torch
from PIL import Image
from saved import save_checkpoint
from tiny import RECIPE

from lightning_dws import INRArchitecture
from lightning_dws.augmentations import Compose, Flip, Rotation, Scaling, Translation
from lightning_dws.cli import main
from lightning_dws.data import INRDataModule
from lightning_dws.data.store_checks import check_augmentations
from lightning_dws.errors import DataError
from lightning_dws.inrs import (
    ArrayFolder,
    INRDatasetSpec,
    INRStore,
    Wanted,
    evaluate_inrs,
    prepare_store,
)
from lightning_dws.inrs.pictures import render_images
from lightning_dws.inrs.preparation.fitting_record import FittingRecord
from lightning_dws.inrs.signals.arrays import array_folder, base, unsorted_arrays, value_ranges
from lightning_dws.inrs.signals.arrays.array_files import read_array
from lightning_dws.inrs.signals.arrays.unsorted_arrays import UnsortedArrays
from lightning_dws.inrs.store.verification import verify_store

SHAPES = {1: (9,), 2: (4, 5, 2), 3: (3, 4, 5)}
EVERY = {"train": None, "val": None, "test": None}


def write_folder(root, shape=SHAPES[3]):
    """Two classes of ten arrays with values from -7 to 12: which half is bright."""
    generator = np.random.default_rng(0)
    for label in ("high", "low"):
        (root / label).mkdir(parents=True)
        for number in range(10):
            values = generator.uniform(-6, 0, shape)
            half = shape[0] // 2
            values[half:] += 10 if label == "high" else 0
            values[:half] += 0 if label == "high" else 10
            values.flat[:2] = -7, 12
            np.save(root / label / f"{number}.npy", values.astype(np.float32))
    return root


def fitted(root, folder, num_axes):
    signals = ArrayFolder(str(root), num_axes)
    widths = (num_axes, 6, signals.channels)
    spec = INRDatasetSpec(signals, INRArchitecture(widths, w0=8.0), RECIPE)
    return prepare_store(folder, spec, Wanted(EVERY, {}), show_progress=False), spec


def test_arrays_are_brought_to_one_range_and_size(tmp_path):
    root = write_folder(tmp_path / "volumes")
    signals = ArrayFolder(str(root))
    assert (signals.grid_shape, signals.channels) == ((3, 4, 5), 1)
    assert signals.value_range == (-7.0, 12.0)
    found = signals.values(torch.tensor([13]))
    raw = torch.from_numpy(np.load(root / "low" / "3.npy"))
    torch.testing.assert_close(found[0, :, 0], (raw.flatten() + 7) / 19)
    assert signals.coordinates[0].tolist() == [-1, -1, -1]
    assert signals.coordinates[1].tolist() == [-0.5, -1, -1]  # x, the last axis, is the first input
    windowed = ArrayFolder(str(root), size=(2, 2, 2), value_range=(-1, 3))
    assert windowed.values(torch.arange(20)).aminmax() == (0, 1)
    assert windowed.values(torch.arange(20)).shape == (20, 8, 1)
    names = {signals.name, windowed.name, ArrayFolder(str(root), value_range=(-7, 13)).name}
    assert len(names) == 3
    assert ArrayFolder(str(root), value_range=(-7, 12)).name == signals.name


def count_reads(monkeypatch):
    """Give a list to which every file that is read is added."""
    read = []

    def read_one(path, num_axes):
        read.append(path.name)
        return read_array(path, num_axes)

    for module in (array_folder, base, unsorted_arrays):
        monkeypatch.setattr(module, "read_array", read_one)
    return read


def test_the_range_of_unchanged_files_is_found_once(tmp_path, monkeypatch):
    root = write_folder(tmp_path / "volumes")
    kept = tmp_path / "cache"
    monkeypatch.setattr(value_ranges, "cache_folder", lambda: kept)
    read = count_reads(monkeypatch)
    first = ArrayFolder(str(root))
    assert first.value_range == (-7.0, 12.0)
    assert len(read) == 20
    again = ArrayFolder(str(root))
    assert (again.name, again.value_range, len(read)) == (first.name, (-7.0, 12.0), 20)
    [path] = kept.iterdir()
    for damaged in (b"", b"[1, 2]", b'["a", 2.0]', b"[2.0, 1.0]"):
        path.write_bytes(damaged)
        assert ArrayFolder(str(root)).value_range == (-7.0, 12.0)
    values = np.load(root / "low" / "3.npy")
    values.flat[5] = 40  # neither the size nor, of a large file, the sampled ends
    np.save(root / "low" / "3.npy", values)
    assert ArrayFolder(str(root)).value_range == (-7.0, 40.0)
    kept.rename(tmp_path / "was")
    kept.write_text("no folder")  # nothing can be kept there
    assert ArrayFolder(str(root)).value_range == (-7.0, 40.0)


def test_files_to_be_predicted_are_read_once(tmp_path, monkeypatch):
    root = write_folder(tmp_path / "volumes")
    paths = sorted(root.rglob("*.npy"))
    read = count_reads(monkeypatch)
    signals = UnsortedArrays(root, paths, (2, 4, 5), 1, (-1.0, 12.0))
    signals.prepare({"test": None}, show_progress=False)
    signals.values(signals.split("test").object_id)
    stretched, clipped = signals.describe_changes()
    assert len(read) == 20
    assert stretched.startswith("20 arrays are stretched to 2x4x5")
    assert clipped.startswith("20 arrays are clipped to -1 to 12")
    known = UnsortedArrays(root, paths, (2, 4, 5), 1, (-1.0, 12.0))  # its INRs are there
    assert known.describe_changes() == [stretched, clipped]
    assert len(read) == 40


def test_arrays_that_are_stretched_are_told(tmp_path, capsys):
    """A field of channels that was taken for a volume is seen by it."""
    root = write_folder(tmp_path / "fields", SHAPES[2])
    some = {"train": 2}
    ArrayFolder(str(root), 3, size=(8, 8, 8)).prepare(some, show_progress=True)
    said = capsys.readouterr().err
    assert "20 of 20 arrays are stretched to 8x8x8, such as one of 4x5x2" in said
    ArrayFolder(str(root), 3, size=(8, 8, 8)).prepare(some, show_progress=False)
    ArrayFolder(str(root), 2).prepare(some, show_progress=True)
    assert capsys.readouterr().err == ""


def test_files_that_cannot_be_used_are_left_out_and_named(tmp_path):
    root = write_folder(tmp_path / "volumes")
    np.save(root / "low" / "3.npy", np.full((3, 4, 5), np.nan))
    np.save(root / "low" / "4.npy", np.zeros((3, 4, 5, 2)))
    np.save(root / "low" / "5.npy", np.array([{}], object), allow_pickle=True)
    signals = ArrayFolder(str(root))
    assert signals.value_range == (-7.0, 12.0)
    reasons = signals.skipped(EVERY)
    assert list(reasons) == ["low/3.npy", "low/4.npy", "low/5.npy"]
    assert reasons["low/3.npy"] == "60 of 60 values are not finite"
    assert reasons["low/4.npy"] == "number of channels 2, expected 1"
    assert "never opened" in reasons["low/5.npy"]


def test_folders_and_options_that_make_no_signals_are_one_line(tmp_path):
    root = write_folder(tmp_path / "volumes")
    with pytest.raises(DataError, match=r"no array can be read, first .*expected 1 axes"):
        _ = ArrayFolder(str(root), num_axes=1).grid_shape
    for number, path in enumerate(sorted(root.rglob("*.npy"))):
        np.save(path, np.full((1, 1, number + 1), 3))
    with pytest.raises(DataError, match="no two arrays have the same size; give the size"):
        _ = ArrayFolder(str(root)).grid_shape
    with pytest.raises(DataError, match="values from 3 to 3; give a value_range"):
        _ = ArrayFolder(str(root), size=(1, 1, 1)).name
    one = ArrayFolder(str(root), size=(1, 1, 1), value_range=(0, 6))  # a single voxel
    assert one.values(torch.tensor([0, 1])).flatten().tolist() == [0.5, 0.5]
    for options, reason in (
        ({"num_axes": 4}, "num_axes must be 1, 2 or 3, got 4"),
        ({"size": (2, 2)}, "size must be 3 numbers of at least 1"),
        ({"size": (2, 0, 2)}, "size must be 3 numbers of at least 1"),
        ({"value_range": (1, 1)}, "value_range must be finite and ascending"),
        ({"value_range": (0, float("nan"))}, "value_range must be finite and ascending"),
    ):
        with pytest.raises(ValueError, match=reason):
            ArrayFolder(str(root), **options)
    (tmp_path / "empty" / "a").mkdir(parents=True)
    with pytest.raises(DataError, match=r"a: no arrays in it; expected .*/a/ARRAY"):
        _ = ArrayFolder(str(tmp_path / "empty")).name


@pytest.mark.parametrize("num_axes", [1, 2, 3])
def test_arrays_are_fitted_verified_drawn_and_predicted(tmp_path, monkeypatch, capsys, num_axes):
    monkeypatch.chdir(tmp_path)
    root = write_folder(tmp_path / "arrays", SHAPES[num_axes])
    store, spec = fitted(root, tmp_path / "data" / "s", num_axes)
    assert verify_store(store.directory, ArrayFolder(str(root), num_axes)).problems == []
    header = INRStore(store.directory).header
    assert header.preparation == {"kind": "arrays", "value_range": [-7.0, 12.0]}
    assert header.convention.is_volume == (num_axes == 3)
    words = [f"--signals.root={root}", f"--signals.num_axes={num_axes}"]
    signals = "--signals=lightning_dws.inrs.ArrayFolder"
    main(["inrs", "show", str(store.directory), "--count=2", signals, *words])
    assert (store.directory / "inrs.png").stat().st_size > 3000

    checkpoint = save_checkpoint(
        tmp_path / "net.ckpt", spec.signals, architecture=spec.architecture, recipe=RECIPE
    )
    predict = ["predict", f"--ckpt_path={checkpoint}", "--output=out.csv"]
    folder = tmp_path / "new" / "left"
    folder.mkdir(parents=True)
    values = np.load(root / "low" / "1.npy")
    np.save(folder / "a.npy", values)
    np.save(folder / "hot.npy", 2 * values)
    np.save(folder / "large.npy", np.repeat(values, 2, axis=0))
    np.save(folder / "nan.npy", values * np.nan)
    capsys.readouterr()
    main([*predict, "--data=new"])
    said = capsys.readouterr().err
    assert "skipped: left/nan.npy: " in said
    assert "1 array is stretched to" in said
    assert "1 array is clipped to -7 to 12, such as hot.npy, which has -14 to 24" in said
    with open("out.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["name"], row["label"]) for row in rows] == [
        (f"left/{name}.npy", "left") for name in ("a", "hot", "large")
    ]
    Image.new("L", (5, 4)).save(tmp_path / "image.png")
    with pytest.raises(SystemExit):
        main([*predict, "--data=image.png"])
    assert "found 1 image; expected arrays" in capsys.readouterr().err


def test_a_volume_is_drawn_as_slices_and_a_shape_is_not(tmp_path, capsys):
    store, spec = fitted(write_folder(tmp_path / "volumes"), tmp_path / "s", 3)
    convention = store.header.convention
    inrs = store.split("test")
    images = render_images(inrs, (3, 4, 5), convention)
    assert images.shape == (2, 11, 11, 1)
    values = evaluate_inrs(inrs, spec.signals.coordinates).view(2, 3, 4, 5)
    torch.testing.assert_close(images[:, 0:4, 0:5, 0], values[:, 1].clamp(0, 1))
    assert render_images(inrs[:0], (3, 4, 5), convention).shape == (0, 11, 11, 1)
    with pytest.raises(SystemExit):
        main(["inrs", "show", str(store.directory), "--mesh", str(tmp_path / "a.obj")])
    assert "mesh is for INRs of shapes, these are of volumes" in capsys.readouterr().err


def test_augmentations_move_a_volume_and_those_of_distances_are_refused(tmp_path):
    store, spec = fitted(write_folder(tmp_path / "volumes"), tmp_path / "s", 3)
    inrs, points = store.split("test"), spec.signals.coordinates
    turned = Rotation(180.0, axis="z").transform(
        inrs, {"matrix": torch.diag(torch.tensor([-1.0, -1.0, 1.0])).expand(2, 3, 3)}
    )
    whole = evaluate_inrs(inrs, points).view(2, 3, 4, 5)
    found = evaluate_inrs(turned, points).view(2, 3, 4, 5)
    torch.testing.assert_close(found, whole.flip(2, 3), atol=1e-5, rtol=1e-4)
    flipped = Flip((2,)).transform(inrs, {"flip": torch.ones(2, 1, dtype=torch.bool)})
    found = evaluate_inrs(flipped, points).view(2, 3, 4, 5)
    torch.testing.assert_close(found, whole.flip(1), atol=1e-5, rtol=1e-4)
    fitting = [Rotation(), Flip((0, 1, 2)), Translation(), Scaling()]
    check_augmentations(fitting, store.header)
    for wrong in (Scaling(rescale_output=True), Compose([Scaling(rescale_output=True)])):
        with pytest.raises(DataError, match="is for signed distances, and these INRs are of vol"):
            check_augmentations([*fitting, wrong], store.header)
    with pytest.raises(DataError, match="axes"):
        check_augmentations([Flip((3,))], store.header)


def test_what_a_checkpoint_says_of_arrays_is_checked(tmp_path):
    store, spec = fitted(write_folder(tmp_path / "volumes"), tmp_path / "s", 3)
    data = INRDataModule(spec, root=str(tmp_path), store="s")
    plain = data.inr_record
    record = FittingRecord.from_dict(plain, "here")
    assert record.preparation == {"kind": "arrays", "value_range": [-7.0, 12.0]}
    assert record.spec(tmp_path, []).signals.value_range == (-7.0, 12.0)
    for wrong in ({}, {"value_range": [1, 0]}, {"value_range": "ab"}, {"value_range": [0, None]}):
        bad = {**plain, "preparation": {"kind": "arrays", **wrong}}
        with pytest.raises(DataError, match="how arrays are read cannot be read"):
            FittingRecord.from_dict(bad, "here").spec(tmp_path, [])
    unknown = FittingRecord.of_store(store.directory, INRStore(store.directory).header, None)
    assert unknown.preparation == record.preparation


def test_a_network_that_is_measured_on_another_range_says_so(tmp_path, capsys):
    root = write_folder(tmp_path / "arrays")
    store, _ = fitted(root, tmp_path / "s", 3)
    for path in root.rglob("*.npy"):
        np.save(path, 2 * np.load(path))
    other, _ = fitted(root, tmp_path / "t", 3)
    quiet = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
    run = [*quiet, "--trainer.logger=false", f"--trainer.default_root_dir={tmp_path / 'runs'}"]
    network = ["--model.network=tiny.FlatMLP", "--test_after_fit=false"]
    data = [f"--data.store={store.directory}", "--data.batch_size=4"]
    main(["fit", *run, *network, *data, "--trainer.max_epochs=1"])
    [last] = tmp_path.rglob("last.ckpt")
    capsys.readouterr()
    main(["test", *run, f"--ckpt_path={last}", f"--data.store={store.directory}"])
    assert "trained on signals" not in capsys.readouterr().err
    main(["test", *run, f"--ckpt_path={last}", f"--data.store={other.directory}"])
    said = "trained on signals with value_range [-7.0, 12.0], these have [-14.0, 24.0]"
    assert said in capsys.readouterr().err
