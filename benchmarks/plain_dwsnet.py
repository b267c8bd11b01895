"""DWSNet written straight from its paper in plain PyTorch: slow, and easy to check.

Navon et al. (2023), "Equivariant Architectures for Learning in Deep Weight Spaces". One module for
every pair of parameter tensors, channels last, and nothing but torch's own operations: the baseline
of ``dwsnet.py``, and in float64 what the tests hold ``lightning_dws.models.DWSNet`` to.
"""

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lightning_dws import INRArchitecture, WeightBatch

Axes = tuple[int, ...]


def reduce(x: Tensor, dims: Sequence[int], reduction: str) -> Tensor:
    """Pool over dimensions: max, mean or sum."""
    if not dims:
        return x
    if reduction == "max":
        return x.amax(tuple(dims))
    return x.mean(tuple(dims)) if reduction == "mean" else x.sum(tuple(dims))


class DeepSets(nn.Module):
    """Along one axis (Zaheer et al., 2017): (B, n, c) to (B, n, d)."""

    def __init__(self, in_channels: int, out_channels: int, reduction: str) -> None:
        super().__init__()
        self.each = nn.Linear(in_channels, out_channels)
        self.all = nn.Linear(in_channels, out_channels, bias=False)
        self.reduction = reduction

    def forward(self, x: Tensor) -> Tensor:
        return self.each(x) - self.all(reduce(x, [1], self.reduction))[:, None]


class Attention(nn.Module):
    """Self-attention along one axis (Lee et al., 2019, the block SAB): (B, n, c) to (B, n, d)."""

    def __init__(self, in_channels: int, out_channels: int, num_heads: int) -> None:
        super().__init__()
        self.query = nn.Linear(in_channels, out_channels)
        self.key = nn.Linear(in_channels, out_channels)
        self.value = nn.Linear(in_channels, out_channels)
        self.out = nn.Linear(out_channels, out_channels)
        self.num_heads = num_heads

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            linear(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for linear in (self.query, self.key, self.value)
        )
        scores = q @ k.mT / math.sqrt(self.out.in_features)
        attended = (q + scores.softmax(-1) @ v).transpose(1, 2).flatten(2)
        return attended + torch.relu(self.out(attended))


class PlainLayer(nn.Module):
    """Features of all parameter tensors to features of all.

    Args:
        axes: Of each tensor, the layers of neurons along it that can be permuted.
        in_channels: Of each tensor.
        out_channels: Likewise.
        set_layer: ``"attention"`` or ``"deepsets"``.
        reduction: How to pool.
        num_heads: Of attention.
    """

    def __init__(
        self,
        axes: list[Axes],
        in_channels: list[int],
        out_channels: list[int],
        set_layer: str,
        reduction: str,
        num_heads: int,
    ) -> None:
        super().__init__()
        self.axes, self.reduction = axes, reduction
        self.maps = nn.ModuleDict()
        for source, target in itertools.product(range(len(axes)), repeat=2):
            sizes = in_channels[source], out_channels[target]
            shared = set(axes[source]) & set(axes[target])
            pair: nn.Module
            if len(shared) == 0:
                pair = nn.Linear(*sizes)
            elif len(shared) == 2:
                pair = nn.ModuleList(nn.Linear(*sizes) for _ in range(4))
            elif set_layer == "deepsets":
                pair = DeepSets(*sizes, reduction)
            else:
                pair = Attention(*sizes, num_heads)
            self.maps[f"{source}_{target}"] = pair

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Map features (B, *axes, in channels), one per tensor, to (B, *axes, out channels)."""
        outputs = []
        for target in range(len(features)):
            parts = [self._map(source, target, x) for source, x in enumerate(features)]
            shape = torch.broadcast_shapes(*(part.shape for part in parts))
            outputs.append(sum(part.expand(shape) for part in parts) / len(parts))
        return outputs

    def _map(self, source: int, target: int, x: Tensor) -> Tensor:
        own, other = self.axes[source], self.axes[target]
        pair = self.maps[f"{source}_{target}"]
        if isinstance(pair, nn.ModuleList):  # a weight matrix to itself
            entry, row, column, whole = pair
            rows, columns = (reduce(x, [dim], self.reduction) for dim in (2, 1))
            total = entry(x) + row(rows)[:, :, None] + column(columns)[:, None]
            return (total + whole(reduce(x, [1, 2], self.reduction))[:, None, None]) / 4
        pooled = [1 + position for position, axis in enumerate(own) if axis not in other]
        mapped = pair(reduce(x, pooled, self.reduction))
        for position, axis in enumerate(other):
            if axis not in own:
                mapped = mapped.unsqueeze(1 + position)
        return mapped


class PlainDWSNet(nn.Module):
    """Layers with relu between them, then relu, pooling and a linear layer; no batch norm.

    Arguments are those of ``lightning_dws.models.DWSNet``; weights come standardised.
    """

    def __init__(
        self,
        architecture: INRArchitecture,
        num_classes: int,
        hidden_dim: int = 32,
        num_hidden: int = 4,
        set_layer: str = "attention",
        reduction: str = "max",
        num_heads: int = 8,
    ) -> None:
        super().__init__()
        last, widths = architecture.num_layers, architecture.widths
        self.num_layers, self.reduction = last, reduction
        named = [(layer + 1, layer) for layer in range(last)]
        named += [(layer + 1,) for layer in range(last)]
        # the INR's inputs and outputs cannot be permuted: they are folded into the channels
        axes = [tuple(axis for axis in own if 0 < axis < last) for own in named]
        folds = [math.prod(widths[axis] for axis in own if axis in (0, last)) for own in named]
        hidden = [fold * hidden_dim for fold in folds]
        self.layers = nn.ModuleList(
            PlainLayer(
                axes,
                folds if number == 0 else hidden,
                hidden,
                set_layer,
                reduction,
                num_heads if number < num_hidden else 1,
            )
            for number in range(num_hidden + 1)
        )
        self.head = nn.Linear(sum(hidden), num_classes)

    def forward(self, batch: WeightBatch) -> Tensor:
        """Give logits (B, num_classes)."""
        first, *middle, final = batch.weights
        features = [first, *(weight[..., None] for weight in middle), final.mT]
        *biases, last_bias = batch.biases
        features += [*(bias[..., None] for bias in biases), last_bias]
        for number, layer in enumerate(self.layers):
            if number > 0:
                features = [torch.relu(x) for x in features]
            features = layer(features)
        pooled = [reduce(torch.relu(x), range(1, x.ndim - 1), self.reduction) for x in features]
        weights, biases = pooled[: self.num_layers], pooled[self.num_layers :]
        return self.head(torch.cat([*weights[1:-1], weights[0], weights[-1], *biases], 1))
