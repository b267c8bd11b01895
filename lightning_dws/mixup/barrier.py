"""How far apart two INRs are, in weights and, half-way between them, in signal."""

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from lightning_dws.inrs.siren import evaluate_inrs
from lightning_dws.weight_space import WeightBatch


def squared_distance(a: WeightBatch, b: WeightBatch) -> Float64[Tensor, "batch"]:
    """Give the squared distance between the weights of each pair."""
    return (a.parameters.double() - b.parameters.double()).square().sum(dim=1)


def midpoint_error(
    a: WeightBatch, b: WeightBatch, coordinates: Float[Tensor, "points inputs"]
) -> Float[Tensor, "batch"]:
    """Measure how little the INR half-way between two computes the mean of both signals.

    Gives the mean squared error over points and outputs; 0 where a and b (e.g. aligned to a) are
    linearly connected half-way.
    """
    midpoint = a.replace(parameters=torch.lerp(a.parameters, b.parameters, 0.5))
    mean_signal = (evaluate_inrs(a, coordinates) + evaluate_inrs(b, coordinates)) / 2
    return (evaluate_inrs(midpoint, coordinates) - mean_signal).square().flatten(1).mean(dim=1)
