"""Stores of INRs from shared starts: recorded, and the same bytes however they came about."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny import EVERYTHING, RECIPE, tiny_spec

from lightning_dws.inrs import INRStore, Recipe, Wanted, prepare_store
from lightning_dws.inrs.preparation import plan
from lightning_dws.inrs.preparation import prepare as preparation
from lightning_dws.inrs.preparation.prepare import Fitter

ALL = Wanted(EVERYTHING, {"train": 2})
STARTS = [
    replace(RECIPE, init="shared"),
    replace(RECIPE, init="shared_noise", init_noise=0.5),
]


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(plan, "SHARD_SIZE", 5)


def contents(directory: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in directory.iterdir() if p.suffix != ".lock"}


def prepare(directory: Path, recipe: Recipe, wanted: Wanted = ALL, **options) -> INRStore:
    spec = tiny_spec(recipe=recipe)
    return prepare_store(directory, spec, wanted, show_progress=False, **options)


@pytest.mark.parametrize("recipe", STARTS, ids=lambda recipe: recipe.init)
def test_parts_stops_and_steps_make_the_bytes_of_one_fit(tmp_path, monkeypatch, recipe):
    prepare(tmp_path / "straight", recipe)
    straight = contents(tmp_path / "straight")

    for part in ("2/3", "1/3", "3/3"):
        planned = plan.make_plan(tmp_path / "parts", tiny_spec(recipe=recipe), ALL, False)
        Fitter(planned, show_progress=False).fit_part(plan.Part.parse(part))
    prepare(tmp_path / "parts", recipe)
    assert contents(tmp_path / "parts") == straight

    prepare(tmp_path / "grown", recipe, Wanted({"train": 7}, {}), chunk_size=3)
    prepare(tmp_path / "grown", recipe, chunk_size=2)
    assert contents(tmp_path / "grown") == straight

    fit, fitted = preparation.fit_inrs, []

    def fit_a_few(*arguments, **options):
        if len(fitted) == 3:
            raise KeyboardInterrupt
        fitted.append(fit(*arguments, **options))
        return fitted[-1]

    monkeypatch.setattr(preparation, "fit_inrs", fit_a_few)
    with pytest.raises(KeyboardInterrupt):
        prepare(tmp_path / "stopped", recipe)
    monkeypatch.setattr(preparation, "fit_inrs", fit)
    prepare(tmp_path / "stopped", recipe)
    assert contents(tmp_path / "stopped") == straight


def test_stores_record_their_start_and_random_ones_keep_their_names(tmp_path):
    random, shared, half = (tiny_spec(recipe=recipe) for recipe in (RECIPE, *STARTS))
    assert "init" not in random.header.recipe
    assert random.store_name == "blobs_2-6-5-1_custom_110b7750"
    assert len({random.store_name, shared.store_name, half.store_name}) == 3
    store = prepare(tmp_path / "half", STARTS[1], Wanted({"test": None}, {}))
    assert (store.header.recipe["init"], store.header.recipe["init_noise"]) == ("shared_noise", 0.5)
    assert Recipe(**store.header.recipe) == STARTS[1]


def test_inrs_of_a_shared_start_stay_close_and_views_differ(tmp_path):
    spread = {}
    for recipe in (RECIPE, *STARTS):
        batch = prepare(tmp_path / recipe.init, recipe, Wanted({"train": 9}, {"train": 2})).split(
            "train"
        )
        first, second = batch.parameters[batch.view == 0], batch.parameters[batch.view == 1]
        spread[recipe.init] = first.std(dim=0).mean()
        assert (first.mean(0) - second.mean(0)).abs().max() > 0.01
    assert spread["shared"] < spread["shared_noise"] < spread["random"]
    assert torch.isfinite(spread["shared"])
