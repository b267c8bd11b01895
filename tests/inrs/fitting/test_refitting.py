"""Fits that failed are tried again at lower rates; named recipes hold for any architecture."""

import dataclasses
import math

import pytest
import torch
from tiny import EVERYTHING, tiny_spec

from lightning_dws import INRArchitecture
from lightning_dws.cli import main
from lightning_dws.errors import DataError
from lightning_dws.inrs import RECIPES, INRStore, Recipe, Wanted, fit_inrs, prepare_store
from lightning_dws.inrs.fitting.recipes import find_recipe, highest_rate
from lightning_dws.inrs.fitting.refitting import fit_again_where_failed
from lightning_dws.inrs.signals.base import pixel_coordinates
from lightning_dws.inrs.store.verification import describe_low

DEEP = INRArchitecture((2, 24, 24, 24, 24, 1))
POINTS = pixel_coordinates(12, 12)


def make_signals(count: int) -> torch.Tensor:
    """Waves of any direction: (count, 144, 1)."""
    generator = torch.Generator().manual_seed(0)
    directions = 4 * torch.randn(2, count, generator=generator)
    return 0.5 + 0.4 * torch.sin(POINTS @ directions).T[:, :, None]


def fit(recipe: Recipe, rows: slice = slice(None), **options):
    signals, ids = make_signals(12)[rows], torch.arange(12)[rows]
    keys = {"object_id": ids, "view": torch.zeros_like(ids)}
    return fit_inrs(signals, POINTS, DEEP, recipe=recipe, seed=0, **keys, **options)


def test_inrs_that_say_nothing_are_fitted_again():
    too_high = Recipe(steps=150, learning_rate=0.02, schedule="cosine")
    refitted = []
    _, psnr = fit(too_high, on_refit=refitted.append)
    constant = -10 * torch.log10(make_signals(12).var(dim=(1, 2)))
    assert sum(refitted) > 6
    assert (psnr > constant + 10).all()


def test_a_refit_depends_on_its_inr_alone():
    too_high = Recipe(steps=40, learning_rate=0.02, schedule="cosine")
    together, psnr = fit(too_high)
    for row in range(0, 12, 5):
        alone, own_psnr = fit(too_high, slice(row, row + 1))
        assert torch.equal(alone.parameters[0], together.parameters[row])
        assert own_psnr[0] == psnr[row]


def test_what_went_well_is_fitted_once():
    calls = []

    def fit_rows(rows, recipe):
        calls.append((rows.tolist(), recipe.learning_rate))
        good = torch.tensor([25.0, 3.0, -math.inf])[rows]
        better = torch.tensor([0.0, 5.5, 20.0])[rows]
        first = recipe.learning_rate == 0.16
        return torch.full((len(rows), 4), recipe.learning_rate), good if first else better

    signals = torch.tensor([0.0, 1.0]).repeat(3, 50)[:, :, None]  # a constant has 6 dB
    recipe = Recipe(steps=5, learning_rate=0.16)
    result = fit_again_where_failed(fit_rows, torch.arange(3), signals, recipe)
    assert calls == [([0, 1, 2], 0.16), ([1, 2], 0.04), ([1], 0.01)]
    assert result.psnr.tolist() == [25.0, 3.0, 20.0]  # 2.5 dB are no reason
    assert result.parameters[:, 0].tolist() == pytest.approx([0.16, 0.16, 0.04])
    assert result.num_refitted == 1


def test_signals_that_hardly_vary_are_fitted_once():
    def fit_rows(rows, recipe):
        assert recipe.learning_rate == 0.16
        return torch.zeros(len(rows), 4), torch.full((len(rows),), 31.0)

    signals = 0.5 + 1e-6 * torch.rand(2, 50, 1)
    fit_again_where_failed(fit_rows, torch.arange(2), signals, Recipe(5, learning_rate=0.16))


def test_a_lost_fit_is_rescued_or_named():
    rescued = Recipe(steps=30, learning_rate=3.0)
    _, psnr = fit(dataclasses.replace(rescued, learning_rate=3e-2, check_every=1))
    assert psnr.isfinite().all()
    with pytest.raises(DataError, match=r"object_id 0, view 0 diverged: .* and with lower ones"):
        fit(dataclasses.replace(rescued, learning_rate=1e30))


@pytest.mark.parametrize("name", sorted(RECIPES))
@pytest.mark.parametrize("widths", [(2, 32, 32, 1), (2, 16, 16, 3), (2, 32, 1), (3, 512, 1)])
def test_named_recipes_are_what_they_were_for_shallow_inrs(name, widths):
    assert find_recipe(name, {}, INRArchitecture(widths)) == RECIPES[name]


def test_the_rate_falls_with_depth_and_width():
    rates = [highest_rate(INRArchitecture((2, *[32] * depth, 1))) for depth in range(1, 6)]
    assert rates == sorted(rates, reverse=True)
    assert highest_rate(INRArchitecture((2, 32, 128, 1))) == 0.003
    deep = find_recipe("sharp", {}, INRArchitecture((2, 32, 32, 32, 1)))
    assert deep.learning_rate < RECIPES["sharp"].learning_rate
    assert dataclasses.replace(deep, learning_rate=1.2e-2) == RECIPES["sharp"]


def test_a_rate_that_is_given_is_taken():
    changed = find_recipe("sharp", {"learning_rate": 0.05}, DEEP)
    assert changed.learning_rate == 0.05
    own = Recipe(steps=5, learning_rate=0.05)
    assert find_recipe(own, {}, DEEP) == own


def test_inrs_far_below_the_others_are_counted(tmp_path, capsys):
    store = prepare_store(tmp_path, tiny_spec(), Wanted(EVERYTHING, {}), show_progress=False)
    for fine in ([30.0, 31.0, 21.0], [50.0, 51.0, 27.0]):
        store.psnr = lambda split, psnr=fine: torch.tensor(psnr)
        assert list(describe_low(store)) == []
    store.psnr = lambda split: torch.tensor([30.0, 31.0, 9.0, math.nan, 30.5])
    assert next(describe_low(store)) == (
        "1 of 4 INRs in split 'train' has less than 20.0 dB, far below a good fit; "
        "median 30.0 dB, lowest 9.0 dB"
    )
    store.psnr = lambda split: torch.tensor([9.0, 10.0, 13.0])  # most have failed
    assert next(describe_low(store)).startswith("2 of 3 INRs in split 'train' have less than 12.0")


def test_fit_and_show_say_so(tmp_path, capsys, monkeypatch):
    words = ["--signals=tiny.Blobs", "--architecture.widths=[2,6,5,1]", "--device=cpu"]
    low = torch.tensor([30.0] * 99 + [5.0])
    monkeypatch.setattr(INRStore, "psnr", lambda self, split: low)
    recipe = '--recipe={"steps": 5, "learning_rate": 0.005}'
    main(["inrs", "fit", *words, recipe, f"--root={tmp_path}", "--store=one"])
    assert "1 of 100 INRs in split 'train' has less than 20.0 dB" in capsys.readouterr().err
    main(["inrs", "show", str(tmp_path / "one")])
    assert "1 of 100 INRs in split 'train' has" in " ".join(capsys.readouterr().out.split())
