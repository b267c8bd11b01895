"""A batch of no INRs, such as those of a class that there is not: no logits, and nothing is lost.

Of the GNN it is in ``test_neural_graph_gnn.py``, whose kernels are for a number of channels.
"""

import copy

import pytest
import torch
from cnns import CNNS, cnn_batch
from symmetry import make_batch

from lightning_dws import models

NETWORKS = {
    "attention": (models.DWSNet, {"hidden_dim": 4, "num_heads": 2}),
    "deepsets": (models.DWSNet, {"hidden_dim": 4, "set_layer": "deepsets", "num_heads": 1}),
    "mean": (models.DWSNet, {"hidden_dim": 4, "num_heads": 2, "reduction": "mean"}),
    "FlatMLP": (models.FlatMLP, {"hidden_dim": 4}),
    "NP": (models.NFN, {"hidden_dim": 4, "head_dim": 4}),
    "HNP": (models.NFN, {"hidden_dim": 4, "head_dim": 4, "layer": "HNP", "pool": "NP"}),
    "transformer": (models.NeuralGraphTransformer, {"num_layers": 2, "num_probes": 2}),
    "ProbeGen": (models.ProbeGen, {"hidden_dim": 4}),
    "probes": (models.ProbeGen, {"hidden_dim": 4, "generator_layers": 0}),
}


def assert_gives_no_logits(network, batch):
    before = copy.deepcopy(network.state_dict())
    for training in (True, False):
        network.train(training)
        logits = network(batch)
        assert logits.shape == (0, 3)
        logits.sum().backward()
        with torch.inference_mode():
            assert network(batch).shape == (0, 3)
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name
    grads = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    assert not any(grad.any() for grad in grads)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.filterwarnings("ignore:trained on weights that are not standardised")
def test_no_inrs_give_no_logits(name, dtype):
    batch = make_batch((2, 4, 3, 2), size=0, dtype=dtype)
    kind, options = NETWORKS[name]
    assert_gives_no_logits(kind(batch.architecture, 3, **options).to(dtype), batch)


@pytest.mark.parametrize("name", ["attention", "deepsets", "HNP"])
@pytest.mark.parametrize("cnn", CNNS)
@pytest.mark.filterwarnings("ignore:trained on weights that are not standardised")
def test_no_cnns_give_no_logits(name, cnn):
    batch = cnn_batch(cnn)[:0].to(torch.float32)
    kind, options = NETWORKS[name]
    assert_gives_no_logits(kind(batch.architecture, 3, **options), batch)
