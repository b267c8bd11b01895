"""Our DWSNet equals the plain one of the benchmarks, written from the paper, in float64."""

import importlib.util
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from lightning_dws import INRArchitecture, WeightBatch
from lightning_dws.models import DWSNet
from lightning_dws.models.dws_layer import DWSLayer

PATH = Path(__file__).parents[2] / "benchmarks" / "plain_dwsnet.py"
spec = importlib.util.spec_from_file_location("plain_dwsnet", PATH)
plain_dwsnet = importlib.util.module_from_spec(spec)
spec.loader.exec_module(plain_dwsnet)


@torch.no_grad()
def copy_layer(layer: DWSLayer, plain: nn.Module) -> set[nn.Parameter]:
    """Give a plain layer our parameters; return those that were given."""
    given = set()

    def give(parameter, value):
        parameter.copy_(value)
        given.add(parameter)

    biases = dict(
        zip(
            layer.bias_maps,
            layer.bias.split([layer.out_channels[block.target] for block in layer.bias_maps]),
            strict=True,
        )
    )
    for along, linear in zip(layer.alongs, layer.linears, strict=True):
        matrix = torch.zeros_like(linear.coefficients)
        matrix[linear.coefficients != 0] = linear.weight
        for block in (block for block in layer.maps if block.along == along):
            pair = plain.maps[f"{block.source}_{block.target}"]
            if isinstance(pair, nn.ModuleList):
                axes = layer.tensors[block.target].axes
                pair = pair[[axes, axes[:1], axes[1:], ()].index(along)]
            elif isinstance(pair, plain_dwsnet.DeepSets):
                pair = pair.each if block.bias else pair.all
            give(pair.weight, matrix[linear.block(block.target, block.source)])
            if block.bias:
                give(pair.bias, biases[block])
    for attention in layer.attentions.values():
        for group in attention.groups:
            width = group.out_bias.shape[1]
            inward = [
                part for weight in group.in_weights for part in weight.split(width, dim=1)
            ]  # each (3, width, channels + 1), source by source
            for number, (source, target) in enumerate(group.pairs):
                pair = plain.maps[f"{source}_{target}"]
                for linear, own in zip(
                    (pair.query, pair.key, pair.value), inward[number], strict=True
                ):
                    give(linear.weight, own[:, :-1])
                    give(linear.bias, own[:, -1])
                give(pair.out.weight, group.out_weight[number])
                give(pair.out.bias, group.out_bias[number])
    return given


@pytest.mark.parametrize("set_layer", ["attention", "deepsets"])
@pytest.mark.parametrize("reduction", ["max", "mean", "sum"])
@pytest.mark.parametrize("widths", [(2, 5, 1), (2, 4, 5, 3), (1, 3, 4, 3, 2)])
def test_logits_and_gradients_equal_the_plain_ones(widths, set_layer, reduction):
    torch.manual_seed(0)
    architecture = INRArchitecture(widths)
    options = {"hidden_dim": 4, "num_hidden": 2, "num_heads": 2}
    options |= {"set_layer": set_layer, "reduction": reduction}
    model = DWSNet(architecture, 3, batch_norm=False, **options).double()
    model.standardize.keep_identity()
    plain = plain_dwsnet.PlainDWSNet(architecture, 3, **options).double()
    given = set().union(*map(copy_layer, model.layers, plain.layers))
    with torch.no_grad():
        for own, ours in zip(plain.head.parameters(), model.head.parameters(), strict=True):
            own.copy_(ours)
            given.add(own)
    assert given == set(plain.parameters())
    rows = torch.randn(6, architecture.num_parameters, dtype=torch.float64)
    gradients = []
    for network in (model, plain):
        parameters = rows.clone().requires_grad_()
        logits = network(WeightBatch.from_parameters(architecture, parameters))
        functional.cross_entropy(logits, torch.arange(6) % 3).backward()
        gradients.append((logits.detach(), parameters.grad))
    torch.testing.assert_close(*(logits for logits, _ in gradients))
    torch.testing.assert_close(*(gradient for _, gradient in gradients))
