import pytest
import torch
from tiny import random_batch

from lightning_dws.callbacks import Pictures
from lightning_dws.callbacks.pictures import draw_confusion, draw_predictions, name_targets

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
    titles = [(axis.get_title(), axis.title.get_color()) for axis in figure.axes]
    assert titles == [("left", "black"), ("right\nis middle", "red"), ("right", "black")]


def test_a_confusion_matrix_shows_counts_true_by_predicted():
    counts = torch.tensor([[5, 1, 0], [0, 6, 0], [2, 0, 4]])
    [axis] = draw_confusion(counts, CLASSES).axes
    found = {tuple(map(int, text.get_position())): text.get_text() for text in axis.texts}
    assert found == {(0, 0): "5", (1, 0): "1", (1, 1): "6", (0, 2): "2", (2, 2): "4"}
    assert axis.get_ylabel() == "true"


def test_bad_numbers_are_named():
    with pytest.raises(ValueError, match="must be at least 1, got 0, 32"):
        Pictures(every_n_epochs=0)
