import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from mesh_examples import (
    BAD,
    CLASSES,
    SAMPLING,
    make_folder,
    make_spec,
    write_bad_meshes,
    write_meshes,
)
from tiny import EVERYTHING

from lightning_dws.errors import DataError
from lightning_dws.inrs import (
    MeshFolder,
    ModelNet40,
    Sampling,
    Wanted,
    evaluate_inrs,
    prepare_store,
)
from lightning_dws.inrs.preparation import plan
from lightning_dws.inrs.preparation import prepare as preparation
from lightning_dws.inrs.preparation.plan import Part, make_plan
from lightning_dws.inrs.preparation.prepare import Fitter
from lightning_dws.inrs.shapes import cache as shape_cache
from lightning_dws.inrs.shapes import modelnet
from lightning_dws.inrs.shapes.meshes import Mesh, normalise
from lightning_dws.inrs.shapes.samples import grid_points, write_sample
from lightning_dws.inrs.shapes.signed_distance import SignedDistance
from lightning_dws.inrs.store.verification import verify_store
from lightning_dws.process_pool import Died

ALL = Wanted(EVERYTHING, {"train": 2})


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return write_meshes(tmp_path_factory.mktemp("meshes") / "sound")


@pytest.fixture
def dirty(tmp_path, sound):
    root = shutil.copytree(sound, tmp_path / "dirty")
    write_bad_meshes(root)
    return root


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def prepare(directory, signals, wanted=ALL):
    return prepare_store(directory, make_spec(signals), wanted, show_progress=False)


def contents(directory):
    return {p.name: p.read_bytes() for p in directory.iterdir() if p.suffix != ".lock"}


def sizes(data):
    return {name: len(data.split(name)) for name in ("train", "val", "test")}


def test_splits_classes_and_order(sound, cache):
    data = make_folder(sound, cache)
    assert data.classes == CLASSES
    assert sizes(data) == {"train": 18, "val": 6, "test": 9}
    train, val, test = (data.split(name) for name in ("train", "val", "test"))
    assert sorted([*train.object_id.tolist(), *val.object_id.tolist()]) == list(range(24))
    assert sorted(test.object_id.tolist()) == list(range(24, 33))
    assert torch.equal(test.label, (test.object_id - 24) // 3)
    for split in (train, val, test):
        assert torch.bincount(split.label).unique().numel() == 1


def test_samples_are_signed_distances_of_the_mesh(sound, cache):
    data = make_folder(sound, cache)
    ids = data.split("train").object_id[:3]
    points, values = data.sample(ids)
    assert points.shape == (3, 300, 3)
    assert values.shape == (3, 300, 1)
    assert points.dtype == values.dtype == torch.float32
    assert points.abs().max() <= 1
    for row, index in enumerate(ids.tolist()):
        function = SignedDistance(normalise(data.load_mesh(index), SAMPLING.margin))
        np.testing.assert_allclose(function(points[row].numpy()), values[row, :, 0], atol=1e-6)
    near = (values.abs() < 0.05).float().mean()
    assert 0.3 < near < 0.7
    assert not torch.equal(points[0], points[1])


def test_samples_depend_on_seed_and_object_alone(sound, tmp_path):
    first = make_folder(sound, tmp_path / "a")
    second = make_folder(sound, tmp_path / "b")
    order = first.split("train").object_id
    one_by_one = [second.first("test", 2), second.sample(order[5:6]), second.sample(order[3:4])]
    points, values = first.sample(order[[5, 3]])
    assert torch.equal(torch.cat([one_by_one[1][0], one_by_one[2][0]]), points)
    assert torch.equal(torch.cat([one_by_one[1][1], one_by_one[2][1]]), values)
    seeded = Sampling(num_points=300, grid_size=12, seed=1)
    other = make_folder(sound, tmp_path / "c", sampling=seeded)
    assert not torch.equal(other.sample(order[5:6])[0], points[:1])
    assert other.name != first.name


def test_points_are_near_the_surface_at_every_scale_and_in_the_cube(sound, cache):
    sampling = Sampling(num_points=4000, near_share=0.75, near_scales=(0.0, 0.02), grid_size=8)
    data = make_folder(sound, cache, sampling=sampling)
    points, values = data.sample(data.split("train").object_id[:1])
    on_surface = values.abs() < 1e-6
    assert on_surface.sum() == pytest.approx(1500, abs=2)
    far = values[~on_surface].abs() > 0.08
    assert far.sum() > 700
    assert points[:, :1000].std() == pytest.approx(float(points[:, 1000:].std()), rel=0.1)


def test_bad_meshes_are_skipped_and_told(dirty, cache, tmp_path, capsys):
    data = make_folder(dirty, cache)
    store = prepare(tmp_path / "store", data)
    assert sum(sizes(data).values()) == 33
    report = json.loads((tmp_path / "store" / "skipped.json").read_text())
    assert report.keys() == BAD.keys()
    printed = capsys.readouterr().err
    for place, reason in BAD.items():
        assert any(part in report[place] for part in reason.split("|"))
        assert f"skipped: {place}: {report[place]}\n" in printed
    assert "skipped 5 in all" in printed
    assert len(store.split("train").object_id.unique()) == len(data.split("train"))
    prepare(tmp_path / "store", data)
    again = capsys.readouterr().err
    assert "skipped: " not in again
    assert "skipped 5 in all" in again


def test_what_is_skipped_changes_no_id_and_no_split(sound, dirty, cache, tmp_path):
    """Replacing good meshes by broken ones leaves the others where they were."""
    root = shutil.copytree(sound, tmp_path / "spoilt")
    before = make_folder(root, cache)
    order = {name: before.split(name).object_id.tolist() for name in EVERYTHING}
    spoilt = before._listing.paths[order["train"][2]], before._listing.paths[order["test"][0]]
    for path in spoilt:
        path.write_text("")
    after = make_folder(root, cache)
    assert after.name != before.name
    order["train"].pop(2)
    order["test"].pop(0)
    assert {name: after.split(name).object_id.tolist() for name in EVERYTHING} == order


def test_repaired_meshes_alone_are_fitted(sound, cache, tmp_path, monkeypatch):
    straight = prepare(tmp_path / "straight" / "store", make_folder(sound, cache))
    root = shutil.copytree(sound, tmp_path / sound.name)
    path = make_folder(root, cache)._listing.paths[0]
    content = path.read_bytes()
    path.write_text("")
    prepare(tmp_path / "stores" / "broken", make_folder(root, cache))
    path.write_bytes(content)
    fit, fitted = preparation.fit_inrs, []
    monkeypatch.setattr(
        preparation, "fit_inrs", lambda *a, **k: fitted.append(k["object_id"]) or fit(*a, **k)
    )
    store = prepare(tmp_path / "stores" / "repaired", make_folder(root, cache))
    assert set(torch.cat(fitted).tolist()) == {0}
    for path in straight.directory.glob("*.*s*"):
        assert (store.directory / path.name).read_bytes() == path.read_bytes()


def test_only_as_many_are_sampled_as_are_wanted(dirty, cache):
    data = make_folder(dirty, cache)
    chosen = data.first("train", 4)
    sampled = len(list(data._cache.folder.glob("*.safetensors")))
    assert len(chosen) == sampled == 4
    assert torch.equal(data.split("train").object_id[:4], chosen.object_id)
    skipped = data.skipped({"train": 4})
    assert skipped.keys() <= BAD.keys()
    assert len(skipped) < len(data.skipped(EVERYTHING))


def test_more_than_there_are_is_refused(dirty, cache, tmp_path):
    with pytest.raises(DataError, match=r"has 9 objects in split 'test', 10 are asked for"):
        prepare(tmp_path / "store", make_folder(dirty, cache), Wanted({"test": 10}, {}))


def test_what_is_sampled_is_not_sampled_again(sound, cache, monkeypatch):
    make_folder(sound, cache).split("train")
    data = make_folder(sound, cache)
    monkeypatch.setattr(MeshFolder, "load_mesh", lambda *a: pytest.fail("sampled again"))
    data.sample(data.split("train").object_id)


@pytest.mark.parametrize("damage", ["cut", "altered", "gone", "other", "shorter"])
def test_a_damaged_sample_is_drawn_again(sound, cache, damage):
    data = make_folder(sound, cache)
    ids = data.split("train").object_id[:2]
    points, values = data.sample(ids)
    path = data._cache._path(int(ids[1]))
    content = bytearray(path.read_bytes())
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "altered":
        content[-30] ^= 1
        path.write_bytes(content)
    elif damage == "gone":
        path.unlink()
    elif damage == "shorter":  # with the right sums, by another program
        sample = data._cache.read(int(ids[1]))
        sample = replace(sample, points=sample.points[:-1], distances=sample.distances[:-1])
        write_sample(path, sample, data.sampling.fingerprint)
    else:
        other = make_folder(sound, cache, sampling=Sampling(num_points=300, grid_size=12, seed=5))
        other.sample(ids)
        shutil.copy(other._cache._path(int(ids[1])), path)
    again = data.sample(ids)
    assert torch.equal(again[0], points)
    assert torch.equal(again[1], values)


def test_a_sample_that_cannot_be_drawn_again_is_one_error(tmp_path, sound, cache):
    root = shutil.copytree(sound, tmp_path / "lost")
    data = make_folder(root, cache)
    index = int(data.split("train").object_id[0])
    data._cache._path(index).unlink()
    data._listing.paths[index].unlink()
    with pytest.raises(DataError, match=r"\.(off|obj): .*not a readable mesh"):
        data.sample(torch.tensor([index]))


def test_a_cache_that_cannot_be_written_is_one_error(sound, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be made"):
        make_folder(sound, tmp_path / "file").split("test")


def test_several_processes_give_the_same_bytes(dirty, tmp_path):
    here = make_folder(dirty, tmp_path / "a")
    elsewhere = make_folder(dirty, tmp_path / "b", num_processes=2)
    assert sizes(here) == sizes(elsewhere)
    assert contents(here._cache.folder) == contents(elsewhere._cache.folder)
    assert not list(here._cache.folder.glob("*.lock"))


def test_the_store_holds_the_measures(sound, cache, tmp_path):
    data = make_folder(sound, cache)
    store = prepare(tmp_path / "store", data)
    inrs, iou, error = (
        store.split("train"),
        store.measure("iou", "train"),
        store.measure("sdf_error", "train"),
    )
    assert len(inrs) == len(iou) == len(error) == len(store.psnr("train")) == 36
    points, values = data.sample(inrs.object_id[:5])
    grid = grid_points(SAMPLING.grid_size)
    for row in range(5):
        inr = inrs[row : row + 1]
        found = evaluate_inrs(inr, points[row]) - values[row]
        assert error[row] == pytest.approx(float(found.abs().mean()), rel=1e-4)
        inside = evaluate_inrs(inr, grid)[0, :, 0] < 0
        mesh = normalise(data.load_mesh(int(inr.object_id)), SAMPLING.margin)
        truth = torch.from_numpy(SignedDistance(mesh).is_inside(grid.numpy().astype(float)))
        expected = (inside & truth).sum() / (inside | truth).sum()
        assert iou[row] == pytest.approx(float(expected), abs=1e-6)
    assert store.header.grid_shape == (12, 12, 12)
    assert (
        "signed distances"
        in json.loads((store.directory / "dataset.json").read_text())["coordinates"]
    )


def test_a_store_grown_in_steps_equals_one_fitted_at_once(sound, cache, tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "SHARD_SIZE", 5)
    data = make_folder(sound, cache)
    prepare(tmp_path / "straight", data)
    data.objects_at_once = 2
    prepare(tmp_path / "grown", data, Wanted({"train": 7, "test": 3}, {}))
    prepare(tmp_path / "grown", data)
    assert contents(tmp_path / "grown") == contents(tmp_path / "straight")


def test_parts_give_the_same_bytes(dirty, tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "SHARD_SIZE", 5)
    spec = make_spec(make_folder(dirty, tmp_path / "a"))
    planned = make_plan(tmp_path / "parts", spec, ALL, show_progress=False)
    for index in (2, 1):
        Fitter(planned, show_progress=False).fit_part(Part(index, 2))
    assert planned.is_finished()
    prepare(tmp_path / "parts", spec.signals)
    prepare(tmp_path / "straight", make_folder(dirty, tmp_path / "b"))
    assert contents(tmp_path / "parts") == contents(tmp_path / "straight")


def test_verification(sound, cache, tmp_path):
    data = make_folder(sound, cache)
    prepare(tmp_path / "store", data)
    result = verify_store(tmp_path / "store", data)
    assert (result.num_rendered, result.problems) == (51, [])
    other = make_folder(sound, cache, sampling=Sampling(num_points=300, grid_size=12, seed=1))
    other.measure = lambda inrs: {"sdf_error": torch.zeros(len(inrs)), "iou": torch.ones(len(inrs))}
    problems = verify_store(tmp_path / "store", other, sample=2).problems
    assert any("has sdf_error 0.0000" in problem for problem in problems)


def test_a_pool_without_splits(sound, cache, tmp_path):
    root = tmp_path / "pool"
    for name in CLASSES:
        shutil.copytree(sound / name / "train", root / name)
    data = make_folder(root, cache, test_share=0.25)
    assert sizes(data) == {"train": 12, "val": 6, "test": 6}


def test_the_name_tells_files_and_options_apart(sound, cache, tmp_path):
    root = shutil.copytree(sound, tmp_path / "copy" / "sound")
    name = make_folder(sound, cache).name
    assert name == make_folder(root, cache).name
    others = [
        make_folder(sound, cache, val_share=0.3).name,
        make_folder(sound, cache, sampling=Sampling(num_points=301, grid_size=12)).name,
        make_folder(sound, cache, name="other").name,
    ]
    assert make_folder(sound, cache, test_share=0.3).name == name
    (root / "box" / "train" / "box_0000.off").write_text("")
    others.append(make_folder(root, cache).name)
    assert len({name, *others}) == 5


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        ((), "no folders of classes"),
        (("a/train",), "no meshes in any .*test"),
        (("a/train", "a/test", "b/"), None),
        (("a/train", "a/test", "b"), "some classes have the folders"),
        (("a/train", "a/other"), "expected .*train/ and .*test/"),
        (("a/train", "a/test", "a/val", "a/valid"), "both val/ and valid/"),
    ],
)
def test_another_layout_is_explained(tmp_path, cache, sound, folders, message):
    root = tmp_path / "root"
    root.mkdir()
    for folder in folders:
        (root / folder).mkdir(parents=True)
        if not folder.endswith("/"):
            for number in range(3):
                mesh = sound / "box" / "train" / f"box_{number:04d}.off"
                shutil.copy(sound / "box" / "train" / "box_0000.off", root / folder / mesh.name)
    data = make_folder(root, cache)
    if message is None:
        assert data.classes == ("a", "b")
        return
    with pytest.raises(DataError, match=message):
        data.classes  # noqa: B018


def test_other_files_are_left_out_and_links_stay_inside(sound, cache, tmp_path, capsys):
    root = shutil.copytree(sound, tmp_path / "sound")
    expected = make_folder(root, cache).name
    (root / "README.txt").write_text("about")
    (root / "box" / "train" / "box.mtl").write_text("x")
    (root / "box" / "train" / ".DS_Store").write_text("x")
    (root / "box" / "train" / "wheel.mtl").write_text("x")
    (root / "box" / "test" / "more").mkdir()
    shutil.copy(root / "box" / "train" / "box_0000.off", root / "box")
    data = make_folder(root, cache)
    assert data.name == expected
    data.prepare({"test": 1}, show_progress=False)
    told = [line for line in capsys.readouterr().err.splitlines() if "left out" in line]
    assert [line.rpartition("left out of ")[2] for line in told] == [
        f"{root}: 2 files .mtl, which no reader takes (such as box/train/box.mtl)",
        f"{root}: 1 folder where meshes are expected (such as box/test/more)",
        f"{root}: 1 mesh beside the folders of splits (such as box/box_0000.off)",
    ]
    os.symlink(tmp_path, root / "box" / "train" / "link.off")
    with pytest.raises(DataError, match="a link to nothing inside"):
        make_folder(root, cache).name  # noqa: B018


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_points": 0}, "num_points must be at least 1"),
        ({"near_share": 1.5}, r"near_share must be in \[0, 1\]"),
        ({"near_scales": ()}, "near_scales must be numbers"),
        ({"margin": 1.0}, r"margin must be in \[0, 1\)"),
        ({"grid_size": 1}, "grid_size must be in"),
    ],
)
def test_arguments_out_of_their_range_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        Sampling(**options)
    with pytest.raises(ValueError, match="num_processes must not be negative"):
        MeshFolder("anywhere", num_processes=-1)
    with pytest.raises(ValueError, match="val_share and test_share"):
        MeshFolder("anywhere", val_share=0.0)


def test_modelnet_reads_a_folder_and_downloads_nothing(sound, cache, monkeypatch):
    monkeypatch.setattr(modelnet, "_download", lambda number: pytest.fail("downloads"))
    data = ModelNet40(str(sound), sampling=SAMPLING, cache=str(cache), num_processes=0)
    assert data.classes == CLASSES
    assert data.name.startswith("modelnet40-")


def test_a_download_without_a_network_is_one_error(monkeypatch, tmp_path):
    from torch_geometric.datasets import ModelNet

    def refuse(self):
        raise OSError("no network")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(ModelNet, "download", refuse)
    with pytest.raises(DataError, match=r"ModelNet40 could not be downloaded .*no network.*root"):
        ModelNet40().name  # noqa: B018


def test_the_download_is_unpacked_meshes(monkeypatch, tmp_path, sound):
    from torch_geometric.datasets import ModelNet

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(
        ModelNet, "download", lambda self: shutil.copytree(sound, self.raw_dir, dirs_exist_ok=True)
    )
    assert ModelNet40(sampling=SAMPLING).classes == CLASSES


def test_an_interrupted_download_is_begun_again(monkeypatch, tmp_path, sound):
    import zipfile

    archive = tmp_path / "lightning_dws" / "modelnet40" / "ModelNet40.zip"
    shutil.make_archive(str(tmp_path / "whole"), "zip", sound)
    whole = (tmp_path / "whole.zip").read_bytes()
    archive.parent.mkdir(parents=True)
    archive.write_bytes(whole[: len(whole) // 2])

    def download(url, folder):
        """As torch-geometric's: a file that is there is taken for a whole one."""
        if not archive.exists():
            with zipfile.ZipFile(archive, "w") as file:
                for path in sound.rglob("*.off"):
                    file.write(path, f"ModelNet40/{path.relative_to(sound)}")
        return str(archive)

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("torch_geometric.datasets.modelnet.download_url", download)
    assert set(ModelNet40(sampling=SAMPLING).classes) <= set(CLASSES)
    assert not archive.exists()


def test_a_mesh_that_upsets_a_library_is_skipped(sound, cache, monkeypatch):
    data = make_folder(sound, cache)
    victim = int(data.candidates("train").object_id[0])
    load = MeshFolder.load_mesh

    def upset(self, object_id):
        if object_id == victim:
            raise OverflowError("high - low\nrange exceeds valid bounds")
        return load(self, object_id)

    monkeypatch.setattr(MeshFolder, "load_mesh", upset)
    assert victim not in data.split("train").object_id.tolist()
    (reason,) = data.skipped({"train": None}).values()
    assert reason == "cannot be sampled (OverflowError: high - low range exceeds valid bounds)"


def test_the_tiniest_mesh_is_normalised(sound, cache):
    mesh = make_folder(sound, cache).load_mesh(0)
    tiny = normalise(Mesh(mesh.vertices * 1e-200, mesh.faces), 0.1)
    np.testing.assert_allclose(tiny.vertices, normalise(mesh, 0.1).vertices, atol=1e-12)


def test_a_process_that_dies_is_tried_again_by_the_next_run(sound, cache, monkeypatch):
    def all_die(function, items, num_processes):
        yield from ((item, Died()) for item in items)

    with monkeypatch.context() as patch:
        patch.setattr(shape_cache, "map_in_processes", all_die)
        data = make_folder(sound, cache)
        assert len(data.split("train")) == 0
        assert set(data.skipped({"train": None}).values()) == {shape_cache._DEATH}
    assert len(make_folder(sound, cache).split("train")) == 18


def test_a_store_is_not_extended_where_other_objects_come_first(
    sound, cache, tmp_path, monkeypatch
):
    monkeypatch.setattr(plan, "SHARD_SIZE", 4)
    first = Wanted({"train": 6}, {})
    prepare(tmp_path / "store", make_folder(sound, cache), first)
    data = make_folder(sound, cache)
    data.prepare({"train": 6}, show_progress=False)
    name = data.describe(int(data.candidates("train").object_id[1]))
    data.usable.recall((), {name: "cannot be used any more"})
    with pytest.raises(DataError, match=r"train-.*: holds other objects than .* has there now"):
        prepare(tmp_path / "store", data, Wanted({"train": 10}, {}))
    prepare(tmp_path / "store", make_folder(sound, cache), Wanted({"train": 10}, {}))


def test_a_cache_folder_that_is_read_only_is_one_error(sound, cache, monkeypatch):
    def refuse(self, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(shape_cache.FileLock, "acquire", refuse)
    with pytest.raises(DataError, match=r"cache.*: cannot be written \(Permission denied\)"):
        make_folder(sound, cache).split("train")


def test_files_that_cannot_be_opened_are_skipped(sound, cache, tmp_path):
    root = shutil.copytree(sound, tmp_path / "unreadable")
    (root / "ball" / "train" / "gone.off").symlink_to("nothing.off")
    (root / "box" / "train" / "loop.off").symlink_to("loop.off")
    data = make_folder(root, cache)
    assert sizes(data)["train"] + sizes(data)["val"] == 24
    skipped = data.skipped({"train": None, "val": None, "test": None})
    assert set(skipped) == {"ball/train/gone.off", "box/train/loop.off"}
    assert all("not a readable mesh" in reason for reason in skipped.values())


def test_pipes_and_devices_are_skipped_and_never_read(sound, cache, tmp_path):
    root = shutil.copytree(sound, tmp_path / "meshes")
    os.mkfifo(root / "ball" / "train" / "pipe.off")
    skipped = make_folder(root, cache).skipped(EVERYTHING)
    assert skipped == {"ball/train/pipe.off": "not a readable mesh: not a regular file"}
