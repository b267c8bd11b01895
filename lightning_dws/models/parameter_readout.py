"""Features of every parameter of an INR, read off the nodes of its neural graph."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from lightning_dws.models.index_tensors import IndexTensors
from lightning_dws.weight_space import INRArchitecture


class ParameterReadout(IndexTensors):
    """Give a weight what its two neurons know, their channels' products, and its own value.

    A bias has both from its one neuron. Linear maps of these can change a weight matrix by any
    matrix of up to D ranks. Nothing is learned here.

    Args:
        architecture: Of the INRs.
    """

    _ends: Int64[Tensor, "2 parameters"]

    def __init__(self, architecture: INRArchitecture) -> None:
        super().__init__()
        ends, start = [], 0  # of a layer's inputs among the nodes
        for n_out, n_in in architecture.weight_shapes:
            sources = start + torch.arange(n_in).repeat(n_out)
            start += n_in
            neurons = start + torch.arange(n_out)
            ends += [torch.stack([sources, neurons.repeat_interleave(n_in)])]
            ends += [torch.stack([neurons, neurons])]
        self.set_index("_ends", torch.cat(ends, 1))

    @staticmethod
    def channels(node_channels: int) -> int:
        """Count a parameter's features."""
        return 3 * node_channels + 1

    def forward(
        self,
        nodes: Float[Tensor, "batch nodes channels"],
        parameters: Float[Tensor, "batch parameters"],
    ) -> Float[Tensor, "batch parameters features"]:
        """Give features from the last nodes and the standardised parameters, in row order."""
        source, target = nodes[:, self._ends[0]], nodes[:, self._ends[1]]
        return torch.cat([source * target, source, target, parameters[..., None]], -1)
