"""DWSNet: linear layers that respect the permutation symmetry of weight spaces.

Navon et al. (2023), "Equivariant Architectures for Learning in Deep Weight Spaces".

Every parameter tensor of an INR has axes: weight l has neurons l+1 and neurons l, bias l has
neurons l+1. The INR's inputs and outputs cannot be permuted, nor can the positions of a CNN's
kernels; these axes are folded into the channels (``parameter_axes``). What a layer computes from
tensor S for tensor T is decided by the axes they share alone: see ``linear_maps``, the one rule.
"""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lightning_dws.models.architecture_check import check_architecture
from lightning_dws.models.batch_norm import PositionBatchNorm
from lightning_dws.models.dws_lanes import LanePlan
from lightning_dws.models.index_tensors import IndexTensors
from lightning_dws.models.merged_linear import LinearMap, MergedLinear, initialise_bias
from lightning_dws.models.options import check_choice, check_heads, check_options
from lightning_dws.models.parameter_axes import (
    Axes,
    ParameterTensor,
    fold_tensors,
    parameter_tensors,
    unfold_tensors,
)
from lightning_dws.models.pooling import REDUCTIONS, map_entries, pool, pool_matrix
from lightning_dws.models.recorded import recorded
from lightning_dws.models.relational_lanes import takes_lanes
from lightning_dws.models.set_attention import AxisAttention
from lightning_dws.models.standardize import Standardize
from lightning_dws.weight_space import Architecture, WeightBatch

SET_LAYERS = ("attention", "deepsets")

# What a weight from a group to itself has more than others, by the number of axes: it and its
# transpose, or its rows, columns and diagonal; what is made for its rows and for its columns.
_LOOP_SOURCE = (1, 3, 2)
_LOOP_TARGET = (1, 2, 1)

Features = list[Float[Tensor, "batch _folded_channels ..."]]  # one of each parameter tensor


def linear_maps(tensors: list[ParameterTensor], set_layer: str) -> list[LinearMap]:
    """Give the linear maps of one layer between all pairs of tensors: the one rule of DWSNet.

    - No shared axis: a linear map of the pooled source.
    - One shared axis: a set layer along it. DeepSets (Zaheer et al., 2017) is two linear maps,
      ``linear(x) - linear_without_bias(pool(x))``; attention is not linear, and not listed here.
    - Two shared axes (a weight to itself): the mean of four linear maps, of the entry, of its row
      and column pooled, and of the pooled whole. (Three of a weight from a group to itself, whose
      row, column and diagonal are taken together.)

    A layer gives each target the mean over its sources.
    """
    maps = []
    for target, target_tensor in enumerate(tensors):
        for source, source_tensor in enumerate(tensors):
            shared = target_tensor.shared(source_tensor)
            pair: list[tuple[Axes, float, bool]] = []
            if len(shared) == 2:
                alongs = dict.fromkeys((shared, shared[:1], shared[1:], ()))
                pair = [(along, 1 / len(alongs), True) for along in alongs]
            elif len(shared) == 0:
                pair = [((), 1.0, True)]
            elif set_layer == "deepsets":
                pair = [(shared, 1.0, True), ((), -1.0, False)]
            for along, coefficient, bias in pair:
                maps.append(LinearMap(target, source, along, coefficient, bias))
    return maps


class DWSLayer(IndexTensors):
    """An equivariant layer: features of all parameter tensors to features of all.

    Args:
        tensors: The INRs' parameter tensors.
        in_features: Channels per entry of a tensor, before; None for raw entries.
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
        in_features: int | None,
        out_features: int,
        set_layer: str,
        reduction: str,
        num_heads: int,
    ) -> None:
        super().__init__()
        self.tensors, self.reduction = tensors, reduction
        in_channels = [tensor.fold * (in_features or tensor.features) for tensor in tensors]
        out_channels = [tensor.fold * out_features for tensor in tensors]
        maps = linear_maps(tensors, set_layer)
        self.alongs: list[Axes] = sorted({block.along for block in maps}, key=len)
        self.linears: Iterable[MergedLinear] = nn.ModuleList(  # type: ignore[assignment]
            MergedLinear(
                [block for block in maps if block.along == along],
                _widen(in_channels, tensors, _LOOP_SOURCE[len(along)]),
                _widen(out_channels, tensors, _LOOP_TARGET[len(along)]),
            )
            for along in self.alongs
        )
        axes = sorted({axis for tensor in tensors for axis in tensor.axes})
        self.attentions = nn.ModuleDict(
            {
                str(axis): AxisAttention(
                    axis,
                    tensors,
                    _widen(in_channels, tensors, _LOOP_SOURCE[1]),
                    _widen(out_channels, tensors, _LOOP_TARGET[1]),
                    num_heads,
                )
                for axis in axes
                if set_layer == "attention"
            }
        )
        # A bias is the same at all positions, so all biases of a target are one.
        self.maps = maps
        self.bias_maps = [block for block in maps if block.bias]
        starts = [sum(out_channels[:target]) for target in range(len(tensors))]
        self.out_channels = out_channels
        targets = [block.target for block in self.bias_maps]
        widths = torch.tensor([out_channels[target] for target in targets], dtype=torch.int64)
        channels = [torch.arange(out_channels[target]) + starts[target] for target in targets]
        coefficients = torch.tensor([block.coefficient for block in self.bias_maps])
        self.bias = nn.Parameter(initialise_bias(torch.empty(int(widths.sum()))))
        self.set_index("_bias_channel", torch.cat([torch.arange(0), *channels]))
        self.register_buffer(
            "bias_coefficient", coefficients.repeat_interleave(widths), persistent=False
        )

    def forward(self, features: Features) -> Features:
        pooled = [self._pool(tensor, x) for tensor, x in zip(self.tensors, features, strict=True)]
        dtype = features[0].dtype
        parts: list[dict[Axes, Tensor]] = [{} for _ in self.tensors]
        entries: dict[int, tuple[Tensor, Tensor]] = {}  # and what maps them, by target
        for along, linear in zip(self.alongs, self.linears, strict=True):
            if len(along) == 2:
                own = [_oriented(pooled[source], along) for source in linear.sources]
                joined = own[0] if len(own) == 1 else torch.cat(own, 1)
                blocks = linear.matrix(dtype).split(linear.out_channels)
                entries |= {
                    target: (joined, block)
                    for target, block in zip(linear.targets, blocks, strict=True)
                }
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
        for target, (tensor, part) in enumerate(zip(self.tensors, parts, strict=True)):
            constant = part.get((), features[0].new_zeros(1, 1))
            if len(tensor.axes) == 0:
                outputs.append(constant)
            elif len(tensor.axes) == 1:
                outputs.append(part[tensor.axes] + constant[..., None])
            else:
                rows, columns = part[tensor.axes[:1]], part[tensor.axes[1:]]
                if tensor.is_loop:
                    rows, columns = rows.chunk(2, 1)
                columns = columns + constant[..., None]
                outputs.append(map_entries(*entries[target], rows, columns))
        return outputs

    def _pool(self, tensor: ParameterTensor, x: Tensor) -> dict[Axes, Tensor]:
        """Pool to every subset of the tensor's axes."""
        if len(tensor.axes) == 0:
            return {(): x}
        if len(tensor.axes) == 1:
            return {tensor.axes: x, (): pool(x, self.reduction)}
        x, rows, columns = pool_matrix(x, self.reduction)
        if tensor.is_loop:
            both = torch.cat([rows, columns, x.diagonal(dim1=2, dim2=3)], 1)
            whole = pool(rows, self.reduction)
            return {tensor.axes: torch.cat([x, x.mT], 1), tensor.axes[:1]: both, (): whole}
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


def _widen(channels: list[int], tensors: list[ParameterTensor], times: int) -> list[int]:
    return [
        times * own if tensor.is_loop else own
        for own, tensor in zip(channels, tensors, strict=True)
    ]


def _oriented(pooled: dict[Axes, Tensor], along: Axes) -> Tensor:
    """Give a matrix's entries with its axes in a given order."""
    return pooled[along] if along in pooled else pooled[along[::-1]].mT


@recorded
class DWSNet(nn.Module):
    """Classify INRs, or other networks, by their weights with DWSNet (Navon et al., 2023).

    ``Standardize``, then ``num_hidden + 1`` equivariant layers with batch norm, relu and dropout
    between them, then relu, pooling over all positions, and a linear layer.

    Args:
        architecture: Of the INRs: any number of layers from two, any widths; or of other networks.
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
        architecture: Architecture,
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
        check_options(
            dropout,
            num_classes=num_classes,
            hidden_dim=hidden_dim,
            num_hidden=num_hidden,
            num_heads=num_heads,
        )
        check_choice("set_layer", set_layer, SET_LAYERS)
        check_choice("reduction", reduction, REDUCTIONS)
        if set_layer == "attention":
            check_heads(num_heads, "hidden_dim", hidden_dim)
        self._lanes: LanePlan | None = None
        self.standardize = Standardize(architecture)
        self.architecture = architecture
        self.tensors = parameter_tensors(architecture)
        self.reduction = reduction
        self.layers = nn.ModuleList(
            DWSLayer(
                self.tensors,
                None if layer == 0 else hidden_dim,
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
        self.parameter_channels = hidden_dim
        self.head = nn.Linear(hidden_dim * sum(tensor.fold for tensor in self.tensors), num_classes)

    def forward(self, batch: WeightBatch) -> Float[Tensor, "batch classes"]:
        """Give logits."""
        return self.head(self.embed(batch))  # type: ignore[no-any-return]

    def embed(self, batch: WeightBatch) -> Float[Tensor, "batch features"]:
        """Give invariant features: what the linear head takes."""
        pooled = self._pooled_in_lanes(batch)
        if pooled is None:
            pooled = [self._pool_all(x) for x in self.equivariant_features(batch)]
        last = sum(spec.is_weight for spec in self.architecture.tensors)
        weights, biases = pooled[:last], pooled[last:]
        return torch.cat([*weights[1:-1], weights[0], weights[-1], *biases], 1)

    def _pooled_in_lanes(self, batch: WeightBatch) -> Features | None:
        import os
        if not takes_lanes(batch.parameters) or os.environ.get("NOLANES"):
            return None
        check_architecture(self.architecture, batch)
        if self._lanes is None:
            layers = [
                (
                    dict(zip(layer.alongs, layer.linears, strict=True)),
                    (layer._bias_channel, layer.bias_coefficient),
                )
                for layer in self.layers
            ]
            self._lanes = LanePlan(self.architecture, self.tensors, layers, self.reduction)
        return self._lanes.embed(
            self.standardize(batch.parameters),
            [[*(linear.weight for linear in layer.linears), layer.bias] for layer in self.layers],
            [list(norms) for norms in self.norms],
            self.dropout.p if self.training else 0.0,
        )

    def parameter_features(self, batch: WeightBatch) -> Float[Tensor, "batch parameters channels"]:
        """Give features of every parameter, in row order: permuted as the neurons are."""
        features = self.equivariant_features(batch)
        rows = unfold_tensors(features, self.architecture, self.parameter_channels)
        return torch.relu(rows).to(batch.parameters.dtype)

    def equivariant_features(self, batch: WeightBatch) -> Features:
        """Give features of all weights, then of all biases, by their permutable axes."""
        check_architecture(self.architecture, batch)
        parameters = self.standardize(batch.parameters)
        device = parameters.device.type
        if torch.is_autocast_enabled(device):
            parameters = parameters.to(torch.get_autocast_dtype(device))
        with torch.autocast(device, enabled=False):
            features = fold_tensors(batch.replace(parameters=parameters))
            for number, layer in enumerate(self.layers):
                if number > 0:
                    features = [self._activate(number - 1, i, x) for i, x in enumerate(features)]
                features = layer(features)
        return features

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
