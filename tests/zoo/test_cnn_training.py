"""CNNs trained together are what plain torch makes of each alone, in any company."""

import pytest
import torch
from torch.nn import functional

from lightning_dws.errors import DataError
from lightning_dws.inrs import Digits
from lightning_dws.zoo.cnn_chunk import CNNChunk
from lightning_dws.zoo.cnn_draws import TrainingDraws, draw_weights
from lightning_dws.zoo.cnn_shape import CNNShape
from lightning_dws.zoo.cnn_training import MEASURES, ZooImages, measure, train, train_cnns
from lightning_dws.zoo.zoo_recipe import DRAWN, ZooRecipe

RECIPE = ZooRecipe(batch_size=16, steps=(2, 12))
SHAPES = [
    CNNShape((8, 8), 1, (3, 4), 3, 1, 10),
    CNNShape((8, 7), 2, (3,), 2, 2, 10),
]


def make_images(shape: CNNShape, count: int = 40) -> ZooImages:
    generator = torch.Generator().manual_seed(0)
    size = (shape.in_channels, *shape.image_size)
    label = torch.arange(count) % shape.num_classes
    images = torch.rand(2 * count, *size, generator=generator)
    return ZooImages(images[:count], label, images[count:], label)


def train_alone(shape, data, drawn, start, draws, row):
    """Train one CNN by plain torch, on the batches and with the dropout that were drawn for it."""
    network = shape.to_sequential().double()
    torch.nn.utils.vector_to_parameters(start[row].clone(), network.parameters())
    convolutions, head = network[:-3], network[-3:]
    rate, decay = float(drawn["learning_rate"][row]), float(drawn["weight_decay"][row])
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=decay)
    for step in range(1, int(drawn["steps"][row]) + 1):
        images, keep = draws.step(step)
        x = data.images[images[row]]
        for convolution, relu, factor in zip(
            convolutions[::2], convolutions[1::2], keep, strict=True
        ):
            x = relu(convolution(x)) * factor[row].T[:, :, None, None]
        loss = functional.cross_entropy(head(x), data.label[images[row]])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network


@pytest.mark.parametrize("shape", SHAPES, ids=["stride 1", "stride 2"])
def test_each_cnn_is_what_plain_torch_makes_of_it(shape):
    data, index = make_images(shape), torch.tensor([3, 0, 7, 21])
    data = ZooImages(data.images.double(), data.label, data.test_images.double(), data.test_label)
    drawn = RECIPE.draw(5, index)
    start = draw_weights(shape, 5, index, drawn["init_gain"]).double()
    draws = TrainingDraws(5, index, drawn, data.label, RECIPE.batch_size, shape.channels)
    chunk = CNNChunk(shape, start, RECIPE.batch_size)
    torch.testing.assert_close(chunk.rows(), start, rtol=0, atol=0)
    train(chunk, data, draws, drawn)
    found = measure(chunk, data, draws.is_own)
    assert len(set(drawn["steps"].tolist())) > 1  # some are finished while others go on
    for row in range(len(index)):
        network = train_alone(shape, data, drawn, start, draws, row)
        expected = torch.nn.utils.parameters_to_vector(network.parameters())
        torch.testing.assert_close(chunk.rows()[row], expected, rtol=1e-9, atol=1e-11)
        own = draws.is_own[row]
        for name, images, label in (
            ("test", data.test_images, data.test_label),
            ("train", data.images[own], data.label[own]),
        ):
            logits = network(images)
            accuracy = (logits.argmax(dim=1) == label).float().mean()
            assert float(found[f"{name}_accuracy"][row]) == pytest.approx(float(accuracy))
            loss = functional.cross_entropy(logits, label).item()
            assert float(found[f"{name}_loss"][row]) == pytest.approx(loss, rel=1e-6)


def test_a_cnn_is_the_same_to_the_bit_in_any_company():
    shape = SHAPES[0]
    data, index = make_images(shape), torch.arange(9)
    rows, measures = train_cnns(shape, data, RECIPE, seed=1, index=index, chunk_size=4)
    for order, size in (([5], 16), ([8, 5, 2], 2), (list(reversed(range(9))), 16)):
        again, found = train_cnns(
            shape, data, RECIPE, seed=1, index=torch.tensor(order), chunk_size=size
        )
        assert again.equal(rows[order])
        assert all(found[name].equal(measures[name][order]) for name in MEASURES)
    assert len(rows.unique(dim=0)) == 9


def test_digits_are_learned():
    """By nearly all CNNs that are given the time and the images."""
    signals = Digits()
    order = {split: signals.split(split) for split in ("train", "test")}
    images = {
        split: signals.values(own.object_id).mT.unflatten(2, (8, 8)) for split, own in order.items()
    }
    data = ZooImages(images["train"], order["train"].label, images["test"], order["test"].label)
    recipe = ZooRecipe(
        steps=(150, 150),
        learning_rate=(1e-2, 1e-2),
        train_share=(1, 1),
        num_classes=(10, 10),
        dropout=(0, 0),
    )
    shape = CNNShape((8, 8), 1, (12, 12, 12), 3, 1, 10)
    _, measures = train_cnns(shape, data, recipe, seed=0, index=torch.arange(4))
    assert float(measures["test_accuracy"].median()) > 0.7


def test_draws_are_of_the_seed_and_the_index_alone():
    index = torch.tensor([40, 2, 17])
    drawn = RECIPE.draw(3, index)
    for row, own in enumerate(index):
        alone = RECIPE.draw(3, own[None])
        assert all(float(alone[name]) == float(drawn[name][row]) for name in DRAWN)
    other = RECIPE.draw(4, index)
    assert not any(other[name].equal(drawn[name]) for name in ("learning_rate", "dropout"))


def test_draws_fill_their_ranges():
    recipe = ZooRecipe()
    drawn = recipe.draw(0, torch.arange(4000))
    for name in DRAWN:
        low, high = getattr(recipe, name)
        values = drawn[name].double()
        assert low * 0.9999999 <= float(values.min()) <= low + 0.01 * (high - low)
        assert high - 0.01 * (high - low) <= float(values.max()) <= high * 1.0000001
    assert drawn["num_classes"].unique().tolist() == list(range(6, 11))
    counts = torch.bincount(drawn["num_classes"].long())[6:]
    assert counts.min() > 0.9 * 800
    correlation = torch.corrcoef(torch.stack([drawn[name] for name in DRAWN])).fill_diagonal_(0)
    assert correlation.abs().max() < 0.06


def test_a_cnn_sees_its_share_of_its_classes():
    label = torch.arange(200) % 10
    recipe = ZooRecipe(batch_size=16, num_classes=(4, 4), train_share=(0.25, 0.25))
    index = torch.arange(3)
    draws = TrainingDraws(0, index, recipe.draw(0, index), label, 16, (3,))
    assert draws.is_own.sum(dim=1).tolist() == [20] * 3
    seen = torch.stack([draws.step(step)[0] for step in range(1, 60)], dim=1).flatten(1)
    for row in range(3):
        assert sorted(set(seen[row].tolist())) == draws.is_own[row].nonzero()[:, 0].tolist()
        assert len(label[seen[row]].unique()) == 4
    assert len({tuple(own.tolist()) for own in draws.is_own}) == 3


def test_dropout_keeps_the_mean():
    recipe = ZooRecipe(batch_size=16, dropout=(0.3, 0.3))
    index = torch.arange(2)
    draws = TrainingDraws(0, index, recipe.draw(0, index), torch.arange(10), 16, (5, 4))
    parts = [draws.step(step)[1] for step in range(200)]
    assert [tuple(part.shape) for part in parts[0]] == [(2, 5, 16), (2, 4, 16)]
    everything = torch.cat([part.flatten() for both in parts for part in both])
    assert everything.unique().numel() == 2
    assert abs(float(everything.mean()) - 1) < 0.02


def test_a_cnn_that_diverges_is_named():
    shape = SHAPES[0]
    recipe = ZooRecipe(batch_size=16, steps=(3, 3), learning_rate=(1e12, 1e12))
    with pytest.raises(DataError, match=r"CNN 4 diverged.*learning_rate 1e\+12"):
        train_cnns(shape, make_images(shape), recipe, seed=0, index=torch.tensor([4]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": (10, 2)}, "steps must be"),
        ({"dropout": (0, 1)}, "dropout must be"),
        ({"batch_size": 24}, "batch_size must be a multiple of 16, got 24"),
    ],
)
def test_wrong_ranges_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        ZooRecipe(**changes)


def test_an_image_that_is_too_small_is_refused():
    with pytest.raises(ValueError, match="leave nothing of an image of 4x4"):
        CNNShape((4, 4), 1, (3, 3), 3, 1, 10)
