"""Single settings go on top of the recipe that is chosen, named or not."""

import dataclasses
import json

import pytest
from tiny import tiny_spec

from lightning_dws.cli import main
from lightning_dws.inrs import RECIPES, Recipe
from lightning_dws.inrs.fitting.recipes import RecipeChanges

BLOBS = ["--signals=tiny.Blobs", "--architecture.widths=[2,6,5,1]", "--device=cpu"]


def fitted_with(tmp_path, *words: str) -> dict[str, object]:
    main(["inrs", "fit", *BLOBS, f"--root={tmp_path}", "--store=one", *words])
    return json.loads((tmp_path / "one" / "dataset.json").read_text())["recipe"]


@pytest.mark.parametrize("name", ["fast", "sharp"])
def test_the_rest_of_a_named_recipe_stays(tmp_path, name):
    words = [f"--recipe={name}", "--recipe.steps=20", "--recipe.learning_rate", "0.002"]
    changed = dataclasses.replace(RECIPES[name], steps=20, learning_rate=0.002)
    assert fitted_with(tmp_path, *words) == json.loads(json.dumps(changed.settings))


def test_files_and_words_add_up(tmp_path):
    (tmp_path / "base.yaml").write_text("recipe: sharp\nrecipe_changes: {steps: 30}\n")
    words = [f"--config={tmp_path / 'base.yaml'}", "--recipe.check_every=7"]
    found = fitted_with(tmp_path, *words)
    assert (found["steps"], found["check_every"]) == (30, 7)
    assert found["schedule"] == "cosine"


def test_a_given_recipe_is_changed_too(tmp_path):
    found = fitted_with(
        tmp_path, '--recipe={"steps": 9, "learning_rate": 0.01}', "--recipe.steps=4"
    )
    assert (found["steps"], found["learning_rate"], found["schedule"]) == (4, 0.01, "constant")


def test_training_takes_them_and_saves_them(tmp_path, capsys):
    words = ["--data.dataset.signals=tiny.Blobs", "--model.network=tiny.FlatMLP"]
    with pytest.raises(SystemExit):
        main(["fit", *words, "--data.dataset.recipe.steps=20", "--print_config"])
    printed = capsys.readouterr().out
    assert "recipe: fast" in printed
    assert "recipe_changes:\n      steps: 20" in printed


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("--recipe.stepz=3", "stepz"),
        ("--recipe.steps=many", "many"),
        ("--recipe.steps=3", "warmup_steps must be in [0, steps = 3), got 5"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path, capsys, word, message):
    with pytest.raises(SystemExit) as stop:
        fitted_with(tmp_path, word)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_every_setting_can_be_changed():
    assert set(RecipeChanges.__annotations__) == {f.name for f in dataclasses.fields(Recipe)}


def test_names_of_stores_are_those_of_what_was_fitted():
    named, same = tiny_spec(recipe="fast"), tiny_spec(recipe="fast", recipe_changes={"steps": 350})
    other = tiny_spec(recipe="fast", recipe_changes={"steps": 351})
    assert same.store_name == named.store_name
    assert "custom" in other.store_name
    complete = tiny_spec(recipe=dataclasses.replace(RECIPES["fast"], steps=351))
    assert other.store_name == complete.store_name


def test_an_unknown_setting_is_named_in_python_too():
    with pytest.raises(ValueError, match=r"recipe_changes has \['stepz'\], which no recipe has"):
        tiny_spec(recipe_changes={"stepz": 3})
    assert len({tiny_spec(recipe="fast", signals=None) for _ in range(2)}) == 1
