"""CNNs are aligned and mixed as INRs are, by the axes of their tensors alone."""

import pytest
import torch
from cnns import CNNS, cnn_batch, logits

from lightning_dws.augmentations import Permutation, SirenNegation
from lightning_dws.augmentations.symmetry import permute_neurons
from lightning_dws.mixup import MixUp, align, squared_distance


def generator():
    return torch.Generator().manual_seed(5)


@pytest.mark.parametrize("name", CNNS)
def test_recovers_a_planted_permutation_exactly(name):
    batch = cnn_batch(name)
    planted = Permutation()(batch, generator())
    found = align(batch, planted)
    assert not torch.equal(planted.parameters, batch.parameters)
    assert torch.equal(found.aligned.parameters, batch.parameters)
    again = permute_neurons(planted, found.permutations, found.signs)
    assert torch.equal(again.parameters, batch.parameters)


def test_recovers_signs_of_tanh_networks_and_refuses_those_of_others():
    batch = cnn_batch("small_kernels")
    planted = SirenNegation()(Permutation()(batch, generator()), generator())
    assert torch.equal(
        align(batch, planted, "signed_permutation").aligned.parameters, batch.parameters
    )
    assert squared_distance(batch, align(batch, planted).aligned).min() > 0
    other = cnn_batch("residual")
    message = "signed_permutation is for networks alone .* got relu, avg_pool for group 'a'"
    with pytest.raises(ValueError, match=message):
        align(other, other, "signed_permutation")


@pytest.mark.parametrize("name", CNNS)
def test_unlike_networks_get_closer_and_compute_the_same(name):
    batch = cnn_batch(name, size=6)
    a, b = batch[:3], batch[3:]
    aligned = align(a, b).aligned
    assert (squared_distance(a, aligned) < squared_distance(a, b)).all()
    torch.testing.assert_close(logits(name, aligned), logits(name, b), rtol=1e-9, atol=1e-12)
    again = align(a, aligned).aligned  # nothing gets closer any more, in steps of one group
    assert (squared_distance(a, again) <= squared_distance(a, aligned)).all()


@pytest.mark.parametrize("alignment", ["none", "permutation"])
def test_mixup_mixes_networks(alignment):
    batch = cnn_batch("residual", dtype=torch.float32)
    batch = batch.replace(label=torch.arange(4) % 3)
    mixed = MixUp(alignment=alignment, permute=True).mix(batch, 3, generator())
    assert mixed.architecture == batch.architecture
    assert mixed.target.shape == (4, 3)
    assert not torch.equal(mixed.parameters, batch.parameters)
