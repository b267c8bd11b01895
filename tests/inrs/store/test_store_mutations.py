"""A small store, changed at random: no command takes changed content for right, none hangs."""

import json
import os
import random
import shutil
import signal
from pathlib import Path

import pytest
from damage import flip_bits, mutate_json, splice, truncate
from tiny import EVERYTHING, Blobs, tiny_spec

from lightning_dws.data import INRDataModule
from lightning_dws.errors import DataError
from lightning_dws.inrs import INRStore, Wanted, prepare_store
from lightning_dws.inrs.preparation import plan
from lightning_dws.inrs.store.verification import verify_store

NUM_MUTATIONS = 60
ALL = Wanted(EVERYTHING, {"train": 2})
TIMEOUT_SECONDS = 60


def mutate_bytes(rng, directory, path):
    change = rng.choice((flip_bits, flip_bits, truncate, splice))
    path.write_bytes(change(rng, path.read_bytes()))


def mutate_index(rng, directory, path):
    """Change ``dataset.json``: anything, or what could look right."""
    path = directory / "dataset.json"
    index = json.loads(path.read_text())
    shards = index["shards"]
    kind = rng.randrange(7)
    if kind == 0:
        rng.shuffle(index["classes"])
    elif kind == 1:
        del shards[rng.randrange(len(shards))]
    elif kind == 2:
        shards.clear()
    elif kind == 3:
        one, other = rng.sample(shards, 2)
        one["sha256"], other["sha256"] = other["sha256"], one["sha256"]
    elif kind == 4:
        name = rng.choice(("w0", "output_offset"))
        index["architecture"][name] = rng.choice((2**70, 1e-300, 7, -1.5, True, None))
    else:
        index = mutate_json(rng, index)
    path.write_text(json.dumps(index))


def mutate_files(rng, directory, path):
    other = rng.choice([p for p in directory.iterdir() if p != path and p.name != ".lock"])
    kind = rng.randrange(5)
    if kind == 0:
        content = path.read_bytes()
        path.write_bytes(other.read_bytes())
        other.write_bytes(content)
    elif kind == 1:
        other.write_bytes(path.read_bytes())
    elif kind == 2:
        path.rename(other)
    elif kind == 3:
        path.unlink()
    else:
        view = rng.choice(("view001", "view002"))
        shutil.copy(path, path.with_name(f"train-{view}-0000024-0000036.safetensors"))


def mutate_kind(rng, directory, path):
    other = rng.choice(list(directory.iterdir()))
    path.unlink()
    target = rng.choice((other, path, directory, directory / "nowhere", Path("/dev/zero")))
    rng.choice((path.mkdir, lambda: os.mkfifo(path), lambda: path.symlink_to(target)))()


MUTATIONS = (mutate_bytes, mutate_bytes, mutate_index, mutate_index, mutate_files, mutate_kind)


def mutate(rng, directory):
    path = rng.choice([p for p in sorted(directory.iterdir()) if p.name != ".lock"])
    change = rng.choice(MUTATIONS)
    change(rng, directory, path)
    return change.__name__, path.name


def content_of(store):
    """What a store holds, as far as anybody can ask it, but for what it is called."""
    inrs = {name: store.split(name) for name in store.splits}
    columns = ("parameters", "label", "object_id", "view")
    tables = [getattr(batch, name).numpy().tobytes() for batch in inrs.values() for name in columns]
    psnr = [store.psnr(name).numpy().tobytes() for name in store.splits]
    return store.header.fingerprint, store.splits, tables, psnr


def open_and_read(directory):
    return content_of(INRStore(directory))


def verify(directory):
    problems = verify_store(directory, Blobs()).problems
    if problems:
        raise DataError(problems[0])
    return content_of(INRStore(directory))


def fit(directory):
    return content_of(prepare_store(directory, tiny_spec(), ALL, show_progress=False))


def train(directory):
    data = INRDataModule(tiny_spec(), directory.parent, directory.name, batch_size=8, views=2)
    data.prepare_data()
    for stage in ("fit", "test"):
        data.setup(stage)
    held = [table.inrs.parameters.numpy().tobytes() for table in data.tables.values()]
    names = list(data.tables)
    store = data.store
    return data.classes, dict(zip(names, held, strict=True)), store.header.fingerprint


class Hang(BaseException):
    pass


def interrupt(*arguments):
    raise Hang


@pytest.fixture
def whole(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # most of the time otherwise
    monkeypatch.setattr(plan, "SHARD_SIZE", 12)
    prepare_store(tmp_path / "whole", tiny_spec(), ALL, show_progress=False)
    return tmp_path / "whole"


def test_no_changed_content_is_taken_for_right(whole, tmp_path):
    commands = (open_and_read, verify, fit, train)
    expected = {command: command(whole) for command in commands}
    rng = random.Random("store mutations")
    refused = dict.fromkeys(commands, 0)
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for number in range(NUM_MUTATIONS):
            state = rng.getstate()
            for command in commands:
                rng.setstate(state)  # the same mutation for each
                directory = tmp_path / "changed"
                shutil.copytree(whole, directory)
                case = (number, command.__name__, *mutate(rng, directory))
                signal.alarm(TIMEOUT_SECONDS)
                try:
                    found = command(directory)
                except DataError:
                    refused[command] += 1
                else:
                    assert found == expected[command], case
                finally:
                    signal.alarm(0)
                    shutil.rmtree(directory)
    finally:
        signal.signal(signal.SIGALRM, before)
    # what inrs fit and a training can make good, such as a lost shard, they do
    assert refused[open_and_read] > 0.6 * NUM_MUTATIONS, refused
    assert refused[fit] > 0.3 * NUM_MUTATIONS, refused
