"""A change of an INR's weights, read off features of every single one of them."""

import math
from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lightning_dws.models.index_tensors import IndexTensors
from lightning_dws.models.standardize import Standardize
from lightning_dws.weight_space import Architecture


class WeightChange(IndexTensors):
    """Give every parameter of an INR a change, from its own features.

    One linear map for each weight matrix and each bias vector, the same at all its entries, so that
    the changes of an INR whose neurons are permuted are permuted likewise. They are scaled by the
    spread of the tensor's entries over the training INRs, and by a learned number for each tensor
    that begins at zero: at first nothing is changed.

    Args:
        architecture: Of the INRs.
        channels: C, of a parameter's features.

    Attributes:
        std: Of each parameter tensor's entries, in row order; 1 until ``fit``.
    """

    std: Float[Tensor, "tensors"]
    _tensor_of_entry: Tensor

    def __init__(self, architecture: Architecture, channels: int) -> None:
        super().__init__()
        self.architecture = architecture
        sizes = [spec.num_entries for spec in architecture.tensors]
        owner = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
        self.set_index("_tensor_of_entry", owner)
        self.register_buffer("std", torch.ones(len(sizes)))
        self.weight = nn.Parameter(torch.randn(len(sizes), channels) / math.sqrt(channels))
        self.bias = nn.Parameter(torch.zeros(len(sizes)))
        self.scale = nn.Parameter(torch.zeros(len(sizes)))

    def fit(self, parameters: Iterable[Float[Tensor, "batch parameters"]]) -> None:
        """Set the spreads to those of training rows."""
        standardize = Standardize(self.architecture)
        standardize.fit(parameters)
        self.std.copy_(standardize.std)

    def forward(
        self, features: Float[Tensor, "batch parameters channels"]
    ) -> Float[Tensor, "batch parameters"]:
        """Give the changes."""
        owner = self._tensor_of_entry
        change = torch.einsum("bpc,pc->bp", features, self.weight[owner]) + self.bias[owner]
        return change * (self.scale * self.std)[owner]
