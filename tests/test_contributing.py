"""The recipes of CONTRIBUTING are followed to the letter: files are written, commands are run.

Only what keeps a run small is added to a command.
"""

import re
from pathlib import Path

import pytest
import torch

from lightning_dws.cli import main
from lightning_dws.inrs import INRStore
from lightning_dws.table import command as table

ROOT = Path(__file__).parents[1]
RECIPES = dict(
    re.findall(
        r"^### (.+?)\n(.*?)(?=^###? |\Z)",
        (ROOT / "CONTRIBUTING.md").read_text().partition("## Recipes")[2],
        re.DOTALL | re.MULTILINE,
    )
)
SMALL_RUN = [
    *('--data.dataset.recipe={"steps": 8, "learning_rate": 0.005}', "--trainer.max_epochs=1"),
    *(f"--data.num_{split}_objects=10" for split in ("train", "val", "test")),
    *("--data.views=1", "--data.batch_size=10", "--trainer.accelerator=cpu"),
    *("--trainer.enable_progress_bar=false", "--trainer.log_every_n_steps=1"),
]
SMALL = {"fit": SMALL_RUN, "inrs fit": ["--recipe.steps=8"], "inrs import": [], "table": []}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "conf").symlink_to(ROOT / "conf")
    monkeypatch.chdir(tmp_path)
    # What is imported stays: jsonargparse names all subclasses there are, in later tests as well.
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def write_files(recipe: str) -> None:
    for text in re.findall(r"^```(?:python|yaml)\n(.*?)^```", recipe, re.DOTALL | re.MULTILINE):
        path = Path(text.splitlines()[0].removeprefix("# "))
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)


def follow(recipe: str) -> None:
    """Write the files of a recipe, then run its commands."""
    write_files(recipe)
    commands = re.findall(r"^python main\.py (.+)$", recipe, re.MULTILINE)
    assert commands
    for command in commands:
        [small] = [words for name, words in SMALL.items() if command.startswith(f"{name} ")]
        main([*command.split(), *small])


def test_a_model(folder, capsys):
    follow(RECIPES["A model"])
    assert "test accuracy" in capsys.readouterr().out
    [path] = folder.rglob("last.ckpt")
    assert "network.head.0.weight" in torch.load(path, weights_only=True)["state_dict"]


def test_a_task(folder, capsys):
    follow(RECIPES["A task"])
    assert "test error" in capsys.readouterr().out
    [path] = folder.rglob("last.ckpt")
    main(["validate", f"--ckpt_path={path}"])
    assert "val/error" in capsys.readouterr().out


def test_an_augmentation(folder, capsys):
    follow(RECIPES["An augmentation"])
    assert "test accuracy" in capsys.readouterr().out
    [config] = folder.rglob("config.yaml")
    assert "my_package.shrink.Shrink" in config.read_text()


def test_a_signal(folder):
    follow(RECIPES["A signal"])
    [path] = (folder / "data").iterdir()
    assert path.name.startswith("waves_1-16-16-1_")
    assert [INRStore(path).num_objects(split) for split in ("train", "val", "test")] == [60, 20, 20]


def test_a_format(folder):
    source = folder / "FOLDER"
    source.mkdir()
    for number, name in enumerate(("train-cat-0", "train-dog-1", "val-cat-0", "test-dog-0")):
        generator = torch.Generator().manual_seed(number)
        shapes = {"0.weight": (4, 2), "0.bias": (4,), "1.weight": (1, 4), "1.bias": (1,)}
        state = {name: torch.rand(shape, generator=generator) for name, shape in shapes.items()}
        torch.save(state, source / f"{name}.pth")
    follow(RECIPES["A format"])
    store = INRStore(folder / "data" / "mine")
    assert store.classes == ("cat", "dog")
    assert store.split("train").label.tolist() == [0, 1]
    assert store.architecture.widths == (2, 4, 1)


def test_a_table_row(folder, monkeypatch, capsys):
    monkeypatch.setattr(table, "find_refused", lambda *cells: {})  # a second for each row
    write_files(RECIPES["An augmentation"])
    follow(RECIPES["A table row"])
    shown = capsys.readouterr().out
    assert len(re.findall(r"left +shrink \| ", shown)) == 12
    assert "mine: 180 cells" in shown
