"""A layer of DWSNet: what it computes from each parameter tensor for each, by their shared axes.

Every parameter tensor of an INR has axes: weight l has neurons l+1 and neurons l, bias l has
neurons l+1. The INR's inputs and outputs cannot be permuted, nor can the positions of a CNN's
kernels; these axes are folded into the channels (``parameter_axes``). What a layer computes from
tensor S for tensor T is decided by the axes they share alone: see ``linear_maps``, the one rule.
"""

from collections.abc import Iterable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lightning_dws.models.index_tensors import IndexTensors
from lightning_dws.models.merged_linear import (
    LinearMap,
    MergedLinear,
    initialise_bias,
)
from lightning_dws.models.parameter_axes import Axes, ParameterTensor
from lightning_dws.models.pooling import map_entries, pool, pool_matrix
from lightning_dws.models.set_attention import AttentionGroup, AxisAttention

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
    bias_channel: Tensor

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
        self.in_channels, self.out_channels = in_channels, out_channels
        targets = [block.target for block in self.bias_maps]
        widths = torch.tensor([out_channels[target] for target in targets], dtype=torch.int64)
        channels = [torch.arange(out_channels[target]) + starts[target] for target in targets]
        coefficients = torch.tensor([block.coefficient for block in self.bias_maps])
        self.bias = nn.Parameter(initialise_bias(torch.empty(int(widths.sum()))))
        self.set_index("bias_channel", torch.cat([torch.arange(0), *channels]))
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

    def attention_groups(self) -> Iterator[tuple[int, AttentionGroup]]:
        """Give each group of attention blocks with its axis."""
        for axis, attention in self.attentions.items():
            for group in attention.groups:  # type: ignore[union-attr]
                yield int(axis), group

    def _total_bias(self, dtype: torch.dtype) -> Tensor:
        total = self.bias.new_zeros(sum(self.out_channels))
        biases = (self.bias * self.bias_coefficient).mul_(1 / len(self.tensors))
        return total.index_add(0, self.bias_channel, biases).to(dtype)


def _widen(channels: list[int], tensors: list[ParameterTensor], times: int) -> list[int]:
    return [
        times * own if tensor.is_loop else own
        for own, tensor in zip(channels, tensors, strict=True)
    ]


def _oriented(pooled: dict[Axes, Tensor], along: Axes) -> Tensor:
    """Give a matrix's entries with its axes in a given order."""
    return pooled[along] if along in pooled else pooled[along[::-1]].mT
