"""Where the kernels of DWSNet find the features, pooled features and weights of each tensor."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lightning_dws.models.dws_kernels import Layer
from lightning_dws.models.dws_layer import DWSLayer
from lightning_dws.models.merged_linear import MergedLinear
from lightning_dws.models.parameter_axes import Axes
from lightning_dws.models.pooling_kernels import Side
from lightning_dws.models.set_attention import AttentionGroup

# Of each axis and each tensor that has it: where what is along the axis begins, and the step.
Along = Mapping[tuple[int, int], tuple[int, int]]


def fits_tables(layer: DWSLayer) -> bool:
    """Whether the kernels know how its tensors meet.

    Two axes are one tensor's alone, and not the same; and each tensor's whole is mapped, which
    attention along an axis that all tensors have leaves out.
    """
    pairs = [frozenset(tensor.axes) for tensor in layer.tensors if len(tensor.axes) == 2]
    wholes = {block.source for block in layer.maps if block.along == ()}
    return (
        len(set(pairs)) == len(pairs)
        and all(len(pair) == 2 for pair in pairs)
        and len(wholes) == len(layer.tensors)
    )


class LayerTables:
    """What a layer's kernels must know, and how its parameters become their weights.

    Kernels sum where the layer takes means; what maps a sum is divided.

    Args:
        layer: Whose tables they are; it is not kept.
        shapes: The positions of each tensor, (n, m); an axis that it has not counts 1.
        activates: Whether the layer reads its features activated.
    """

    def __init__(self, layer: DWSLayer, shapes: Sequence[tuple[int, int]], activates: bool) -> None:
        self.tensors, self.shapes, self.reduction = layer.tensors, shapes, layer.reduction
        sizes: dict[int, int] = {}
        for tensor, shape in zip(self.tensors, shapes, strict=True):
            sizes |= dict(zip(tensor.axes, shape, strict=False))
        self.axis_sizes = dict(sorted(sizes.items()))
        self.num_weights = self.num_attended = 0
        self._slots = torch.empty(0, dtype=torch.int64)
        self._coefficient = torch.empty(0, dtype=torch.float32)
        maps = dict(zip(layer.alongs, layer.linears, strict=True))
        before, sources = self._place(layer.in_channels, maps)
        after, targets = self._place(layer.out_channels, maps)

        map_starts: dict[Axes, int] = {}
        for along, linear in maps.items():
            matrix = self._coefficients(linear, along).flatten()
            exists = matrix.nonzero()[:, 0]
            map_starts[along] = self._take_weights(len(matrix))
            self._read(map_starts[along] + exists, matrix[exists])
        bias = self._take_weights(after.channels)
        self._read(
            bias + layer.bias_channel.cpu(), layer.bias_coefficient.double().cpu() / len(shapes)
        )
        axes = [(1, before.channels, after.channels, 0, 0, 0, 0, map_starts[()])]
        for axis, n in self.axis_sizes.items():
            if (axis,) in maps:
                linear = maps[(axis,)]
                channels = sum(linear.in_channels), sum(linear.out_channels)
                first = axis, linear.sources[0]
                axes.append((n, *channels, *sources[first], *targets[first], map_starts[(axis,)]))
        blocks = [
            block
            for axis, group in layer.attention_groups()
            for block in self._place_blocks(axis, group, layer, sources, targets)
        ]
        of_tensors = [
            (*shape, map_starts[tensor.axes] if len(tensor.axes) == 2 else -1)
            for tensor, shape in zip(self.tensors, shapes, strict=True)
        ]
        self.layer = Layer(
            np.array(of_tensors, np.int64),
            np.array(axes, np.int64),
            np.array(blocks, np.int64).reshape(-1, 11),
            bias,
            before,
            after,
            self.num_attended,
            layer.reduction == "max",
            0.0 if activates else -np.inf,
        )

    def weights(self, layer: DWSLayer) -> Float[Tensor, "weights"]:
        """Give the kernels' weights of the layer's parameters; autograd follows."""
        parameters = [*(linear.weight for linear in layer.linears), layer.bias]
        for _, group in layer.attention_groups():
            parameters += [*group.in_weights, group.out_weight, group.out_bias]
        own = torch.cat([parameter.flatten() for parameter in parameters]) * self._coefficient
        return own.new_zeros(self.num_weights).index_add(0, self._slots, own)

    def _take_weights(self, count: int) -> int:
        """Give the first of so many more weights."""
        self.num_weights += count
        return self.num_weights - count

    def _read(self, slots: Tensor, coefficients: Tensor) -> None:
        """Note which weights the next parameter's entries are added to, and times what."""
        self._slots = torch.cat([self._slots, slots.flatten()])
        self._coefficient = torch.cat([self._coefficient, coefficients.flatten().float()])

    def _place(
        self, channels: Sequence[int], maps: Mapping[Axes, MergedLinear]
    ) -> tuple[Side, Along]:
        """Place features of so many channels, and what is pooled from them."""
        places = np.zeros((len(channels), 7), np.int64)
        features = 0
        for t, (own, (n, m)) in enumerate(zip(channels, self.shapes, strict=True)):
            whole = sum(channels[:t])
            places[t] = own, features, whole, 0, 0, whole, 0
            features += own * n * m
        pooled, along = sum(channels), {}
        for axis, n in self.axis_sizes.items():
            members = [t for t, tensor in enumerate(self.tensors) if axis in tensor.axes]
            mapped = maps[(axis,)].sources if (axis,) in maps else []
            members = [*mapped, *(t for t in members if t not in mapped)]  # one matrix maps these
            step, own = sum(channels[t] for t in members) | 1, pooled
            for t in members:
                first = 3 if self.tensors[t].axes[0] == axis else 5
                places[t, first : first + 2] = along[axis, t] = own, step
                own += channels[t]
            pooled += n * step
        for t, tensor in enumerate(self.tensors):
            if not tensor.axes:  # its row is its whole once more, of which nothing is made
                places[t, 3] = pooled
                pooled += channels[t]
        return Side(places, sum(channels), features, pooled), along

    def _coefficients(self, linear: MergedLinear, along: Axes) -> Tensor:
        matrix = linear.coefficients.double().cpu() * linear.scale
        shares = matrix.new_tensor([self._share(source, along) for source in linear.sources])
        return matrix * shares.repeat_interleave(torch.tensor(linear.in_channels))

    def _share(self, tensor: int, along: Axes) -> float:
        """Give what a tensor's sums over all axes but these are multiplied by."""
        kept = math.prod(self.axis_sizes[axis] for axis in along)
        return kept / math.prod(self.shapes[tensor]) if self.reduction == "mean" else 1.0

    def _place_blocks(
        self, axis: int, group: AttentionGroup, layer: DWSLayer, sources: Along, targets: Along
    ) -> list[tuple[int, ...]]:
        """Place a group's weights, and what is kept of its blocks; give the table of these.

        The scale of the scores is in the weights, and so is that of the mean over tensors, s: as
        relu(s x) is s relu(x), a result is s times as large if q, v and the bias of o's map are.
        """
        n, d, s = self.axis_sizes[axis], group.out_bias.shape[1], 1 / len(self.tensors)
        scales = torch.tensor([s, 1 / (s * math.sqrt(d)), s], dtype=torch.float64)
        rows, out_maps = torch.arange(d), []
        blocks: list[tuple[int, ...]] = []
        for source, own in zip(group.sources, group.blocks, strict=True):
            c, maps = layer.in_channels[source], []
            for target in own:
                maps.append(self._take_weights(3 * d * (c + 1)))
                out_maps.append(self._take_weights(d * (d + 1)))
                x, y = sources[axis, source], targets[axis, group.targets[target]]
                blocks.append(
                    (n, c, d, group.num_heads, *x, *y, maps[-1], out_maps[-1], self.num_attended)
                )
                self.num_attended += n * d
            kinds = torch.arange(3 * d * (c + 1)).view(3, 1, d, c + 1)
            slots = torch.tensor(maps).view(-1, 1, 1) + kinds
            columns = torch.full((c + 1,), self._share(source, (axis,)), dtype=torch.float64)
            columns[c] = 1
            self._read(slots, (scales.view(3, 1, 1, 1) * columns).expand(slots.shape))
        out_map = torch.tensor(out_maps).view(-1, 1, 1) + (d + 1) * rows[:, None]
        self._read(out_map + rows, torch.ones(len(blocks), d, d))
        self._read(out_map + d, torch.full((len(blocks), d), s))
        return blocks
