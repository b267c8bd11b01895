"""Damaged stores and damaged published files: a DataError, or what the file really holds."""

import json
import os
import pickle
import random
import shutil
import struct
import time
import warnings
import zipfile
from io import BytesIO

import pytest
import torch
from damage import flip_bits, mutate_json, splice, truncate

from lightning_dws import INRArchitecture, WeightBatch
from lightning_dws.errors import DataError
from lightning_dws.inrs import INRStore
from lightning_dws.inrs.formats import LAYOUTS, WRITABLE, INR2Vec, export_inrs, import_inrs
from lightning_dws.inrs.formats.torch_files import parse_torch_file
from lightning_dws.inrs.store import ShardRange, StoreHeader, write_index, write_shard

ARCHITECTURE = INRArchitecture((2, 3, 3, 1))
CPU_LIMIT = 5.0  # seconds of work; waiting for a busy machine is none
WALL_LIMIT = 120.0
CASES = {"store": 600, "inr2vec": 120} | dict.fromkeys(WRITABLE, 130)
JSON_VALUES = (
    "null", "true", "3", "-1", "1e999", "NaN", '""', '"x"', "[]", "[1]", "{}", '{"train": 3}',
    '{"train": []}', '{"train": [3]}', '{"train": [null]}', '{"train": [[]]}', '{"else": []}',
    '{"train": {}}', '{"train": {"path": 3}}', '{"train": {"path": ["a"], "label": []}}',
    '{"train": {"path": ["a"], "label": [{}]}}', '{"train": ["a"], "val": 0}',
    '{"train": ["..\\u0000"]}',
    "[" * 50_000, '{"a":' * 20_000, "9" * 5000, '{"train": ["' + "a/" * 5000 + '"]}',
    "\ufeff{}", "",
)  # fmt: skip


class Evil:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def make_store(directory):
    directory.mkdir(parents=True)
    generator = torch.Generator().manual_seed(0)
    header = StoreHeader(ARCHITECTURE, tuple("0123456789"), "numbers", (4, 4), {}, 0)
    shards, first = [], 0
    for split in ("train", "val", "test"):
        object_id = torch.arange(first, first + 2)
        parameters = torch.randn(2, ARCHITECTURE.num_parameters, generator=generator)
        label = torch.tensor([0, 1])
        batch = WeightBatch(ARCHITECTURE, parameters, label, object_id, torch.zeros_like(label))
        where = ShardRange(split, 0, 0, 2)
        shards.append(
            write_shard(directory, where, batch, torch.full((2,), 20.0), header.fingerprint)
        )
        first += 2
    write_index(directory, header, shards)


def make_inr2vec(directory):
    h5py = pytest.importorskip("h5py")
    for split in ("train", "val", "test"):
        (directory / split).mkdir(parents=True)
        for i in range(2):
            with h5py.File(directory / split / f"{i}.h5", "w") as file:
                file["params"] = torch.randn(ARCHITECTURE.num_parameters).numpy()
                file["class_id"] = i


def random_state(rng, marker):
    """A state dict of a wrong kind, or an almost right one."""
    shapes = {"a.w": (3, 2), "a.b": (3,), "b.w": (3, 3), "b.b": (3,), "c.w": (1, 3), "c.b": (1,)}
    state = {name: torch.randn(shape) for name, shape in shapes.items()}
    name = rng.choice(list(state))
    wrong = (
        state[name].double(),
        state[name].half(),
        state[name].long(),
        state[name] * torch.nan,
        state[name][..., None],
        torch.zeros(0),
        torch.zeros(()),
        torch.zeros(10**6),
        torch.zeros(1).expand(10**3, 10**3),
        state[name].to_sparse(),
        state[name].bfloat16(),
        torch.complex(state[name], state[name]),
        None,
        "text",
        [state[name]],
        {"deep": state[name]},
        Evil(marker),
        3,
        2**70,
        1.5,
    )
    choice = rng.randrange(4)
    if choice == 0:
        del state[name]
    elif choice == 1:
        return rng.choice(
            (wrong[-6], [], 3, None, "x", state[name], {3: state[name]}, Evil(marker))
        )
    else:
        state[name] = rng.choice(wrong)
    return {**state, "label": rng.choice((1, 1, -1, 10**9, 2**80, "1", torch.zeros(2), None))}


def damaged_torch_file(rng, marker):
    buffer = BytesIO()
    kind = rng.randrange(4)
    if kind == 0:
        return pickle.dumps(Evil(marker), protocol=rng.randrange(6))
    if kind == 1:  # right checksums around altered instructions
        torch.save({"a": torch.zeros(3, 2), "label": 1}, buffer)
        alter = rng.choice((flip_bits, truncate, splice))
        changed = BytesIO()
        with zipfile.ZipFile(buffer) as old, zipfile.ZipFile(changed, "w") as new:
            for info in old.infolist():
                content = old.read(info)
                altered = info.filename.endswith("data.pkl") or rng.random() < 0.2
                new.writestr(info.filename, alter(rng, content) if altered else content)
        return changed.getvalue()
    old_format = kind == 2 and rng.random() < 0.3
    state = random_state(rng, marker)
    torch.save(state, buffer, _use_new_zipfile_serialization=not old_format)
    return buffer.getvalue()


def damage_file(rng, path, marker, outside):
    content = path.read_bytes()
    if path.suffix == ".json":
        kind = rng.randrange(3)
        if kind == 0:
            path.write_text(rng.choice(JSON_VALUES))
            return
        if kind == 1:
            path.write_text(json.dumps(mutate_json(rng, json.loads(content))))
            return
    elif path.suffix == ".safetensors" and rng.random() < 0.2:
        size = rng.choice((0, 1, 2**31, 2**63, len(content)))
        path.write_bytes(struct.pack("<Q", size) + content[8:])
        return
    elif path.suffix == ".pth" and rng.random() < 0.5:
        path.write_bytes(damaged_torch_file(rng, marker))
        return
    kind = rng.randrange(8)
    if kind == 0:
        path.unlink()
        path.symlink_to(
            rng.choice((outside, path, path.parent, path.parent / "nowhere", "/dev/zero"))
        )
    elif kind == 1:
        path.unlink()
        rng.choice((path.mkdir, lambda: os.mkfifo(path), lambda: None))()
    else:
        path.write_bytes(rng.choice((flip_bits, flip_bits, truncate, splice))(rng, content))


def damage_tree(rng, root, marker, outside):
    """Spoil a file, a folder or a name; big files get what they are many of."""
    files = [path for path in sorted(root.rglob("*")) if path.is_file()]
    if rng.random() < 0.9:
        lists = [path for path in files if path.suffix == ".json"]
        path = rng.choice(lists) if lists and rng.random() < 0.3 else rng.choice(files)
        damage_file(rng, path, marker, outside)
        return
    path = rng.choice([path for path in root.rglob("*") if path.is_dir()] or files)
    kind = rng.randrange(3)
    if kind == 0:
        path.rename(path.with_name(rng.choice(("x", "randinit_smaller_aug9_1s", "mnist_png__1_2"))))
    elif kind == 1:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        path.symlink_to(rng.choice((outside.parent, root, "/")))
    else:
        (path if path.is_dir() else path.parent).joinpath("net0.pth").write_bytes(b"x")


def read_all(store):
    for split in store.splits:
        inrs = store.split(split)
        assert inrs.parameters.isfinite().all()
        assert len(store.psnr(split)) == len(inrs)


def rows_of(store):
    return {
        row.numpy().tobytes() for split in store.splits for row in store.split(split).parameters
    }


def rows_by_torch(source):
    """Every row of weights that torch itself reads from the source."""
    rows = set()
    for path in source.rglob("*.pth"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickle protocols
            try:
                state = torch.load(path, weights_only=True, map_location="cpu")
                tensors = [
                    value.flatten().float()
                    for name, value in state.items()
                    if name != "label" and isinstance(value, torch.Tensor)
                ]
                rows.add(torch.cat(tensors).numpy().tobytes())
            except Exception:  # what torch refuses has no say
                continue
    return rows


def now():
    return time.process_time(), time.monotonic()


def assert_quick(begin, case=None):
    for end, start, limit in zip(now(), begin, (CPU_LIMIT, WALL_LIMIT), strict=True):
        assert end - start < limit, case


@pytest.mark.parametrize("name", CASES)
def test_damaged_data_ends_in_our_error_or_in_what_it_holds(tmp_path, monkeypatch, name):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # most of the time otherwise
    rng = random.Random(f"fuzz {name}")
    marker, outside, whole = (
        tmp_path / "marker",
        tmp_path / "out" / "secret.pth",
        tmp_path / "whole",
    )
    outside.parent.mkdir()
    torch.save({"w": torch.zeros(3, 2)}, outside)
    make_store(tmp_path / "made")
    if name == "store":
        whole = tmp_path / "made"
        undamaged = rows_of(INRStore(whole))
    elif name == "inr2vec":
        make_inr2vec(whole)
    else:
        export_inrs(WRITABLE[name](), tmp_path / "made", whole, show_progress=False)
        report = import_inrs(WRITABLE[name](), whole, tmp_path / "right", show_progress=False)
        undamaged = rows_of(report.store)
    outcomes = {"refused": 0, "imported": 0}
    for case in range(CASES[name]):
        source, output = tmp_path / "source", tmp_path / "output"
        shutil.copytree(whole, source)
        damage_tree(rng, source, marker, outside)
        begin = now()
        try:
            if name == "store":
                read_all(INRStore(source))
                assert rows_of(INRStore(source)) == undamaged, case
            else:
                layout = INR2Vec(ARCHITECTURE.widths) if name == "inr2vec" else LAYOUTS[name]()
                skip = rng.random() < 0.5
                report = import_inrs(layout, source, output, skip_bad=skip, show_progress=False)
                read_all(report.store)
                if name in WRITABLE:
                    unknown = rows_of(report.store) - undamaged
                    assert not unknown or unknown <= rows_by_torch(source), case
            outcomes["imported"] += 1
        except DataError:
            outcomes["refused"] += 1
            if name != "store":
                assert not (output / "dataset.json").exists(), case
        assert_quick(begin, case)
        assert not marker.exists(), case
        shutil.rmtree(source)
        shutil.rmtree(output, ignore_errors=True)
    assert min(outcomes.values()) > CASES[name] // 40, outcomes


def test_damaged_torch_files_alone(tmp_path):
    """The reader of torch files by itself, where a case costs next to nothing."""
    rng, marker = random.Random("torch files"), tmp_path / "marker"
    buffer = BytesIO()
    torch.save({"a.weight": torch.randn(3, 2), "a.bias": torch.randn(3), "label": 2}, buffer)
    for _ in range(1500):
        alter = rng.choice((flip_bits, truncate, splice, None))
        content = alter(rng, buffer.getvalue()) if alter else damaged_torch_file(rng, marker)
        begin = now()
        try:
            found = parse_torch_file(content, 10**7)
        except DataError:
            continue
        finally:
            assert_quick(begin)
        plain = (torch.Tensor, int, float, str, list, tuple, dict, bytes, type(None))
        assert all(isinstance(value, plain) for value in found.values())
    assert not marker.exists()


def rewrite(path, change):
    state = torch.load(path, weights_only=True)
    torch.save(change(state), path)


def with_wrong_tensor(rng, state):
    name = rng.choice([name for name in state if name != "label"])
    wrong = (torch.Tensor.double, torch.Tensor.long, torch.Tensor.cfloat, lambda t: t * torch.nan)
    wrong += (lambda t: t.double() * 1e300, lambda t: t[..., None], lambda t: t[:0])
    return state | {name: rng.choice(wrong)(state[name])}


def shuffled(rng, state):
    return {name: state[name] for name in rng.sample(list(state), len(state))}


def root_of(path):
    return next(folder for folder in path.parents if folder.name == "source")


def mutate_bytes(rng, path, outside):
    path.write_bytes(rng.choice((flip_bits, truncate, splice))(rng, path.read_bytes()))


def mutate_tensor(rng, path, outside):
    rewrite(path, lambda state: with_wrong_tensor(rng, state))


def mutate_order(rng, path, outside):
    rewrite(path, lambda state: shuffled(rng, state))


def mutate_label(rng, path, outside):
    label = rng.choice((-1, 11, 10**9, 2**80, "1", None, 1.5, torch.zeros(2)))
    rewrite(path, lambda state: state | {"label": label})


def mutate_keys(rng, path, outside):
    key, value = rng.choice((("w0", 3.0), ("seq.9.weight", torch.zeros(3, 3)), ("seq", {})))
    rewrite(path, lambda state: rng.choice(({"net": state, "ema": state}, {**state, key: value})))


def mutate_kind(rng, path, outside):
    path.unlink()
    targets = (outside, path, path.parent, path.parent / "nowhere", "/dev/zero")
    link = rng.choice(targets)
    rng.choice((path.mkdir, lambda: os.mkfifo(path), lambda: path.symlink_to(link)))()


def mutate_to_twin(rng, path, outside):
    other = rng.choice([other for other in whole_files(root_of(path)) if other != path])
    kind = rng.randrange(3)
    if kind == 2:
        shutil.copy(other, path.with_name(rng.choice(("net8.pth", "8_view0.pth"))))
        return
    path.unlink()
    path.symlink_to(other) if kind else shutil.copy(other, path)


def mutate_list(rng, path, outside):
    lists = list(root_of(path).glob("*splits.json"))
    if lists:
        content = lists[0].read_bytes()
        text = rng.choice((flip_bits, truncate, splice))(rng, content)
        changed = json.dumps(mutate_json(rng, json.loads(content))).encode()
        lists[0].write_bytes(rng.choice((text, changed, rng.choice(JSON_VALUES).encode())))
    else:
        path.parent.rename(path.parent.with_name(rng.choice(("x", "randinit_smaller_aug1_x"))))


def mutate_folders(rng, path, outside):
    (path.parent / "cycle").symlink_to(path.parents[1])
    path.parent.joinpath("0" * 200 + ".pth").write_bytes(b"x")


def whole_files(folder):
    return [path for path in sorted(folder.rglob("*.pth")) if path.name != "statistics.pth"]


MUTATIONS = (
    mutate_bytes, mutate_tensor, mutate_order, mutate_label, mutate_keys, mutate_kind,
    mutate_to_twin, mutate_list, mutate_folders,
)  # fmt: skip
NUM_MUTATIONS = 45  # of each layout; 500 were run when this was written


def content_of(store):
    parts = [(split, store.split(split)) for split in store.splits]
    return sorted(
        (split, label, row.numpy().tobytes())
        for split, part in parts
        for label, row in zip(part.label.tolist(), part.parameters, strict=True)
    )


@pytest.mark.parametrize("name", WRITABLE)
def test_no_changed_content_is_imported_without_a_word(tmp_path, monkeypatch, name):
    """Tried is what something can tell: no other valid list, name or file without a checksum."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    rng = random.Random(f"mutations {name}")
    make_store(tmp_path / "made")
    outside, whole = tmp_path / "secret.pth", tmp_path / "whole"
    torch.save({"a.w": torch.zeros(3, 2)}, outside)
    export_inrs(WRITABLE[name](), tmp_path / "made", whole, show_progress=False)
    right = import_inrs(WRITABLE[name](), whole, tmp_path / "right", show_progress=False)
    ordinary = len(right.notes)
    for case in range(NUM_MUTATIONS):
        source, output = tmp_path / "source", tmp_path / "output"
        shutil.copytree(whole, source)
        mutate = MUTATIONS[case % len(MUTATIONS)]
        mutate(rng, rng.choice(whole_files(source)), outside)
        begin = now()
        try:
            report = import_inrs(WRITABLE[name](), source, output, show_progress=False)
        except DataError as error:
            lines = str(error).splitlines()
            assert len(lines) == 1, case
            assert not (output / "dataset.json").exists(), case
        else:
            is_told = len(report.notes) > ordinary
            assert is_told or content_of(report.store) == content_of(right.store), (case, mutate)
        assert_quick(begin, case)
        shutil.rmtree(source)
        shutil.rmtree(output, ignore_errors=True)
