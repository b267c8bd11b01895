"""Random INRs, the permutations that leave their functions alone, and how far numbers differ."""

import torch
from torch import Tensor

from lightning_dws import INRArchitecture, WeightBatch


def make_batch(
    widths: tuple[int, ...], size: int = 4, dtype: torch.dtype = torch.float64, seed: int = 1
) -> WeightBatch:
    """Make INRs of normally distributed weights."""
    architecture = INRArchitecture(widths)
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(size, architecture.num_parameters, generator=generator, dtype=dtype)
    return WeightBatch.from_parameters(architecture, rows)


def permute_hidden(batch: WeightBatch, skip: int | None = None) -> WeightBatch:
    """Permute hidden neurons; ``skip`` names a layer whose next columns stay as they are."""
    weights, biases = batch.weights, batch.biases
    for layer, width in enumerate(batch.architecture.hidden_widths):
        order = torch.arange(width).roll(1)
        weights[layer], biases[layer] = weights[layer][:, order], biases[layer][:, order]
        if layer != skip:
            weights[layer + 1] = weights[layer + 1][:, :, order]
    return WeightBatch.from_layers(batch.architecture, weights, biases)


def relative(found: Tensor, expected: Tensor) -> float:
    """Give the largest deviation, as a share of the largest expected magnitude."""
    return ((found - expected).abs().max() / expected.abs().max()).item()
