import pytest
import torch
from tiny import ARCHITECTURE, random_batch

from lightning_dws.augmentations import Permutation
from lightning_dws.models import FlatMLP
from lightning_dws.plugins import SyncBatchNorm


def test_gives_logits_and_features():
    model = FlatMLP(ARCHITECTURE, num_classes=3, hidden_dim=8, num_hidden=2).eval()
    batch = random_batch()
    assert model(batch).shape == (4, 3)
    assert model.embed(batch).shape == (4, 8)
    assert torch.equal(model(batch), model(batch))


def test_is_not_invariant_to_permutations():
    """That is the point of this baseline."""
    model = FlatMLP(ARCHITECTURE, num_classes=3).eval()
    batch = random_batch()
    permuted = Permutation()(batch, torch.Generator().manual_seed(0))
    assert not torch.allclose(model(batch), model(permuted))


def test_sees_standardised_weights():
    """Scaling and shifting all INRs alike changes nothing once it is fitted."""
    model = FlatMLP(ARCHITECTURE, num_classes=3).eval()
    batch = random_batch(size=64)
    moved = batch.replace(parameters=3 * batch.parameters + 1)
    model.standardize.fit(batch.parameters)
    expected = model(batch)
    model.standardize.fit(moved.parameters)
    assert torch.allclose(model(moved), expected, atol=1e-5)


@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_options_decide_the_layers(batch_norm, dropout):
    model = FlatMLP(ARCHITECTURE, 3, hidden_dim=64, dropout=dropout, batch_norm=batch_norm).train()
    batch = random_batch(size=8)
    assert any("running_mean" in name for name in model.state_dict()) == batch_norm
    assert torch.equal(model(batch), model(batch)) == (dropout == 0)
    model(batch).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize(
    "wrong", [{"hidden_dim": 0}, {"num_hidden": 0}, {"dropout": 1.0}, {"num_classes": 0}]
)
def test_refuses_arguments_out_of_range(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        FlatMLP(ARCHITECTURE, **{"num_classes": 3, **wrong})


def test_its_batch_norm_can_be_synchronised_on_the_cpu():
    model = SyncBatchNorm().apply(FlatMLP(ARCHITECTURE, num_classes=3))
    norms = [module for module in model.modules() if "Norm" in type(module).__name__]
    assert norms
    assert all(norm.synchronised for norm in norms)
