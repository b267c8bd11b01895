"""Our transformer equals the plain one of the benchmarks, written from the papers."""

import importlib.util
from pathlib import Path

import pytest
import torch
from symmetry import make_batch, relative
from torch.nn import functional

from lightning_dws import INRArchitecture
from lightning_dws.models import NeuralGraphTransformer

PATH = Path(__file__).parents[2] / "benchmarks" / "plain_transformer.py"
spec = importlib.util.spec_from_file_location("plain_transformer", PATH)
plain_transformer = importlib.util.module_from_spec(spec)
spec.loader.exec_module(plain_transformer)

SIZES = {
    "node_dim": 8,
    "num_layers": 3,
    "num_heads": 2,
    "attention_dim": 6,
    "node_hidden_dim": 10,
    "edge_hidden_dim": 7,
    "head_dim": 9,
    "fourier_features": 16,
}


def make_both(widths, **options):
    torch.manual_seed(0)
    model = NeuralGraphTransformer(INRArchitecture(widths), 5, **(SIZES | options))
    for parameter in model.parameters():  # at the initial scale the input hardly matters
        parameter.data *= 1.5
    model.standardize.keep_identity()
    plain = plain_transformer.PlainTransformer(INRArchitecture(widths), 5, **(SIZES | options))
    missing, unknown = plain.load_state_dict(model.state_dict(), strict=False)
    assert missing == ["neuron_class"]
    assert all(name.startswith("standardize.") for name in unknown)
    return model, plain.double()


def differentiate(network, batch):
    """Give logits, and the gradients of parameters and INRs."""
    rows = batch.parameters.clone().requires_grad_()
    logits = network(batch.replace(parameters=rows))
    loss = functional.cross_entropy(logits, torch.arange(len(batch)) % 5)
    named = dict(network.named_parameters())
    grads = torch.autograd.grad(loss, [*named.values(), rows])
    return logits, dict(zip([*named, "rows"], grads, strict=True))


CASES = [
    ((2, 6, 6, 1), {"edge_dim": 4}, 19),  # a group of lanes and a part
    ((2, 5, 1), {"edge_dim": 19, "dropout": 0.0}, 5),  # two blocks of forms and a part
    ((3, 8, 6, 4, 2), {"edge_dim": 5}, 17),
    ((1, 1, 1), {"edge_dim": 4, "num_layers": 1}, 16),
    ((2, 40, 1), {"edge_dim": 3, "num_layers": 2}, 4),  # two chunks of pairs
]


@pytest.mark.parametrize(("widths", "options", "size"), CASES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_logits_and_gradients_equal_the_plain_ones(widths, options, size, dtype):
    model, plain = make_both(widths, **options)
    batch = make_batch(widths, size)
    expected_logits, expected = differentiate(plain.eval(), batch)
    logits, found = differentiate(model.to(dtype).eval(), batch.to(dtype))
    tolerance = 1e-10 if dtype == torch.float64 else 2e-4
    assert relative(logits.double(), expected_logits) < tolerance
    scale = max(gradient.abs().max() for gradient in expected.values())
    for name, gradient in found.items():
        assert (gradient.double() - expected[name]).abs().max() < tolerance * scale, name
