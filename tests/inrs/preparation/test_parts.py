from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

import pytest
from ranks import on_two_ranks
from tiny import EVERYTHING, tiny_spec

from lightning_dws.cli import main
from lightning_dws.errors import DataError
from lightning_dws.inrs import INRStore, Wanted, prepare_store
from lightning_dws.inrs.preparation import plan
from lightning_dws.inrs.preparation.plan import Part
from lightning_dws.inrs.preparation.prepare import Fitter
from lightning_dws.inrs.store.locks import part_locked

ROOT = Path(__file__).parents[3]
ALL = Wanted(EVERYTHING, {"train": 2})
COMMAND = [
    *["inrs", "fit", "--signals=tiny.Blobs", "--architecture.widths=[2,6,5,1]"],
    *['--recipe={"steps": 5, "learning_rate": 0.005}', "--device=cpu"],
]


def contents(directory: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in directory.iterdir() if p.suffix != ".lock"}


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(plan, "SHARD_SIZE", 5)


@pytest.fixture
def straight(tmp_path, small_shards):
    prepare_store(tmp_path / "straight", tiny_spec(), ALL, show_progress=False)
    return contents(tmp_path / "straight")


def fit(directory, part, wanted=ALL):
    planned = plan.make_plan(directory, tiny_spec(), wanted, show_progress=False)
    Fitter(planned, show_progress=False).fit_part(Part.parse(part))


@pytest.mark.parametrize("count", [1, 3, 20])
def test_parts_make_the_store_that_one_process_makes(tmp_path, straight, count):
    directory = tmp_path / "parts"
    for index in range(count, 0, -1):
        assert not plan.Plan(directory, tiny_spec(), ALL).is_finished()
        fit(directory, f"{index}/{count}")
    assert plan.Plan(directory, tiny_spec(), ALL).is_finished()
    with pytest.raises(DataError, match="unfinished store"):
        INRStore(directory)
    prepare_store(directory, tiny_spec(), ALL, show_progress=False)
    assert contents(directory) == straight
    assert not list(directory.glob(".part*"))


def test_parts_at_the_same_time(tmp_path, straight):
    directory = tmp_path / "parts"
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda index: fit(directory, f"{index}/4"), range(1, 5)))
    prepare_store(directory, tiny_spec(), ALL, show_progress=False)
    assert contents(directory) == straight


def test_parts_are_disjoint_and_complete_and_so_are_their_shares():
    items = list(range(23))
    parts = [Part(index, 3) for index in (1, 2, 3)]
    shares = [part.share(rank, 4) for part in parts for rank in range(4)]
    for some in (parts, shares):
        assert sorted(chain.from_iterable(part.of(items) for part in some)) == items


def test_parts_extend_a_store(tmp_path, straight):
    directory = tmp_path / "grown"
    prepare_store(directory, tiny_spec(), Wanted({"train": 7}, {}), show_progress=False)
    for part in ("1/2", "2/2"):
        fit(directory, part)
    assert INRStore(directory).num_objects("train") == 7
    prepare_store(directory, tiny_spec(), ALL, show_progress=False)
    assert contents(directory) == straight


def test_what_a_lost_part_lacks_is_fitted_at_the_end(tmp_path, straight):
    directory = tmp_path / "parts"
    fit(directory, "1/3")
    prepare_store(directory, tiny_spec(), ALL, show_progress=False)
    assert contents(directory) == straight


def test_a_part_is_fitted_once_at_a_time(tmp_path, small_shards):
    (tmp_path / "parts").mkdir()
    with (
        part_locked(tmp_path / "parts", "2-of-3"),
        pytest.raises(DataError, match="part 2-of-3 is being fitted already"),
    ):
        fit(tmp_path / "parts", "2/3")


@pytest.mark.parametrize("text", ["3", "0/2", "3/2", "a/b", "1/2/3", "-1/2", "1/"])
def test_a_part_that_is_none_is_named(text, capsys):
    with pytest.raises(ValueError, match="part must be K/N with K from 1 to N"):
        Part.parse(text)
    with pytest.raises(SystemExit):
        main([*COMMAND, f"--part={text}"])
    assert "part must be K/N" in capsys.readouterr().err


def test_the_command_publishes_with_the_last_part(tmp_path, capsys):
    places = [f"--root={tmp_path}", "--store=parts"]
    main([*COMMAND, *places, "--part=2/2"])
    assert "part 2/2 is finished" in capsys.readouterr().err
    assert not (tmp_path / "parts" / "dataset.json").exists()
    main([*COMMAND, *places, "--part=1/2"])
    main([*COMMAND, f"--root={tmp_path}", "--store=straight", "--chunk_size=2"])
    assert contents(tmp_path / "parts") == contents(tmp_path / "straight")


def test_two_processes_make_the_same_store(tmp_path):
    main([*COMMAND, f"--root={tmp_path}", "--store=straight"])
    words = [*COMMAND, f"--root={tmp_path}", "--store=fabric", "--devices=2"]
    assert on_two_ranks(main, words) == [None, None]
    assert contents(tmp_path / "fabric") == contents(tmp_path / "straight")
