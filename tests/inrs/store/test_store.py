import hashlib
import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny import EVERYTHING, RECIPE, Blobs, tiny_spec

from lightning_dws import INRArchitecture
from lightning_dws.errors import DataError
from lightning_dws.inrs import INRStore, Wanted, evaluate_inrs, prepare_store
from lightning_dws.inrs.store.index import _sum_of


def shard_of(store, split="train"):
    return sorted(store.directory.glob(f"{split}-*.safetensors"))[0]


def edit_index(store, change):
    path = store.directory / "dataset.json"
    index = json.loads(path.read_text())
    change(index)
    index["sha256"] = _sum_of(index)
    path.write_text(json.dumps(index))


def rewrite_shard(store, change):
    """Alter a shard's tensors and list the altered file with its new size and sum."""
    path = shard_of(store)
    tensors = load_file(path)
    with safe_open(path, framework="pt") as file:
        note = file.metadata()
    change(tensors)
    save_file(tensors, path, note)

    def relist(index):
        entry = next(e for e in index["shards"] if e["file"] == path.name)
        entry["bytes"] = path.stat().st_size
        entry["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()

    edit_index(store, relist)


def test_a_store_tells_what_it_holds(store, spec):
    again = INRStore(store.directory)
    assert again.architecture == spec.architecture
    assert again.classes == ("left", "middle", "right")
    assert again.splits == ("train", "val", "test")
    assert [again.num_objects(s) for s in again.splits] == [24, 6, 6]
    assert [again.num_views(s) for s in again.splits] == [2, 1, 1]
    assert again.header.fingerprint == spec.header.fingerprint


def test_rows_are_the_fitted_inrs_view_after_view(store, spec):
    train = store.split("train")
    order = spec.signals.split("train")
    assert torch.equal(train.object_id, order.object_id.repeat(2))
    assert torch.equal(train.label, order.label.repeat(2))
    assert torch.equal(train.view, torch.arange(2).repeat_interleave(24))
    assert not torch.equal(train.parameters[:24], train.parameters[24:])
    error = evaluate_inrs(train, spec.signals.coordinates) - spec.signals.values(train.object_id)
    psnr = -10 * error.square().mean(dim=(1, 2)).log10()
    torch.testing.assert_close(store.psnr("train"), psnr, rtol=0, atol=1e-3)


def test_a_part_of_a_split_is_a_prefix_of_every_view(store):
    whole, part = store.split("train"), store.split("train", num_objects=5, views=2)
    expected = torch.cat([whole.parameters[:5], whole.parameters[24:29]])
    assert torch.equal(part.parameters, expected)
    assert len(store.split("train", num_objects=5, views=1)) == 5


@pytest.mark.parametrize("wanted", [{"num_objects": 25}, {"views": 3}])
def test_more_than_there_is_is_refused(store, wanted):
    with pytest.raises(DataError, match=r"holds (24|0) objects in view (0|2), \d+ are asked for"):
        store.split("train", **wanted)


def test_an_unknown_split_is_named(store):
    with pytest.raises(DataError, match=r"no split 'training', it has \['train', 'val', 'test'\]"):
        store.split("training")


@pytest.mark.parametrize(
    ("name", "message"),
    [("nowhere", "no INR store"), ("half", "an unfinished store with 1 shard")],
)
def test_what_is_no_store_is_refused(tmp_path, name, message):
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "train-view000-0000000-0000024.safetensors").write_bytes(b"x")
    with pytest.raises(DataError, match=message):
        INRStore(tmp_path / name)


def test_a_missing_shard_is_named(store):
    shard_of(store).unlink()
    with pytest.raises(DataError, match=r"train-view000-.*: the shard is missing"):
        INRStore(store.directory)


def test_a_truncated_shard_is_named(store):
    path = shard_of(store)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(DataError, match=r"train-view000-.* truncated or altered"):
        INRStore(store.directory)


def test_an_altered_shard_is_found_when_it_is_read(store):
    path = shard_of(store)
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(bytes(content))
    reopened = INRStore(store.directory)
    with pytest.raises(DataError, match="SHA-256"):
        reopened.split("train")
    reopened.split("val")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(store, value):
    def spoil(tensors):
        tensors["parameters"][3, 7] = value

    rewrite_shard(store, spoil)
    object_id = int(Blobs().split("train").object_id[3])
    with pytest.raises(DataError, match=rf"weights of object {object_id}, view 0 are not finite"):
        INRStore(store.directory).split("train")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.update(label=t["label"] + 3), "labels from 3 to 5, expected 0 to 2"),
        (lambda t: t.update(view=t["view"] + 1), "holds another view than the 0"),
        (lambda t: t.update(psnr=t["psnr"].double()), "psnr must be torch.float32"),
        (lambda t: t.update(parameters=t["parameters"][:, :-1].clone()), "expected tensors of"),
        (lambda t: t.pop("object_id"), "expected tensors of shapes"),
        (lambda t: t.update(extra=torch.zeros(2)), "expected tensors of shapes"),
    ],
)
def test_shards_of_another_content_are_named(store, change, message):
    rewrite_shard(store, change)
    with pytest.raises(DataError, match=message):
        INRStore(store.directory).split("train")


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'"x"', b"null", b"{}", b"\xff\xfe", b"[" * 100_000, b'{"format": 1}'],
)
def test_a_damaged_index_is_named(store, content):
    (store.directory / "dataset.json").write_bytes(content)
    with pytest.raises(DataError, match=r"dataset\.json"):
        INRStore(store.directory)


@pytest.mark.parametrize(
    "change",
    [
        lambda i: i.update(version=3),
        lambda i: i.pop("architecture"),
        lambda i: i.update(architecture={"widths": [2, 1]}),
        lambda i: i.update(architecture={"widths": "ab"}),
        lambda i: i.update(classes=3),
        lambda i: i.update(shards={}),
        lambda i: i.update(shards=[3]),
        lambda i: i["shards"][0].update(file="../../etc/passwd"),
        lambda i: i["shards"][0].update(start=-1),
        lambda i: i["shards"][0].update(split="else"),
        lambda i: i["shards"].append(i["shards"][0]),
        lambda i: i.update(grid_shape=[0, -4]),
        lambda i: i.update(grid_shape=[8, 8, 8]),
    ],
)
def test_an_index_of_another_kind_is_named(store, change):
    edit_index(store, change)
    with pytest.raises(DataError):
        INRStore(store.directory).split("train")


def test_a_store_of_something_else_is_refused_and_kept(store):
    before = {path.name: path.read_bytes() for path in store.directory.iterdir()}
    others = {
        "architecture": tiny_spec(architecture=INRArchitecture((2, 7, 5, 1), w0=8.0)),
        "seed": tiny_spec(seed=1),
        "recipe": tiny_spec(recipe="fast"),
    }
    for name, other in others.items():
        with pytest.raises(DataError, match=f"a store of another {name}: found .* expected"):
            prepare_store(store.directory, other, Wanted(EVERYTHING, {}), show_progress=False)
    assert {path.name: path.read_bytes() for path in store.directory.iterdir()} == before


def test_other_settings_get_other_folders():
    names = {
        tiny_spec(**change).store_name
        for change in ({}, {"seed": 1}, {"recipe": "fast"}, {"recipe": "published"})
    }
    assert len(names) == 4
    assert tiny_spec().store_name == tiny_spec(recipe=RECIPE).store_name
