"""Signals of one axis, such as audio, and signals without classes: from the fit to the picture."""

import math

import pytest
import torch
from safetensors.torch import save_file
from tiny import RECIPE, Blobs, tiny_spec

from lightning_dws import INRArchitecture
from lightning_dws.cli import main
from lightning_dws.errors import DataError
from lightning_dws.inrs import INRDatasetSpec, INRStore, SignalDataset, Wanted, prepare_store
from lightning_dws.inrs.pictures import draw_reconstructions
from lightning_dws.inrs.signals import SplitOrder
from lightning_dws.inrs.signals.base import line_coordinates
from lightning_dws.inrs.store.verification import verify_store

LINE = INRArchitecture((1, 6, 5, 1), w0=8.0, output_offset=0.0)
SOME = Wanted({"train": 8, "val": 4, "test": 4}, {})


class Tones(SignalDataset):
    """Sines of 64 samples; the class is how fast they are."""

    name = "tones"
    classes = ("low", "high")
    grid_shape = (64,)

    @property
    def coordinates(self):
        return line_coordinates(64)

    def split(self, name):
        first = {"train": 0, "val": 8, "test": 12}[name]
        ids = torch.arange(first, first + (8 if name == "train" else 4))
        return SplitOrder(ids, ids % max(1, len(self.classes)))

    def values(self, object_id):
        pitch = (1 + object_id % 2 + object_id / 20)[:, None, None]
        return torch.sin(2 * math.pi * pitch * self.coordinates)


class Unlabelled(Tones):
    name = "unlabelled"
    classes = ()


def spec_of(signals, architecture=LINE):
    return INRDatasetSpec(signals, architecture, RECIPE)


@pytest.fixture(params=[Tones, Unlabelled])
def lines(request, tmp_path):
    directory = tmp_path / "data" / request.param.name
    return prepare_store(directory, spec_of(request.param()), SOME, show_progress=False)


def test_lines_are_stored_verified_and_drawn(lines, tmp_path, capsys):
    signals = {"tones": Tones, "unlabelled": Unlabelled}[lines.header.signals]()
    assert INRStore(lines.directory).header.grid_shape == (64,)
    assert verify_store(lines.directory, signals).problems == []
    path = f"test_lines.{type(signals).__name__}"
    main(["inrs", "show", str(lines.directory), "--signals", path, "--count", "3"])
    printed = capsys.readouterr().out
    assert ("2 classes" if signals.classes else "no classes") in printed
    assert (lines.directory / "inrs.png").stat().st_size > 5000
    output = tmp_path / "augmented.png"
    main(["inrs", "augment", str(lines.directory), "--output", str(output), "--count", "2"])
    assert output.stat().st_size > 5000
    assert output.with_stem("augmented-mixup").stat().st_size > 5000


def test_a_line_is_drawn_over_the_values_it_was_fitted_to(tmp_path):
    store = prepare_store(tmp_path / "s", spec_of(Tones()), SOME, show_progress=False)
    figure = draw_reconstructions(store, Tones(), "train", 2)
    originals, inrs = figure.axes[:2], figure.axes[2:]
    assert len(originals[0].lines[0].get_ydata()) == 64
    for original, inr in zip(originals, inrs, strict=True):
        assert original.get_ylim() == inr.get_ylim()
        assert original.get_ylim()[0] < -0.9  # not cut to an image's [0, 1]


def test_a_classifier_of_lines_draws_its_pictures(tmp_path):
    main(
        [
            *("fit", "--data.dataset.signals", "test_lines.Tones", "--data.root", str(tmp_path)),
            *("--data.dataset.architecture.widths", "[1,6,5,1]", "--data.batch_size", "4"),
            *("--data.dataset.recipe.steps", "10", "--data.dataset.recipe.warmup_steps", "0"),
            *("--model.network", "tiny.FlatMLP", "--trainer.default_root_dir", str(tmp_path)),
            *("--trainer.max_epochs", "1", "--trainer.log_every_n_steps", "1"),
        ]
    )
    names = {path.name for path in tmp_path.rglob("*.png")}
    assert {"train_inrs.png", "val_inrs.png", "test_inrs.png"} <= names


def test_without_classes_no_classifier_is_trained(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(
            ["fit", "--data.dataset.signals", "test_lines.Unlabelled", "--model.network",
             "tiny.FlatMLP", "--data.dataset.architecture.widths", "[1,6,5,1]",
             "--data.root", str(tmp_path)]
        )  # fmt: skip
    assert stop.value.code == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "has no classes, so no classifier can be trained" in error


def test_an_import_of_lines_is_shown(tmp_path, capsys):
    generator = torch.Generator().manual_seed(0)
    for split in ("train", "test"):
        for index in range(2):
            state = {
                f"{layer}.{name}": torch.randn(shape, generator=generator)
                for layer, (n_in, n_out) in enumerate(((1, 4), (4, 1)))
                for name, shape in (("weight", (n_out, n_in)), ("bias", (n_out,)))
            }
            path = tmp_path / "source" / split / "tone" / f"{index}.safetensors"
            path.parent.mkdir(parents=True, exist_ok=True)
            save_file(state, path)
    output = tmp_path / "out"
    main(
        ["inrs", "import", "--format", "state-dicts", "--source", str(tmp_path / "source"),
         "--output", str(output)]
    )  # fmt: skip
    assert INRStore(output).header.grid_shape == (1024,)
    main(["inrs", "show", str(output)])
    assert (output / "inrs.png").stat().st_size > 3000
    assert "1 class" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"grid_shape": (5, 6, 7)}, r"grid_shape \(5, 6, 7\) of INRs with 2 inputs"),
        ({"grid_shape": ()}, r"grid_shape \(\) of INRs with 2 inputs"),
        ({"grid_shape": (0, 6)}, r"expected sizes from 1 to 8192"),
        ({"classes": ("left", "left", "right")}, "are not all different"),
        ({"classes": ("left", "middle")}, r"has label 2, expected 0 to 1 for the 2 classes"),
        ({"classes": ()}, r"has label [12], expected 0 to 0 for the 0 classes"),
        ({"name": object()}, "cannot be stored"),
    ],
)
def test_what_could_not_be_opened_again_is_not_fitted(tmp_path, changes, message):
    signals = type("Odd", (Blobs,), changes)()
    with pytest.raises(DataError, match=message):
        prepare_store(tmp_path / "s", tiny_spec(signals=signals), SOME, show_progress=False)
    assert not list(tmp_path.rglob("*.safetensors"))


@pytest.mark.parametrize("size", [63, 65])
def test_lines_of_another_grid_than_their_coordinates_are_not_fitted(tmp_path, size):
    signals = type("Odd", (Tones,), {"grid_shape": (size,)})()
    with pytest.raises(DataError, match=rf"64 coordinates, expected {size} for the grid_shape"):
        prepare_store(tmp_path / "s", spec_of(signals), SOME, show_progress=False)
    assert not (tmp_path / "s").exists()
