import dataclasses
import json
import os
import re

import pytest
import torch
from tiny import EVERYTHING, Blobs, tiny_spec

from lightning_dws.cli import main
from lightning_dws.errors import DataError
from lightning_dws.files import file_sha256
from lightning_dws.inrs import INRStore, Wanted, prepare_store
from lightning_dws.inrs.preparation import plan
from lightning_dws.inrs.preparation import prepare as preparation
from lightning_dws.inrs.store import read_checked_shard, write_index, write_shard
from lightning_dws.inrs.store.verification import verify_store

EVERY_OBJECT = Wanted(EVERYTHING, {"train": 2})


@pytest.fixture
def directory(tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "SHARD_SIZE", 10)
    wanted = Wanted(EVERYTHING, {"train": 2})
    prepare_store(tmp_path / "s", tiny_spec(), wanted, show_progress=False)
    return tmp_path / "s"


def rewrite(directory, name, change):
    """Write a shard anew, changed, with right sums."""
    store = INRStore(directory)
    shards = []
    for shard in store.shards:
        if shard.range.file_name == name:
            batch, psnr = read_checked_shard(directory, shard, store.header)
            fields = [batch.parameters, batch.label, batch.object_id, batch.view, psnr]
            parameters, label, object_id, view, psnr = (field.clone() for field in fields)
            change(parameters, label, object_id, psnr)
            changed = dataclasses.replace(
                batch, parameters=parameters, label=label, object_id=object_id, view=view
            )
            shard = write_shard(directory, shard.range, changed, psnr, store.header.fingerprint)
        shards.append(shard)
    write_index(directory, store.header, shards)


def test_a_sound_store(directory):
    result = verify_store(directory, Blobs())
    assert (result.num_inrs, result.num_rendered, result.problems) == (60, 60, [])
    sampled = verify_store(directory, Blobs(), sample=6)
    assert 24 <= sampled.num_rendered <= 30
    assert verify_store(directory, Blobs(), sample=1).num_rendered == 4
    assert verify_store(directory).num_rendered == 0


def test_the_sum_of_every_shard(directory):
    for number, path in enumerate(sorted(directory.glob("*.safetensors"))):
        content = bytearray(path.read_bytes())
        content[-1 - number] ^= 4
        path.write_bytes(bytes(content))
    result = verify_store(directory, Blobs())
    assert len(result.problems) == len(list(directory.glob("*.safetensors")))
    assert all("SHA-256" in problem for problem in result.problems)


def test_a_missing_shard_hides_no_other_problem(directory):
    (directory / "train-view000-0000010-0000020.safetensors").unlink()
    content = bytearray((directory / "val-view000-0000000-0000006.safetensors").read_bytes())
    content[-1] ^= 1
    (directory / "val-view000-0000000-0000006.safetensors").write_bytes(bytes(content))
    first, second = verify_store(directory).problems
    assert "train-view000-0000010-0000020.safetensors" in first
    assert "val-view000-0000000-0000006.safetensors" in second


def change_psnr(parameters, label, object_id, psnr):
    psnr[3] += 0.2


def repeat_object(parameters, label, object_id, psnr):
    object_id[2], label[2] = object_id[1], label[1]


def repeat_weights(parameters, label, object_id, psnr):
    parameters[4] = parameters[5]


def change_label(parameters, label, object_id, psnr):
    label[0] = (label[0] + 1) % 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (change_psnr, r"object_id \d+, view 1 renders with .* dB are recorded"),
        (repeat_object, r"object_id \d+, view 1 is there twice"),
        (repeat_weights, r"has the weights of object_id \d+, view 1"),
        (change_label, r"has label \d, in another view \d"),
    ],
)
def test_what_no_sum_shows(directory, change, message, capsys):
    name = "train-view001-0000000-0000010.safetensors"
    rewrite(directory, name, change)
    signals = Blobs() if change is change_psnr else None
    [problem] = verify_store(directory, signals).problems
    assert problem.startswith(name)
    assert re.search(message, problem)
    if signals is None:
        with pytest.raises(SystemExit) as stop:
            main(["inrs", "verify", str(directory)])
        assert stop.value.code == 1
        error = capsys.readouterr().err
        assert problem in error
        assert "problems: 1 in 60 INRs" in error


def test_an_object_in_two_splits(directory):
    def borrow(parameters, label, object_id, psnr):
        train = INRStore(directory).split("train", num_objects=1, views=1)
        object_id[0], label[0] = train.object_id[0], train.label[0]

    rewrite(directory, "val-view000-0000000-0000006.safetensors", borrow)
    problems = verify_store(directory).problems
    assert any("is also in split 'train'" in problem for problem in problems)


def test_equal_rows_have_equal_digests_and_others_other_ones():
    from lightning_dws.inrs.store.verification import _digest

    rows = torch.randn(1000, 7)
    rows[500:] = rows[:500]
    rows[0, 0] += 1e-6
    digests = _digest(rows)
    assert torch.equal(digests[1:500], digests[501:])
    assert len(digests.unique()) == 501


def test_the_command(directory, capsys, tmp_path):
    main(["inrs", "verify", str(directory), "--sample", "3"])
    assert "60 INRs verified, none rendered" in capsys.readouterr().out
    with pytest.raises(DataError, match="no INR store"):
        verify_store(tmp_path)


def unknown_psnr(parameters, label, object_id, psnr):
    psnr[1] = torch.nan


def overflowing_weights(parameters, label, object_id, psnr):
    parameters[1] = 3e38


def exchange_objects(parameters, label, object_id, psnr):
    for column in (parameters, label, object_id, psnr):
        column[:2] = column[:2].flip(0)


def unknown_object(parameters, label, object_id, psnr):
    object_id[1] = 2**40


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (unknown_psnr, r"object_id \d+, view 0 has no PSNR"),
        (overflowing_weights, r"object_id \d+, view 0 renders with nan dB"),
        (change_label, r"object_id \d+, view 0 has label \d, in blobs \d"),
        (exchange_objects, r"object_id \d+ in row 0, blobs has \d+ there"),
        (unknown_object, r"object_id 1099511627776 in row 1, blobs has \d+ there"),
    ],
)
def test_what_the_signals_show(directory, change, message):
    rewrite(directory, "val-view000-0000000-0000006.safetensors", change)
    problems = verify_store(directory, Blobs()).problems
    assert re.search(message, problems[0])


def test_more_objects_than_the_signals_have(directory):
    class Fewer(Blobs):
        def split(self, name):
            return super().split(name)[:4]

    problems = verify_store(directory, Fewer()).problems
    assert any("holds objects 0 to 5, blobs has 4 in split 'val'" in line for line in problems)


def test_other_classes_than_the_signals(directory):
    class Renamed(Blobs):
        classes = ("left", "right", "middle")

    [problem] = verify_store(directory, Renamed()).problems
    assert "classes ('left', 'middle', 'right'), those of blobs are ('left', 'right'" in problem


def test_a_shard_in_the_place_of_another_signed_again(directory):
    names = [f"train-view00{view}-0000000-0000010.safetensors" for view in (0, 1)]
    contents = [(directory / name).read_bytes() for name in names]
    store = INRStore(directory)
    for name, content in zip(names, reversed(contents), strict=True):
        (directory / name).write_bytes(content)
    shards = [
        dataclasses.replace(shard, sha256=file_sha256(directory / shard.range.file_name))
        for shard in store.shards
    ]
    write_index(directory, store.header, shards)
    problems = verify_store(directory).problems
    assert [problem.rpartition(" ")[2] for problem in problems] == names[::-1]
    with pytest.raises(DataError, match="holds the INRs of train-view001"):
        INRStore(directory).split("train")


def edit_index(directory, change):
    path = directory / "dataset.json"
    index = json.loads(path.read_text())
    change(index)
    path.write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda i: i["classes"].reverse(), "was changed after it was written"),
        (lambda i: i.update(classes=["a", "b", "c"]), "was changed after it was written"),
        (lambda i: i["shards"].pop(), "was changed after it was written"),
        (lambda i: i.update(shards=[]), "lists no shards"),
        (lambda i: i.pop("sha256"), "was changed after it was written"),
        (lambda i: i.update(version=1), "was changed after it was written"),
        (lambda i: i["architecture"].update(output_offset=2**70), "output_offset 11805"),
        (lambda i: i["architecture"].update(w0=True), "w0 True"),
    ],
)
def test_a_changed_index_is_told_by_whatever_opens_it(directory, change, message):
    edit_index(directory, change)
    for read in (INRStore, verify_store, lambda d: prepare_store(d, tiny_spec(), EVERY_OBJECT)):
        with pytest.raises(DataError, match=message):
            read(directory)


def test_without_its_index_a_store_is_listed_again_and_not_fitted(directory, monkeypatch):
    before = (directory / "dataset.json").read_bytes()
    edit_index(directory, lambda index: index["classes"].reverse())
    (directory / "dataset.json").unlink()
    monkeypatch.setattr(preparation, "fit_inrs", lambda *a, **k: pytest.fail("fitted again"))
    prepare_store(directory, tiny_spec(), EVERY_OBJECT, show_progress=False)
    assert (directory / "dataset.json").read_bytes() == before


def without_sum(index):
    index.update(version=1)
    del index["sha256"]


def test_stores_from_before_the_sum_tell_other_classes_and_dropped_shards(directory):
    edit_index(directory, without_sum)
    assert verify_store(directory, Blobs()).problems == []
    edit_index(directory, lambda index: index["classes"].reverse())
    with pytest.raises(DataError, match=r"of other INRs than dataset\.json describes"):
        INRStore(directory).split("val")
    edit_index(directory, lambda index: (index["classes"].reverse(), index["shards"].pop()))
    [problem] = verify_store(directory).problems
    assert "not listed in dataset.json" in problem


def test_what_is_no_regular_file_is_not_read(directory):
    name = "val-view000-0000000-0000006.safetensors"
    other = "train-view001-0000000-0000010.safetensors"
    (directory / name).unlink()
    os.mkfifo(directory / name)
    (directory / other).unlink()
    (directory / other).symlink_to("/dev/zero")
    problems = verify_store(directory).problems
    assert sorted(problems) == [
        f"{directory / found}: is not a regular file" for found in (other, name)
    ]
    with pytest.raises(DataError, match="is not a regular file"):
        prepare_store(directory, tiny_spec(), EVERY_OBJECT, show_progress=False)
    (directory / "dataset.json").unlink()
    with pytest.raises(DataError, match="is not a regular file"):
        prepare_store(directory, tiny_spec(), EVERY_OBJECT, show_progress=False)
    os.mkfifo(directory / "dataset.json")
    with pytest.raises(DataError, match=r"dataset\.json: is not a regular file"):
        verify_store(directory)
