import math

import pytest
import torch

from lightning_dws import INRArchitecture
from lightning_dws.inrs import evaluate_inrs
from lightning_dws.inrs.siren import initialise_inrs

ARCHITECTURE = INRArchitecture((2, 32, 32, 1))


def initialise(objects, views=None, seed=0, **options):
    views = torch.zeros_like(objects) if views is None else views
    return initialise_inrs(ARCHITECTURE, seed=seed, object_id=objects, view=views, **options)


def test_initialisation_depends_on_seed_object_and_view_alone():
    whole = initialise(torch.arange(20)).parameters
    assert torch.equal(initialise(torch.tensor([13, 4])).parameters, whole[[13, 4]])
    assert not torch.equal(initialise(torch.arange(20), seed=1).parameters, whole)
    other_view = initialise(torch.arange(20), torch.ones(20, dtype=torch.int64))
    assert (other_view.parameters != whole).any(dim=1).all()


def test_initialisation_follows_the_published_scheme():
    batch = initialise(torch.arange(500))
    bounds = [math.sqrt(6 / 2) / 30, math.sqrt(6 / 32) / 30, 1 / math.sqrt(32)]
    for weight, bound in zip(batch.weights, bounds, strict=True):
        assert weight.abs().max() <= bound
        assert abs(weight.std() / (bound / math.sqrt(3)) - 1) < 0.02
    assert batch.biases[0].abs().max() == batch.biases[1].abs().max() == 0
    assert abs(batch.biases[2].std() * math.sqrt(3 * 32) - 1) < 0.1
    wide = initialise(torch.arange(500), first_layer_bound=0.5)
    assert 0.49 < wide.weights[0].abs().max() <= 0.5


def test_a_shared_start_is_that_of_all_objects_of_a_view():
    objects, views = torch.tensor([3, 9, 3, 9]), torch.tensor([0, 0, 1, 1])
    rows = initialise(objects, views, shared=1.0).parameters
    assert torch.equal(rows[0], rows[1])
    assert torch.equal(rows[2], rows[3])
    assert (rows[0] != rows[2]).any()
    alone = initialise(objects[3:], views[3:], shared=1.0).parameters
    assert torch.equal(alone[0], rows[3])
    assert not torch.equal(initialise(objects, views, seed=1, shared=1.0).parameters, rows)


@pytest.mark.parametrize("shared", [0.25, 0.5, 0.9])
def test_a_share_of_random_keeps_the_variance_and_sets_the_correlation(shared):
    objects = torch.arange(400)
    weight = initialise(objects, shared=shared).weights[1].flatten(1)
    own = initialise(objects).weights[1].flatten(1)
    common = initialise(objects, shared=1.0).weights[1].flatten(1)
    assert abs(weight.square().mean() / own.square().mean() - 1) < 0.03
    correlation = torch.corrcoef(weight)
    assert abs(correlation[~torch.eye(400, dtype=torch.bool)].mean() - shared) < 0.03
    expected = math.sqrt(shared) * common + math.sqrt(1 - shared) * own
    torch.testing.assert_close(weight, expected)
    few = initialise(objects[7:8], shared=shared).weights[1].flatten(1)
    assert torch.equal(few[0], weight[7])


def test_no_share_is_the_start_of_each_object():
    objects = torch.arange(5)
    assert torch.equal(initialise(objects, shared=0.0).parameters, initialise(objects).parameters)
    with pytest.raises(ValueError, match=r"shared must be in \[0, 1\], got 1.5"):
        initialise(objects, shared=1.5)


def test_every_inr_may_have_points_of_its_own():
    batch = initialise(torch.arange(3))
    points = torch.rand(3, 7, 2)
    own = evaluate_inrs(batch, points)
    for index in range(3):
        shared = evaluate_inrs(batch[index : index + 1], points[index])
        torch.testing.assert_close(own[index : index + 1], shared)


def test_autocast_does_not_round_inrs():
    """w0 would multiply it; coordinates that a layer has made in lower precision are taken."""
    batch, points = initialise(torch.arange(3)), torch.rand(7, 2)
    expected, rounded = (
        evaluate_inrs(batch, points),
        evaluate_inrs(batch, points.bfloat16().float()),
    )
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(evaluate_inrs(batch, points), expected)
        assert torch.equal(evaluate_inrs(batch, points.bfloat16()), rounded)


@pytest.mark.parametrize("shape", [(7, 3), (4, 7, 2), (7,)])
def test_wrong_coordinates_are_named(shape):
    with pytest.raises(ValueError, match=r"coordinates must have shape \(N, 2\) or \(3, N, 2\)"):
        evaluate_inrs(initialise(torch.arange(3)), torch.zeros(shape))
