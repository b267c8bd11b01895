"""DWSNet: linear layers that respect the permutation symmetry of weight spaces.

Navon et al. (2023), "Equivariant Architectures for Learning in Deep Weight Spaces".

Every parameter tensor of an INR has axes: weight l has neurons l+1 and neurons l, bias l has
neurons l+1. The INR's inputs and outputs cannot be permuted; these axes are folded into the
channels. A tensor's features are (B, channels, *axes). What a layer computes from tensor S for
tensor T is decided by the axes they share alone: see ``linear_maps``, the one rule.
"""

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from lightning_dws.models.architecture_check import check_architecture
from lightning_dws.models.batch_norm import PositionBatchNorm
from lightning_dws.models.index_tensors import IndexTensors
from lightning_dws.models.pooling import REDUCTIONS, pool, pool_matrix
from lightning_dws.models.recorded import recorded
from lightning_dws.models.set_attention import attend
from lightning_dws.models.standardize import Standardize
from lightning_dws.weight_space import INRArchitecture, WeightBatch

SET_LAYERS = ("attention", "deepsets")

Axes = tuple[int, ...]


class ParameterTensor(NamedTuple):
    """A weight matrix or bias vector of the INRs.

    Attributes:
        name: ``"weight0"``, ``"bias0"``, ...
        axes: The layers of neurons along its permutable axes, in memory order.
        fold: How many positions of other axes are folded into the channels.
    """

    name: str
    axes: Axes
    fold: int


class LinearMap(NamedTuple):
    """One linear map of a layer, from a source to a target.

    The source is pooled to the axes ``along``, mapped there, and broadcast to the target's axes.
    """

    target: int
    source: int
    along: Axes
    coefficient: float
    bias: bool


def parameter_tensors(architecture: INRArchitecture) -> list[ParameterTensor]:
    """Name the axes of all weights, then of all biases."""
    last = architecture.num_layers
    widths = architecture.widths

    def name_axes(name: str, axes: Axes) -> ParameterTensor:
        fold = math.prod(widths[axis] for axis in axes if axis in (0, last))
        return ParameterTensor(name, tuple(axis for axis in axes if 0 < axis < last), fold)

    weights = [name_axes(f"weight{layer}", (layer + 1, layer)) for layer in range(last)]
    biases = [name_axes(f"bias{layer}", (layer + 1,)) for layer in range(last)]
    return weights + biases


def linear_maps(tensors: list[ParameterTensor], set_layer: str) -> list[LinearMap]:
    """Give the linear maps of one layer between all pairs of tensors: the one rule of DWSNet.

    - No shared axis: a linear map of the pooled source.
    - One shared axis: a set layer along it. DeepSets (Zaheer et al., 2017) is two linear maps,
      ``linear(x) - linear_without_bias(pool(x))``; attention is not linear, and not listed here.
    - Two shared axes (a weight to itself): the mean of four linear maps, of the entry, of its row
      and column pooled, and of the pooled whole.

    A layer gives each target the mean over its sources.
    """
    maps = []
    for target, (_, target_axes, _) in enumerate(tensors):
        for source, (_, source_axes, _) in enumerate(tensors):
            shared = tuple(axis for axis in target_axes if axis in source_axes)
            pair: list[tuple[Axes, float, bool]] = []
            if len(shared) == 2:
                pair = [(along, 1 / 4, True) for along in (shared, shared[:1], shared[1:], ())]
            elif len(shared) == 0:
                pair = [((), 1.0, True)]
            elif set_layer == "deepsets":
                pair = [(shared, 1.0, True), ((), -1.0, False)]
            for along, coefficient, bias in pair:
                maps.append(LinearMap(target, source, along, coefficient, bias))
    return maps


class MergedLinear(IndexTensors):
    """All linear maps along the same axes as one matrix product, blocks by target and source.

    Attributes:
        weight: The entries of the blocks that exist, in row-major order of the merged matrix.
        coefficients: (sum of targets' channels, sum of sources' channels), 0 where no block is.
    """

    coefficients: Tensor
    _entries: Tensor

    def __init__(
        self, maps: list[LinearMap], in_channels: list[int], out_channels: list[int]
    ) -> None:
        super().__init__()
        self.scale = 1 / len(in_channels)
        self.sources = sorted({block.source for block in maps})
        self.targets = sorted({block.target for block in maps})
        self.in_channels = [in_channels[source] for source in self.sources]
        self.out_channels = [out_channels[target] for target in self.targets]
        coefficients = torch.zeros(sum(self.out_channels), sum(self.in_channels))
        weight = torch.zeros_like(coefficients)
        for block in maps:
            where = self.block(block.target, block.source)
            coefficients[where] = block.coefficient
            _initialise(weight[where])
        exists = coefficients != 0
        self.is_dense = bool(exists.all())
        self.register_buffer("coefficients", coefficients, persistent=False)
        self.set_index("_entries", exists.flatten().nonzero()[:, 0])
        self.weight = nn.Parameter(weight[exists])

    def block(self, target: int, source: int) -> tuple[slice, slice]:
        """Where a pair's block stands in the merged matrix."""
        row, column = self.targets.index(target), self.sources.index(source)
        start, first = sum(self.out_channels[:row]), sum(self.in_channels[:column])
        return (
            slice(start, start + self.out_channels[row]),
            slice(first, first + self.in_channels[column]),
        )

    def matrix(self, dtype: torch.dtype) -> Tensor:
        """Give the merged matrix, coefficients applied."""
        if self.is_dense:
            dense = self.weight.view_as(self.coefficients)
        else:
            zeros = torch.zeros_like(self.coefficients)
            dense = zeros.flatten().index_copy(0, self._entries, self.weight).view_as(zeros)
        return (dense * self.coefficients).mul_(self.scale).to(dtype)


class AxisAttention(nn.Module):
    """Attention between all pairs of tensors that share exactly one axis, along that axis.

    The pairs come in groups of one target width, since these are computed together.
    """

    def __init__(
        self,
        axis: int,
        tensors: list[ParameterTensor],
        in_channels: list[int],
        out_channels: list[int],
        num_heads: int,
    ) -> None:
        super().__init__()
        members = [index for index, tensor in enumerate(tensors) if axis in tensor.axes]
        self.groups = nn.ModuleList(
            AttentionGroup(
                [
                    (source, target)
                    for source in members
                    for target in members
                    if out_channels[target] == width
                    and not (source == target and len(tensors[source].axes) == 2)
                ],
                in_channels,
                width,
                num_heads,
            )
            for width in sorted({out_channels[target] for target in members})
        )

    def forward(self, pooled: list[dict[Axes, Tensor]], along: Axes) -> dict[int, Tensor]:
        """Map the sources' features along the axis, (B, c, n), to targets' (B, d, n)."""
        attended: dict[int, Tensor] = {}
        for group in self.groups:
            attended |= group(pooled, along)
        return attended


class AttentionGroup(nn.Module):
    """The parameters of attention blocks of one output width d, source by source."""

    def __init__(
        self, pairs: list[tuple[int, int]], in_channels: list[int], width: int, num_heads: int
    ) -> None:
        super().__init__()
        self.pairs, self.num_heads = pairs, num_heads
        self.sources = sorted({source for source, _ in pairs})
        self.targets = sorted({target for _, target in pairs})
        self.blocks = tuple(
            tuple(self.targets.index(target) for own, target in pairs if own == source)
            for source in self.sources
        )
        self.in_weights = nn.ParameterList(
            torch.empty(3, len(own) * width, in_channels[source] + 1)
            for source, own in zip(self.sources, self.blocks, strict=True)
        )
        for weight in self.in_weights:
            _initialise_bias(weight.data[..., -1])
            for block in weight.data[..., :-1].split(width, dim=1):
                _initialise(block)
        self.out_weight = nn.Parameter(_initialise(torch.empty(len(pairs), width, width)))
        self.out_bias = nn.Parameter(_initialise_bias(torch.empty(len(pairs), width)))

    def forward(self, pooled: list[dict[Axes, Tensor]], along: Axes) -> dict[int, Tensor]:
        sources = [pooled[source][along] for source in self.sources]
        dtype = sources[0].dtype
        attended = attend(
            sources,
            [weight.to(dtype) for weight in self.in_weights],
            self.out_weight.to(dtype),
            self.out_bias.to(dtype),
            self.blocks,
            self.num_heads,
        )
        return dict(zip(self.targets, attended, strict=True))


class DWSLayer(IndexTensors):
    """An equivariant layer: features of all parameter tensors to features of all.

    Args:
        tensors: The INRs' parameter tensors.
        in_features: Channels per entry of a tensor, before.
        out_features: And after.
        set_layer: ``"attention"`` or ``"deepsets"``.
        reduction: How to pool: ``"max"``, ``"mean"`` or ``"sum"``.
        num_heads: Of attention; divides ``out_features``.
    """

    bias_coefficient: Tensor
    _bias_channel: Tensor

    def __init__(
        self,
        tensors: list[ParameterTensor],
        in_features: int,
        out_features: int,
        set_layer: str,
        reduction: str,
        num_heads: int,
    ) -> None:
        super().__init__()
        self.tensors, self.reduction = tensors, reduction
        in_channels = [tensor.fold * in_features for tensor in tensors]
        out_channels = [tensor.fold * out_features for tensor in tensors]
        maps = linear_maps(tensors, set_layer)
        self.alongs: list[Axes] = sorted({block.along for block in maps}, key=len)
        self.linears: Iterable[MergedLinear] = nn.ModuleList(  # type: ignore[assignment]
            MergedLinear(
                [block for block in maps if block.along == along], in_channels, out_channels
            )
            for along in self.alongs
        )
        axes = sorted({axis for tensor in tensors for axis in tensor.axes})
        self.attentions = nn.ModuleDict(
            {
                str(axis): AxisAttention(axis, tensors, in_channels, out_channels, num_heads)
                for axis in axes
                if set_layer == "attention"
            }
        )
        # A bias is the same at all positions, so all biases of a target are one.
        self.maps = maps
        self.bias_maps = [block for block in maps if block.bias]
        starts = [sum(out_channels[:target]) for target in range(len(tensors))]
        self.out_channels = out_channels
        widths = torch.tensor([out_channels[block.target] for block in self.bias_maps])
        channels = [torch.arange(out_channels[b.target]) + starts[b.target] for b in self.bias_maps]
        coefficients = torch.tensor([block.coefficient for block in self.bias_maps])
        self.bias = nn.Parameter(_initialise_bias(torch.empty(int(widths.sum()))))
        self.set_index("_bias_channel", torch.cat(channels))
        self.register_buffer(
            "bias_coefficient", coefficients.repeat_interleave(widths), persistent=False
        )

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Map features (B, fold * in_features, *axes), one per tensor."""
        pooled = [self._pool(tensor, x) for tensor, x in zip(self.tensors, features, strict=True)]
        dtype = features[0].dtype
        parts: list[dict[Axes, Tensor]] = [{} for _ in self.tensors]
        matrices: dict[Axes, Tensor] = {}
        for along, linear in zip(self.alongs, self.linears, strict=True):
            if len(along) == 2:
                matrices[along] = linear.matrix(dtype)
                continue
            sources = torch.cat([pooled[source][along] for source in linear.sources], 1)
            if len(along) == 0:
                out = torch.addmm(self._total_bias(dtype), sources, linear.matrix(dtype).T)
            else:
                out = linear.matrix(dtype).expand(len(sources), -1, -1) @ sources
            for target, part in zip(linear.targets, out.split(linear.out_channels, 1), strict=True):
                parts[target][along] = part
        for axis, attention in self.attentions.items():
            along = (int(axis),)
            for target, part in attention(pooled, along).items():
                part = part * (1 / len(self.tensors))
                linear_part = parts[target].get(along)
                parts[target][along] = part if linear_part is None else part + linear_part

        outputs = []
        for tensor, own, part in zip(self.tensors, pooled, parts, strict=True):
            constant = part[()]
            if len(tensor.axes) == 0:
                outputs.append(constant)
            elif len(tensor.axes) == 1:
                outputs.append(part[tensor.axes] + constant[..., None])
            else:
                rows, columns = part[tensor.axes[:1]], part[tensor.axes[1:]] + constant[..., None]
                outputs.append(map_entries(own[tensor.axes], matrices[tensor.axes], rows, columns))
        return outputs

    def _pool(self, tensor: ParameterTensor, x: Tensor) -> dict[Axes, Tensor]:
        """Pool to every subset of the tensor's axes."""
        if len(tensor.axes) == 0:
            return {(): x}
        if len(tensor.axes) == 1:
            return {tensor.axes: x, (): pool(x, self.reduction)}
        x, rows, columns = pool_matrix(x, self.reduction)
        return {
            tensor.axes: x,
            tensor.axes[:1]: rows,
            tensor.axes[1:]: columns,
            (): pool(rows, self.reduction),
        }

    def _total_bias(self, dtype: torch.dtype) -> Tensor:
        total = self.bias.new_zeros(sum(self.out_channels))
        biases = (self.bias * self.bias_coefficient).mul_(1 / len(self.tensors))
        return total.index_add(0, self._bias_channel, biases).to(dtype)


def map_entries(x: Tensor, matrix: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Map every entry's channels and add what depends on its row and on its column alone.

    Args:
        x: (B, c, n, m).
        matrix: (d, c).
        rows: (B, d, n).
        columns: (B, d, m).

    Returns:
        (B, d, n, m).
    """
    return _MapEntries.apply(x, matrix, rows, columns)  # type: ignore[no-any-return, no-untyped-call]


class _MapEntries(torch.autograd.Function):
    """The sums over rows and columns are written once, then the product accumulates onto them."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, matrix: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        ctx.save_for_backward(x, matrix)
        entries = x.flatten(2)
        out = x.new_empty(len(x), len(matrix), *x.shape[2:])
        torch.add(rows[..., None], columns[..., None, :], out=out)
        out.view(len(x), len(matrix), -1).baddbmm_(matrix.expand(len(x), -1, -1), entries)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        x, matrix = ctx.saved_tensors
        entries = grad.flatten(2)
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = torch.bmm(matrix.T.expand(len(x), -1, -1), entries).view_as(x)
        grad_matrix = torch.bmm(entries, x.flatten(2).mT).sum(0)
        return grad_x, grad_matrix, grad.sum(-1), grad.sum(-2)


@recorded
class DWSNet(nn.Module):
    """Classify INRs by their weights with DWSNet (Navon et al., 2023).

    ``Standardize``, then ``num_hidden + 1`` equivariant layers with batch norm, relu and dropout
    between them, then relu, pooling over all positions, and a linear layer.

    Args:
        architecture: Of the INRs: any number of layers from two, any widths.
        num_classes: Number of logits.
        hidden_dim: Channels per entry of a weight or bias.
        num_hidden: Number of equivariant layers before the last one.
        set_layer: Along a shared axis: self-``"attention"`` or ``"deepsets"``.
        reduction: How to pool: ``"max"``, ``"mean"`` or ``"sum"``.
        num_heads: Of attention, all layers but the last, which has one; divides ``hidden_dim``.
        batch_norm: One batch norm per parameter tensor, over batch and positions.
        dropout: Probability of dropping a feature, in [0, 1).

    Raises:
        ValueError: An option is out of its range.
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
        batch_norm: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        for name, value in (
            ("num_classes", num_classes),
            ("hidden_dim", hidden_dim),
            ("num_hidden", num_hidden),
            ("num_heads", num_heads),
        ):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if set_layer not in SET_LAYERS:
            raise ValueError(f"set_layer must be one of {SET_LAYERS}, got {set_layer!r}")
        if reduction not in REDUCTIONS:
            raise ValueError(f"reduction must be one of {REDUCTIONS}, got {reduction!r}")
        if set_layer == "attention" and hidden_dim % num_heads != 0:
            raise ValueError(
                f"num_heads must divide hidden_dim, got {num_heads} heads for {hidden_dim} channels"
            )
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {dropout}")
        self.standardize = Standardize(architecture)
        self.architecture = architecture
        self.tensors = parameter_tensors(architecture)
        self.reduction = reduction
        self.layers = nn.ModuleList(
            DWSLayer(
                self.tensors,
                1 if layer == 0 else hidden_dim,
                hidden_dim,
                set_layer,
                reduction,
                num_heads if layer < num_hidden else 1,
            )
            for layer in range(num_hidden + 1)
        )
        self.norms = nn.ModuleList(
            nn.ModuleList(PositionBatchNorm(hidden_dim) for _ in self.tensors)
            for _ in range(num_hidden if batch_norm else 0)
        )
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(hidden_dim * sum(tensor.fold for tensor in self.tensors), num_classes)

    def forward(self, batch: WeightBatch) -> Tensor:
        """Give logits (B, num_classes)."""
        return self.head(self.embed(batch))  # type: ignore[no-any-return]

    def embed(self, batch: WeightBatch) -> Tensor:
        """Give invariant features (B, F): what the linear head takes."""
        pooled = [self._pool_all(x) for x in self.equivariant_features(batch)]
        last = self.architecture.num_layers
        weights, biases = pooled[:last], pooled[last:]
        return torch.cat([*weights[1:-1], weights[0], weights[-1], *biases], 1)

    def equivariant_features(self, batch: WeightBatch) -> list[Tensor]:
        """Give features of all weights, then of all biases, (B, fold * hidden_dim, *axes)."""
        check_architecture(self.architecture, batch)
        parameters = self.standardize(batch.parameters)
        device = parameters.device.type
        if torch.is_autocast_enabled(device):
            parameters = parameters.to(torch.get_autocast_dtype(device))
        with torch.autocast(device, enabled=False):
            features = self._split(batch.replace(parameters=parameters))
            for number, layer in enumerate(self.layers):
                if number > 0:
                    features = [self._activate(number - 1, i, x) for i, x in enumerate(features)]
                features = layer(features)
        return features

    def _split(self, batch: WeightBatch) -> list[Tensor]:
        """Give every tensor as features (B, fold, *axes): the raw entry is the one channel."""
        weights = batch.weights
        folded = [weights[0].mT.contiguous(), *(w[:, None] for w in weights[1:-1]), weights[-1]]
        biases = batch.biases
        return [*folded, *(bias[:, None] for bias in biases[:-1]), biases[-1]]

    def _activate(self, layer: int, tensor: int, x: Tensor) -> Tensor:
        if self.norms:
            x = self.norms[layer][tensor](x)  # type: ignore[index]
        # In place where a layer's output is a tensor of its own, not a part of a merged product.
        x = torch.relu(x) if x.ndim == 2 else torch.relu_(x)
        return self.dropout(x) if self.dropout.p > 0 else x

    def _pool_all(self, x: Tensor) -> Tensor:
        """Pool relu(x) over all positions; the largest of relu(x) is relu of the largest."""
        if x.ndim == 2:
            return torch.relu(x)
        if self.reduction == "max":
            return torch.relu(pool(x.flatten(2), self.reduction))
        return pool(torch.relu(x).flatten(2), self.reduction)


def _initialise(weight: Tensor) -> Tensor:
    """Fill weights (..., out, in) as the authors do: Glorot's normal times sqrt(2 in / out)."""
    out_channels, in_channels = weight.shape[-2:]
    gain = math.sqrt(2 * in_channels / out_channels)
    std = gain * math.sqrt(2 / (in_channels + out_channels))
    return nn.init.normal_(weight, std=std)


def _initialise_bias(bias: Tensor) -> Tensor:
    return nn.init.uniform_(bias, -1e-4, 1e-4)
