"""Where the kernels of DWSNet find the features, pooled features and weights of each tensor."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lightning_dws.models.dws_kernels import Layer
from lightning_dws.models.merged_linear import MergedLinear, MergedMaps
from lightning_dws.models.parameter_axes import Axes, ParameterTensor
from lightning_dws.models.pooling_kernels import Side


def fits_tables(tensors: Sequence[ParameterTensor]) -> bool:
    """Whether two axes are one tensor's alone, and not the same: else its entries meet others'."""
    pairs = [frozenset(tensor.axes) for tensor in tensors if len(tensor.axes) == 2]
    return len(set(pairs)) == len(pairs) and all(len(pair) == 2 for pair in pairs)


class LayerTables:
    """What a layer's kernels must know, and how its parameters become their weights.

    Args:
        tensors: The parameter tensors.
        shapes: The positions of each, (n, m); an axis that it has not counts 1.
        maps: Of the layer.
        reduction: How to pool. A mean is a sum whose map is divided.
        activates: Whether the layer reads its features activated.
    """

    def __init__(
        self,
        tensors: Sequence[ParameterTensor],
        shapes: Sequence[tuple[int, int]],
        maps: MergedMaps,
        reduction: str,
        activates: bool,
    ) -> None:
        self.tensors, self.shapes, self.reduction = tensors, shapes, reduction
        sizes: dict[int, int] = {}
        for tensor, shape in zip(tensors, shapes, strict=True):
            sizes |= dict(zip(tensor.axes, shape, strict=False))
        self.axis_sizes = dict(sorted(sizes.items()))
        of_wholes = maps.of_axes[()]
        before, starts = self._place(of_wholes.in_channels)
        after, parts = self._place(of_wholes.out_channels)

        self.num_weights = 0
        slots, coefficients = [], []
        map_starts: dict[Axes, int] = {}
        for along, linear in maps.of_axes.items():
            matrix = self._coefficients(linear, along).flatten()
            map_starts[along] = self.num_weights
            slots.append(matrix.nonzero()[:, 0] + self.num_weights)
            coefficients.append(matrix[matrix != 0])
            self.num_weights += len(matrix)
        bias, self.num_weights = self.num_weights, self.num_weights + after.channels
        slots.append(maps.bias_channel.cpu() + bias)
        coefficients.append(maps.bias_coefficient.double().cpu() / len(tensors))
        self._slots = torch.cat(slots)
        self._coefficient = torch.cat(coefficients).float()

        axes = [(1, before.channels, after.channels, 0, 0, map_starts[()])]
        for axis, n in self.axis_sizes.items():
            linear = maps.of_axes[(axis,)]
            c, d = sum(linear.in_channels), sum(linear.out_channels)
            axes.append((n, c, d, starts[axis], parts[axis], map_starts[(axis,)]))
        of_tensors = [
            (*shape, map_starts[tensor.axes] if len(tensor.axes) == 2 else -1)
            for tensor, shape in zip(tensors, shapes, strict=True)
        ]
        self.layer = Layer(
            np.array(of_tensors, np.int64),
            np.array(axes, np.int64),
            bias,
            before,
            after,
            reduction == "max",
            0.0 if activates else -np.inf,
        )

    def weights(self, parameters: Sequence[Float[Tensor, "..."]]) -> Float[Tensor, "weights"]:
        """Give the kernels' weights of the maps' and the bias, in that order; autograd follows."""
        own = torch.cat([parameter.flatten() for parameter in parameters]) * self._coefficient
        return own.new_zeros(self.num_weights).index_add(0, self._slots, own)

    def _place(self, channels: Sequence[int]) -> tuple[Side, dict[int, int]]:
        """Place features of so many channels; say where those pooled along each axis begin, too."""
        places = np.zeros((len(channels), 7), np.int64)
        features = 0
        for t, (own, (n, m)) in enumerate(zip(channels, self.shapes, strict=True)):
            whole = sum(channels[:t])
            places[t] = own, features, whole, 0, 0, whole, 0
            features += own * n * m
        pooled, starts = sum(channels), {}
        for axis, n in self.axis_sizes.items():
            members = [t for t, tensor in enumerate(self.tensors) if axis in tensor.axes]
            step = sum(channels[t] for t in members)
            starts[axis], own = pooled, pooled
            for t in members:
                first = 3 if self.tensors[t].axes[0] == axis else 5
                places[t, first : first + 2] = own, step
                own += channels[t]
            pooled += n * step
        for t, tensor in enumerate(self.tensors):
            if not tensor.axes:  # its row is its whole once more, of which nothing is made
                places[t, 3] = pooled
                pooled += channels[t]
        return Side(places, sum(channels), features, pooled), starts

    def _coefficients(self, linear: MergedLinear, along: Axes) -> Tensor:
        matrix = linear.coefficients.double().cpu() * linear.scale
        if self.reduction != "mean":
            return matrix
        kept = np.prod([self.axis_sizes[axis] for axis in along])
        counts = torch.tensor([np.prod(self.shapes[source]) / kept for source in linear.sources])
        return matrix / counts.repeat_interleave(torch.tensor(linear.in_channels))
