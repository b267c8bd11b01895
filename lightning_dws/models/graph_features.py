"""What the nodes and edges of a neural graph are given: encodings, positions, probe features."""

import math
from contextlib import AbstractContextManager, nullcontext

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lightning_dws.inrs.siren import encode_points, neuron_activations
from lightning_dws.models.options import check_choice
from lightning_dws.weight_space import Architecture, WeightBatch, require_inrs


class FourierFeatures(nn.Module):
    """Gaussian Fourier features (Tancik et al., 2020).

    ``v -> [cos(2 pi b v), sin(2 pi b v)]`` with fixed random frequencies b of normal distribution.

    Args:
        channels: Of a value.
        num_frequencies: Half of the features.
        scale: Standard deviation of the frequencies.
    """

    frequencies: Float[Tensor, "frequencies channels"]

    def __init__(self, channels: int, num_frequencies: int, scale: float) -> None:
        super().__init__()
        self.register_buffer("frequencies", scale * torch.randn(num_frequencies, channels))

    def forward(self, values: Float[Tensor, "*shape channels"]) -> Float[Tensor, "*shape features"]:
        """Encode values: cosines, then sines."""
        angles = values @ (2 * math.pi * self.frequencies.T).to(values.dtype)
        return torch.cat([angles.cos(), angles.sin()], -1)


class ProbeFeatures(nn.Module):
    """Activations of every neuron at learned inputs of the INR, as features of its node.

    The INRs are evaluated, so their rows must be raw. An input neuron's activation is the
    input, or one of its features behind an encoding.

    Args:
        architecture: Of the INRs.
        num_probes: Number of inputs.
        dim: Features per node.

    Attributes:
        inputs: (num_probes, in_features), learned, at first uniform in the cube from -1 to 1.
    """

    def __init__(self, architecture: Architecture, num_probes: int, dim: int) -> None:
        super().__init__()
        inrs = require_inrs(architecture, "probe features (num_probes)")
        self.inputs = nn.Parameter(2 * torch.rand(num_probes, inrs.in_features) - 1)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(num_probes, dim), nn.LayerNorm(dim)) for _ in inrs.widths
        )

    def forward(self, batch: WeightBatch) -> Float[Tensor, "batch nodes features"]:
        inputs = self.inputs.to(batch.parameters.dtype)
        inrs = require_inrs(batch.architecture, "probe features (num_probes)")
        first = encode_points(inrs, inputs).expand(len(batch), -1, -1)
        activations = [first, *neuron_activations(batch, inputs)]
        return torch.cat(
            [layer(x.mT) for layer, x in zip(self.layers, activations, strict=True)], 1
        )


def check_features(num_probes: int, fourier_scale: float, readout: str) -> None:
    """Raise a ``ValueError`` that names the first option of a graph's features out of its range."""
    if num_probes < 0:
        raise ValueError(f"num_probes must not be negative, got {num_probes}")
    if not (fourier_scale > 0 and math.isfinite(fourier_scale)):
        raise ValueError(f"fourier_scale must be positive and finite, got {fourier_scale}")
    check_choice("readout", readout, READOUTS)


def without_autocast(x: Tensor) -> AbstractContextManager[object]:
    """Keep to the parameters' dtype on a CPU, where a lower one is slower.

    On other devices autocast stays as the user set it.
    """
    return torch.autocast("cpu", enabled=False) if x.device.type == "cpu" else nullcontext()


READOUTS = ("outputs", "mean", "max")


def read_out(
    nodes: Float[Tensor, "batch nodes channels"], readout: str, num_outputs: int
) -> Float[Tensor, "batch features"]:
    """Give one vector per graph: the outputs' channels joined, or all nodes' mean or maximum."""
    if readout == "outputs":
        return nodes[:, -num_outputs:].flatten(1)
    return nodes.mean(1) if readout == "mean" else nodes.amax(1)
