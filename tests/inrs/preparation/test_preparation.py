import multiprocessing
import os
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch
from tiny import EVERYTHING, Blobs, tiny_spec

from lightning_dws.errors import DataError
from lightning_dws.inrs import INRStore, Recipe, Wanted, prepare_store
from lightning_dws.inrs.preparation import plan
from lightning_dws.inrs.preparation import prepare as preparation
from lightning_dws.inrs.store import index as index_module
from lightning_dws.inrs.store import locks, unfinished
from lightning_dws.inrs.store import shards as shard_files

ALL = Wanted(EVERYTHING, {"train": 2})
SLOW = Recipe(steps=500, learning_rate=5e-3)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(plan, "SHARD_SIZE", 5)


def contents(directory: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in directory.iterdir() if p.suffix != ".lock"}


def prepare(directory, wanted=ALL, spec=None):
    return prepare_store(directory, spec or tiny_spec(), wanted, show_progress=False)


@pytest.fixture
def straight(tmp_path):
    prepare(tmp_path / "straight")
    return contents(tmp_path / "straight")


def test_the_order_of_objects_is_found_out_once(tmp_path, monkeypatch):
    asked = []
    split = Blobs.split
    monkeypatch.setattr(Blobs, "split", lambda own, name: asked.append(name) or split(own, name))
    for wanted in (Wanted({"train": 7}, {}), ALL):  # fitted, then read, checked and extended
        prepare(tmp_path / "store", wanted)
        assert sorted(asked) == sorted(wanted.num_objects)
        asked.clear()


def test_what_is_there_is_not_fitted_again(tmp_path, straight, monkeypatch):
    monkeypatch.setattr(preparation, "fit_inrs", lambda *a, **k: pytest.fail("fitted again"))
    prepare(tmp_path / "straight")
    prepare(tmp_path / "straight", Wanted({"train": 7}, {}))
    assert contents(tmp_path / "straight") == straight


def test_a_store_grown_in_steps_equals_one_fitted_at_once(tmp_path, straight):
    grown = tmp_path / "grown"
    prepare(grown, Wanted({"train": 7, "val": 2, "test": 3}, {}))
    assert INRStore(grown).num_objects("train") == 7
    prepare(grown, Wanted({"train": 11, "val": 2, "test": 3}, {}))
    prepare(grown, Wanted({"train": 11, "val": 2, "test": 3}, {"train": 2}))
    prepare(grown)
    assert contents(grown) == straight


@pytest.mark.parametrize("after", range(0, 12, 3))
def test_a_fit_interrupted_anywhere_ends_in_the_same_bytes(tmp_path, straight, monkeypatch, after):
    directory = tmp_path / "interrupted"
    original, written = shard_files.write_atomically, []

    def write_a_few(path, content):
        if len(written) == after:
            path.with_name(f".{path.name}.1.partial").write_bytes(content[:10])
            raise KeyboardInterrupt
        written.append(path)
        original(path, content)

    for module in (shard_files, index_module):
        monkeypatch.setattr(module, "write_atomically", write_a_few)
    with pytest.raises(KeyboardInterrupt):
        prepare(directory)
    with pytest.raises(DataError, match=r"unfinished store|no INR store"):
        INRStore(directory)
    for module in (shard_files, index_module):
        monkeypatch.setattr(module, "write_atomically", original)
    prepare(directory)
    assert contents(directory) == straight


@pytest.mark.parametrize("at_once", [7, 1000])
def test_shards_fitted_together_as_on_a_gpu_hold_the_same_bytes(
    tmp_path, straight, monkeypatch, at_once
):
    calls = []

    def fit(signals, *arguments, **options):
        calls.append(len(signals))
        return preparation_fit(signals, *arguments, **options)

    preparation_fit = preparation.fit_inrs
    monkeypatch.setattr(preparation, "fit_inrs", fit)
    monkeypatch.setattr(preparation, "inrs_at_once", lambda device: at_once)
    prepare(tmp_path / "grown", Wanted({"train": 7, "val": 6, "test": 1}, {"train": 1}))
    prepare(tmp_path / "grown")  # some shards have a beginning, or nothing new
    assert contents(tmp_path / "grown") == straight
    assert sum(calls) == 2 * 24 + 6 + 6
    assert max(calls) > 5  # a shard's


def test_a_kill_before_old_shards_are_deleted_leaves_nothing_over(tmp_path, straight, monkeypatch):
    directory = tmp_path / "grown"
    prepare(directory, Wanted({"train": 7, "val": 2, "test": 3}, {}))

    def stop(path):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", stop)
        with pytest.raises(KeyboardInterrupt):
            prepare(directory)
    assert len(INRStore(directory).split("train")) == 48
    prepare(directory)
    assert contents(directory) == straight


def test_a_lost_shard_that_is_fitted_to_other_bits_is_listed_anew(tmp_path, straight, monkeypatch):
    """As on another kind of processor."""
    fit = preparation.fit_inrs

    def round_otherwise(*arguments, **options):
        batch, psnr = fit(*arguments, **options)
        return batch.replace(parameters=batch.parameters.nextafter(torch.tensor(torch.inf))), psnr

    next((tmp_path / "straight").glob("val-*")).unlink()
    monkeypatch.setattr(preparation, "fit_inrs", round_otherwise)
    store = prepare(tmp_path / "straight")
    assert len(store.split("val")) == 6
    assert contents(tmp_path / "straight") != straight


def test_a_kill_before_an_extension_is_listed_is_made_good(tmp_path, straight, monkeypatch):
    """The extension only adds shards, so none of them stands for an older one."""
    directory = tmp_path / "grown"
    prepare(directory, Wanted(EVERYTHING, {}))

    def stop(*arguments):
        (directory / ".x.1.partial").write_bytes(b"x")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(unfinished, "write_index", stop)
        with pytest.raises(KeyboardInterrupt):
            prepare(directory)
    assert INRStore(directory).num_views("train") == 1
    assert len(prepare(directory).split("train")) == 48
    assert contents(directory) == straight


def test_an_altered_shard_is_not_extended(tmp_path):
    directory = tmp_path / "grown"
    prepare(directory, Wanted({"train": 7}, {}))
    path = directory / "train-view000-0000005-0000007.safetensors"
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(DataError, match=r"train-view000-0000005-0000007.*SHA-256"):
        prepare(directory, Wanted({"train": 9}, {}))


def test_a_lost_shard_is_fitted_again_even_if_it_is_not_wanted(tmp_path, straight):
    directory = tmp_path / "straight"
    (directory / "train-view000-0000005-0000010.safetensors").unlink()
    prepare(directory, Wanted({"train": 3}, {}))
    assert contents(directory) == straight


def test_a_store_that_is_complete_is_read_where_nothing_can_be_written(
    tmp_path, straight, monkeypatch
):
    def refuse(*arguments, **options):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(locks.FileLock, "acquire", refuse)
    assert len(prepare(tmp_path / "straight").split("train")) == 48
    with pytest.raises(DataError, match="lacks 10 shards and cannot be written"):
        prepare(tmp_path / "straight", Wanted(EVERYTHING, {"train": 4}))


def test_views_may_hold_unlike_numbers_of_objects(tmp_path):
    prepare(tmp_path / "s", Wanted({"train": 6}, {"train": 2}))
    store = prepare(tmp_path / "s", Wanted({"train": 9}, {}))
    assert len(store.split("train")) == len(store.psnr("train")) == 15
    assert len(store.split("train", num_objects=6, views=2)) == 12


def test_a_lost_shard_is_fitted_again(tmp_path, straight):
    directory = tmp_path / "straight"
    (directory / "train-view001-0000005-0000010.safetensors").unlink()
    prepare(directory)
    assert contents(directory) == straight


def test_a_damaged_shard_stops_a_fit_with_one_error(tmp_path, straight):
    path = tmp_path / "straight" / "train-view001-0000005-0000010.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"train-view001-0000005.* truncated or altered"):
        prepare(tmp_path / "straight")


def test_an_unlisted_shard_is_checked(tmp_path, straight):
    directory = tmp_path / "straight"
    (directory / "dataset.json").unlink()
    with pytest.raises(DataError, match="left by an unfinished fit with another"):
        prepare(directory, spec=tiny_spec(seed=3))
    path = directory / "train-view001-0000005-0000010.safetensors"
    content = bytearray(path.read_bytes())
    content[-40] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(DataError, match="altered after it was written"):
        prepare(directory)


def test_more_objects_than_there_are_is_refused(tmp_path):
    with pytest.raises(DataError, match="blobs has 24 objects in split 'train', 25 are asked for"):
        prepare(tmp_path / "store", Wanted({"train": 25}, {}))


def test_a_full_disk_is_one_error_and_loses_nothing(tmp_path, straight, monkeypatch):
    directory = tmp_path / "full"
    replace, count = os.replace, 0

    def fill_up(source, target):
        nonlocal count
        count += 1
        if count > 3:
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fill_up)
    with pytest.raises(DataError, match=r"cannot be written \(No space left on device\)"):
        prepare(directory)
    monkeypatch.setattr(os, "replace", replace)
    assert len(list(directory.glob("*.safetensors"))) == 3
    assert not list(directory.glob("*.partial"))
    prepare(directory)
    assert contents(directory) == straight


def test_a_folder_that_cannot_be_made_is_one_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"file/store: cannot be made \(Not a directory\)"):
        prepare(tmp_path / "file" / "store")


def test_a_diverged_fit_names_its_inr(tmp_path):
    spec = tiny_spec(recipe=Recipe(steps=50, learning_rate=1e30))
    with pytest.raises(DataError, match=r"object_id \d+, view \d diverged"):
        prepare(tmp_path / "store", spec=spec)


def test_two_at_once_do_not_disturb_each_other(tmp_path, straight):
    directory = tmp_path / "shared"
    with ThreadPoolExecutor(3) as pool:
        stores = list(pool.map(lambda _: prepare(directory), range(3)))
    assert contents(directory) == straight
    assert all(len(s.split("train")) == 48 for s in stores)


def fit_slowly(directory: Path) -> None:
    torch.set_num_threads(1)
    plan.SHARD_SIZE = 5
    prepare(directory, spec=tiny_spec(recipe=SLOW))


def start(directory: Path) -> BaseProcess:
    """Fit in a process forked from one that has everything imported already."""
    process = multiprocessing.get_context("forkserver").Process(
        target=fit_slowly, args=(directory,)
    )
    process.start()
    return process


def test_kill_and_concurrent_processes_end_in_the_same_bytes(tmp_path):
    """Killed processes, then two at once: the bytes of one that nobody disturbed."""
    prepare(tmp_path / "straight", spec=tiny_spec(recipe=SLOW))
    disturbed = tmp_path / "disturbed"
    for shards in (1, 4):
        process = start(disturbed)
        while len(list(disturbed.glob("*.safetensors"))) < shards and process.is_alive():
            time.sleep(0.002)
        process.kill()
        process.join()
    assert not (disturbed / "dataset.json").exists()
    both = [start(disturbed), start(disturbed)]
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    assert contents(disturbed) == contents(tmp_path / "straight")


class Measured(Blobs):
    """The same images under the same name; their INRs are measured as well."""

    measures = ("size",)

    def measure(self, inrs):
        return {"size": inrs.parameters.abs().amax(dim=1)}


@pytest.mark.parametrize(("first", "then"), [(Measured, Blobs), (Blobs, Measured)])
def test_a_store_with_other_measures_is_refused_and_stays(tmp_path, first, then):
    some = Wanted({"train": 5, "val": 5, "test": 5}, {})
    prepare(tmp_path, some, tiny_spec(signals=first()))
    before = contents(tmp_path)
    with pytest.raises(DataError, match=r"a store of another measures: found .*, expected"):
        prepare(tmp_path, ALL, tiny_spec(signals=then()))
    assert contents(tmp_path) == before
