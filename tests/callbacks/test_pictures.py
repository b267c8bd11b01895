import io
import warnings
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.image import imread
from pytorch_lightning.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import Blobs, random_batch
from torch.utils.tensorboard import SummaryWriter

from lightning_dws.callbacks import Pictures, ScatterPlot
from lightning_dws.callbacks.pictures import (
    draw_confusion,
    draw_predictions,
    draw_titled,
    name_targets,
    publish,
)
from lightning_dws.cli import main
from lightning_dws.figures import visible_channels

CLASSES = ("left", "middle", "right")


def test_targets_are_named_by_their_largest_shares():
    batch = random_batch(size=3)
    assert name_targets(batch.replace(label=torch.tensor([2, 0, 1])), CLASSES) == [
        "right",
        "left",
        "middle",
    ]
    soft = torch.tensor([[0.0, 0.3, 0.7], [1.0, 0.0, 0.0], [0.2, 0.2, 0.6]])
    names = name_targets(batch.replace(target=soft), CLASSES)
    assert names[:2] == ["0.70 right\n0.30 middle", "1.00 left"]


def test_wrong_predictions_stand_out():
    images = torch.rand(3, 4, 5, 1)
    figure = draw_predictions(images, torch.tensor([0, 1, 2]), torch.tensor([0, 2, 2]), CLASSES)
    [axis] = figure.axes
    titles = [(text.get_text(), text.get_color()) for text in axis.texts]
    assert titles == [("left", "black"), ("right\nis middle", "red"), ("right", "black")]


def test_lines_have_axes_of_their_own():
    lines = torch.rand(3, 7, 1)
    figure = draw_predictions(lines, torch.tensor([0, 1, 2]), torch.tensor([0, 2, 2]), CLASSES)
    titles = [(axis.get_title(), axis.title.get_color()) for axis in figure.axes]
    assert titles == [("left", "black"), ("right\nis middle", "red"), ("right", "black")]


@pytest.mark.parametrize(("count", "channels"), [(1, 1), (3, 3), (11, 1)])
def test_every_image_stands_below_its_title_and_no_other(count, channels):
    height, width = 12, 9
    shades = torch.linspace(0, 0.8, count)
    images = shades[:, None, None, None].expand(count, height, width, channels)
    [axis] = draw_titled(images, [str(number) for number in range(count)]).axes
    [drawn] = axis.images
    grid = torch.as_tensor(np.asarray(drawn.get_array()))
    grid = grid if grid.ndim == 2 else grid[..., 0]
    assert int((grid < 0.9).sum()) == count * height * width  # the rest is white
    for number, text in enumerate(axis.texts):
        x, y = (round(value) for value in text.get_position())
        assert text.get_text() == str(number)
        assert grid[y, x] > 0.9
        assert torch.allclose(grid[y + 1 : y + 1 + height, x], shades[number].to(grid))


def test_a_figure_is_drawn_once_for_tensorboard_and_the_png(tmp_path, monkeypatch):
    draws = []
    draw = FigureCanvasAgg.draw
    monkeypatch.setattr(FigureCanvasAgg, "draw", lambda self: (draws.append(self), draw(self)))
    logger = TensorBoardLogger(tmp_path)
    trainer = pl.Trainer(logger=logger, accelerator="cpu")
    publish(trainer, "val/inrs", draw_titled(torch.rand(3, 8, 8, 1), CLASSES))
    logger.experiment.close()
    assert len(draws) == 1
    [png] = tmp_path.rglob("pictures/val_inrs.png")
    events = EventAccumulator(logger.log_dir, {"images": 0}).Reload()
    [image] = events.Images("val/inrs")
    shown = imread(io.BytesIO(image.encoded_image_string))
    assert np.array_equal(shown[..., :3], imread(png)[..., :3])


def test_a_confusion_matrix_shows_counts_true_by_predicted():
    counts = torch.tensor([[5, 1, 0], [0, 6, 0], [2, 0, 4]])
    [axis] = draw_confusion(counts, CLASSES).axes
    found = {tuple(map(int, text.get_position())): text.get_text() for text in axis.texts}
    assert found == {(0, 0): "5", (1, 0): "1", (1, 1): "6", (0, 2): "2", (2, 2): "4"}
    assert axis.get_ylabel() == "true"


@pytest.mark.parametrize("callback", [Pictures, ScatterPlot])
@pytest.mark.parametrize("name", ["every_n_epochs", "num_inrs"])
def test_bad_numbers_are_named(callback, name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        callback(**{name: 0})


@pytest.mark.parametrize("outputs", [1, 3])
def test_grey_images_and_colours_are_shown_as_they_are(outputs):
    images = torch.rand(2, 4, 5, outputs)
    assert torch.equal(visible_channels(images), images)


@pytest.mark.parametrize(
    ("outputs", "size"), [(2, (4, 11)), (4, (9, 11)), (5, (9, 17)), (7, (14, 17))]
)
def test_of_outputs_that_are_no_colours_each_is_a_grey_image(outputs, size):
    images = torch.rand(2, 4, 5, outputs) / 2
    shown = visible_channels(images)
    assert shown.shape == (2, *size, 1)
    columns = (size[1] + 1) // 6
    for number in range(outputs):
        row, column = divmod(number, columns)
        part = shown[:, row * 5 : row * 5 + 4, column * 6 : column * 6 + 5, 0]
        assert torch.equal(part, images[..., number])
    assert int((shown[0] < 0.9).sum()) == outputs * 20  # the rest is white


FIT = [
    "fit",
    "--data.dataset.architecture.widths=[2,6,5,4]",
    '--data.dataset.recipe={"steps": 10, "learning_rate": 0.005}',
    "--trainer.accelerator=cpu",
    "--trainer.max_epochs=2",
    "--data.batch_size=24",
    "--trainer.log_every_n_steps=1",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
    "--model.network=tiny.FlatMLP",
    "--data.dataset.signals=tiny.ManyOutputs",
    "--pictures.every_n_epochs=1",
]


def places(folder: Path) -> list[str]:
    return [f"--data.root={folder / 'data'}", f"--trainer.default_root_dir={folder / 'runs'}"]


@pytest.fixture
def squares(monkeypatch):
    """TensorBoard's sprite is for square images alone."""
    monkeypatch.setattr(Blobs, "grid_shape", (6, 6))
    load = Blobs.load_images

    def load_squares(self):
        images, label = load(self)
        return torch.cat([images, images[:, :1]], dim=1), label

    monkeypatch.setattr(Blobs, "load_images", load_squares)


def test_inrs_of_four_outputs_are_drawn_to_the_end(tmp_path, squares, capsys):
    main([*FIT, *places(tmp_path)])
    assert "test accuracy" in capsys.readouterr().out
    assert list((tmp_path / "runs").rglob("sprite.png"))
    assert list((tmp_path / "runs").rglob("pictures/test_inrs.png"))


def test_no_picture_and_no_log_ends_a_run(tmp_path, monkeypatch, capsys):
    """Each is told once; the same weights come out, and the test's result."""

    def fail(*args, **kwargs):
        raise RuntimeError("no picture\ntoday")

    weights = []
    for name in ("fine", "failing"):
        if name == "failing":
            monkeypatch.setattr(SummaryWriter, "add_scalar", fail)
            monkeypatch.setattr(SummaryWriter, "add_text", fail)
            monkeypatch.setattr(SummaryWriter, "add_embedding", fail)
            monkeypatch.setattr("lightning_dws.callbacks.pictures.draw_confusion", fail)
            monkeypatch.setattr("lightning_dws.callbacks.pictures.render_images", fail)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            main([*FIT, *places(tmp_path), f"--name={name}"])
        folder = tmp_path / "runs" / name / "version_0"
        path = folder / "checkpoints" / "last.ckpt"
        weights.append(torch.load(path, weights_only=True)["state_dict"])
    told = [str(w.message) for w in caught if "is left out" in str(w.message)]
    assert sorted(line.partition(" is left out (")[0] for line in told) == [
        "TensorBoard's embedding projector",
        "the picture test/confusion_matrix",
        "the picture test/inrs",
        "the picture train/inrs",
        "the picture val/confusion_matrix",
        "the picture val/inrs",
        "the run's settings in its log",
        "what TensorBoardLogger logs",
    ]
    assert "the picture val/inrs is left out (RuntimeError: no picture)" in told
    assert capsys.readouterr().out.count("test accuracy") == 2
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
