"""DWSNet with DeepSets on CPUs, an INR in each lane of a vector: what ``DWSNet.embed`` gives.

A compiled kernel takes a group of INRs through a whole layer, and another one back; see
``dws_kernels``. Between layers are the groups' features of all tensors, (G, entries, lanes).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from lightning_dws.models.batch_norm import PositionBatchNorm
from lightning_dws.models.dws_kernels import Layer, features_backward, layer_backward, layer_forward
from lightning_dws.models.lane_dropout import draw_keep_bits
from lightning_dws.models.lanes import LANES, from_lanes, to_lanes
from lightning_dws.models.merged_linear import MergedLinear
from lightning_dws.models.parameter_axes import Axes, ParameterTensor, fold_tensors
from lightning_dws.models.pooling_kernels import Side, pool_features
from lightning_dws.parallel import map_in_threads
from lightning_dws.weight_space import Architecture, WeightBatch

Lanes = Float[Tensor, "groups entries lanes"]


class Sizes(NamedTuple):
    """The positions of every tensor: n x m, where an axis that it has not counts 1."""

    tensors: list[ParameterTensor]
    shapes: list[tuple[int, int]]

    @property
    def axes(self) -> dict[int, int]:
        """The number of neurons of every axis."""
        sizes = {}
        for tensor, shape in zip(self.tensors, self.shapes, strict=True):
            sizes |= dict(zip(tensor.axes, shape, strict=False))
        return dict(sorted(sizes.items()))

    def members(self, axis: int) -> list[int]:
        """The tensors that have an axis."""
        return [t for t, tensor in enumerate(self.tensors) if axis in tensor.axes]


def place_side(sizes: Sizes, channels: Sequence[int]) -> tuple[Side, dict[int, int]]:
    """Place features of tensors; give where those along each axis begin, too."""
    places = np.zeros((len(channels), 7), np.int64)
    total = sum(channels)
    start, pooled = 0, total
    for t, (own, (n, m)) in enumerate(zip(channels, sizes.shapes, strict=True)):
        whole = sum(channels[:t])
        places[t] = own, start, whole, 0, 0, whole, 0
        start += own * n * m
    along = {}
    for axis, n in sizes.axes.items():
        members = sizes.members(axis)
        step = sum(channels[t] for t in members)
        along[axis], own = pooled, pooled
        for t in members:
            first = 3 if sizes.tensors[t].axes[0] == axis else 5
            places[t, first : first + 2] = own, step
            own += channels[t]
        pooled += n * step
    for t, tensor in enumerate(sizes.tensors):
        if not tensor.axes:  # its row is its whole once more, of which nothing is made
            places[t, 3] = pooled
            pooled += channels[t]
    return Side(places, total, start, pooled), along


class LayerPlan:
    """What the kernels must know of a layer.

    Attributes:
        layer: The tables.
        slots: Where each entry of the layer's parameters goes among the kernels' weights.
        coefficients: And what it is multiplied by.
        num_weights: Of the kernels.
    """

    def __init__(
        self,
        sizes: Sizes,
        in_channels: Sequence[int],
        out_channels: Sequence[int],
        linears: dict[Axes, MergedLinear],
        biases: tuple[Tensor, Tensor],
        reduction: str,
        activates: bool,
    ) -> None:
        before, starts = place_side(sizes, in_channels)
        after, parts_starts = place_side(sizes, out_channels)
        self.num_weights = 0
        slots, coefficients = [], []
        maps: dict[Axes, int] = {}
        for along, linear in linears.items():
            # A mean is a sum whose map is divided.
            counts = [
                np.prod(sizes.shapes[source]) / np.prod([sizes.axes[axis] for axis in along])
                for source in linear.sources
            ]
            divisors = torch.tensor(counts if reduction == "mean" else [1.0] * len(counts))
            divisor = divisors.repeat_interleave(torch.tensor(linear.in_channels))
            matrix = (linear.coefficients.double().cpu() * linear.scale / divisor).flatten()
            maps[along] = self.num_weights
            slots.append(matrix.nonzero()[:, 0] + self.num_weights)
            coefficients.append(matrix[matrix != 0])
            self.num_weights += len(matrix)
        channel, coefficient = biases
        slots.append(channel.cpu() + self.num_weights)
        coefficients.append(coefficient.double().cpu() / len(sizes.tensors))
        bias = self.num_weights
        self.num_weights += sum(out_channels)
        self.slots = torch.cat(slots)
        self.coefficients = torch.cat(coefficients).float()
        tensors = [
            (*shape, maps.get(tensor.axes, -1) if len(tensor.axes) == 2 else -1)
            for tensor, shape in zip(sizes.tensors, sizes.shapes, strict=True)
        ]
        axes = []
        for axis, n in sizes.axes.items():
            c, d = (
                sum(own[t] for t in sizes.members(axis)) for own in (in_channels, out_channels)
            )
            axes.append((n, c, d, starts[axis], parts_starts[axis], maps[(axis,)]))
        self.layer = Layer(
            np.array(tensors, np.int64),
            np.array(axes, np.int64).reshape(-1, 6),
            bias,
            before,
            after,
            reduction == "max",
            0.0 if activates else -np.inf,
        )

    def weights(self, parameters: list[Tensor]) -> Tensor:
        """Give the kernels' weights, which follow autograd."""
        own = torch.cat([parameter.flatten() for parameter in parameters]) * self.coefficients
        return own.new_zeros(self.num_weights).index_add(0, self.slots, own)


class LanePlan:
    """DWSNet's layers on INRs in lanes.

    Args:
        architecture: Of the INRs.
        tensors: Its parameter tensors.
        layers: Of each the linear maps, by axes, and for every entry of its bias the channel that
            it belongs to and what it is multiplied by.
        reduction: How to pool.
    """

    def __init__(
        self,
        architecture: Architecture,
        tensors: list[ParameterTensor],
        layers: list[tuple[dict[Axes, MergedLinear], tuple[Tensor, Tensor]]],
        reduction: str,
    ) -> None:
        length = sum(spec.num_entries for spec in architecture.tensors)
        one = torch.zeros(1, dtype=torch.int64)
        rows = WeightBatch(architecture, torch.arange(length).double()[None], one, one, one)
        entries = [x[0].movedim(0, -1) for x in fold_tensors(rows)]  # channels behind positions
        self.entries = torch.cat([x.flatten() for x in entries]).long()
        shapes = [(*x.shape[:-1], 1, 1)[:2] for x in entries]
        sizes = Sizes(tensors, shapes)
        self.layers = [
            LayerPlan(sizes, maps[()].in_channels, maps[()].out_channels, maps, biases, reduction, i > 0)
            for i, (maps, biases) in enumerate(layers)
        ]
        last = self.layers[-1].layer
        self.readout = last._replace(
            tensors=last.tensors * (1, 1, 0) - (0, 0, 1), before=last.after, floor=0.0
        )
        self.is_mean = reduction == "mean"
        folds = torch.tensor([tensor.fold for tensor in tensors])
        self.positions = torch.tensor([n * m for n, m in shapes])
        channels = torch.from_numpy(last.after.places[:, 0]).clone()
        self.channels = channels.tolist()
        # Features' channels are those of the folds of each tensor; a norm's are shared by these.
        width = self.channels[0] // tensors[0].fold
        self.of_norm = torch.cat(
            [torch.arange(t * width, (t + 1) * width).repeat(fold) for t, fold in enumerate(folds)]
        )
        self.positions_of_channel = self.positions.repeat_interleave(channels)
        self.positions_of_norm = (self.positions * folds).repeat_interleave(width)

    def embed(
        self,
        parameters: Float[Tensor, "batch parameters"],
        of_layers: list[list[Tensor]],
        norms: list[list[PositionBatchNorm]],
        dropout: float,
    ) -> list[Float[Tensor, "batch _channels"]]:
        """Give relu of the last layer's features, pooled over all positions of each tensor.

        Args:
            parameters: Standardised rows.
            of_layers: Weights of the linear maps, and bias, of every layer.
            norms: Of every layer but the last one, by tensor; or none.
            dropout: Probability of dropping a feature between layers.
        """
        size = len(parameters)
        z = to_lanes(parameters.index_select(1, self.entries))
        affine = moments = _identity(self.layers[0].layer, parameters)
        keep = np.empty((len(z), 0), np.uint16)
        for number, (plan, own) in enumerate(zip(self.layers, of_layers, strict=True)):
            if number > 0:
                keep, kept_share = draw_keep_bits(tuple(z.shape[:2]), dropout)
                affine = _identity(plan.layer, parameters)
                if norms:
                    affine = self._normalise(norms[number - 1], from_lanes(moments, size))
                affine = affine / affine.new_tensor([1, kept_share, kept_share])[:, None]
            has_moments = number < len(norms) and norms[number][0].training
            z, moments = _Layer.apply(  # type: ignore[no-untyped-call]
                plan.layer, has_moments, keep, z, affine, plan.weights(own)
            )
        pooled = _PoolAll.apply(self.readout, z, _identity(self.readout, parameters))  # type: ignore[no-untyped-call]
        rows = from_lanes(pooled, size)
        if self.is_mean:
            rows = rows / self.positions_of_channel
        return list(rows.split(self.channels, 1))

    def _normalise(
        self, norms: list[PositionBatchNorm], moments: Float[Tensor, "batch 2*channels"]
    ) -> Float[Tensor, "3 channels"]:
        """Give batch norm's mean, scale and shift of every channel."""
        weight = torch.cat([norm.weight for norm in norms])
        bias = torch.cat([norm.bias for norm in norms])
        if norms[0].training:
            mean, variance, count = self._statistics(moments, len(weight))
            _track(norms, mean, variance, count)
        else:
            mean = torch.cat([norm.running_mean for norm in norms])
            variance = torch.cat([norm.running_var for norm in norms])
        scale = weight * (variance + norms[0].eps).rsqrt()
        return torch.stack([mean, scale, bias]).index_select(1, self.of_norm)

    def _statistics(self, moments: Tensor, channels: int) -> tuple[Tensor, Tensor, Tensor]:
        """Give mean and variance over batch, folds and positions, and how many these are."""
        means, squares = moments.chunk(2, 1)
        own, positions = self.positions_of_norm, self.positions_of_channel
        count = len(moments) * own
        total = moments.new_zeros(channels).index_add(0, self.of_norm, means.sum(0) * positions)
        mean = total / count
        centred = means - mean[self.of_norm]
        deviations = squares.sum(0) + positions * centred.square().sum(0)
        variance = moments.new_zeros(channels).index_add(0, self.of_norm, deviations) / count
        return mean, variance, count


def _identity(layer: Layer, like: Tensor) -> Float[Tensor, "3 channels"]:
    identity = like.new_zeros(3, layer.before.channels)
    identity[1] = 1
    return identity


@torch.no_grad()
def _track(
    norms: list[PositionBatchNorm], mean: Tensor, variance: Tensor, count: Tensor
) -> None:
    """Move the running statistics of a layer's norms towards a batch's."""
    unbiased = variance * (count / (count - 1).clamp(min=1))
    width = len(norms[0].weight)
    for norm, own_mean, own_variance in zip(
        norms, mean.split(width), unbiased.split(width), strict=True
    ):
        norm.num_batches_tracked += 1
        norm.running_mean.lerp_(own_mean, norm.momentum)
        norm.running_var.lerp_(own_variance, norm.momentum)


class _Layer(torch.autograd.Function):
    """Give features, and each channel's mean and sum of squares of deviations, or none."""

    @staticmethod
    def forward(
        ctx: Any, layer: Layer, has_moments: bool, keep: Any, z: Tensor, affine: Tensor, weights: Tensor
    ) -> tuple[Tensor, Tensor]:
        groups, _, lanes = z.shape
        y = _empty(groups, layer.after.features, lanes)
        pooled = _empty(groups, layer.before.pooled, lanes)
        moments = z.new_empty(groups, 2 * layer.after.channels * has_moments, lanes)

        own_affine, own_weights, own_z = _flat(affine), _flat(weights), _groups(z)
        outputs = [_groups(x) for x in (y, pooled, moments)]

        def compute(group: int) -> None:
            out = (x[group] for x in outputs)
            layer_forward(layer, own_z[group], own_affine, keep[group], own_weights, *out)

        map_in_threads(compute, range(groups))
        ctx.layer, ctx.keep = layer, keep
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(z, affine, weights, pooled, *((y, moments) if has_moments else ()))
        return y, moments

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor, grad_moments: Tensor | None) -> Any:
        layer, keep = ctx.layer, ctx.keep
        z, affine, weights, pooled, *rest = ctx.saved_tensors
        groups, _, lanes = z.shape
        nothing = z.new_empty(groups, 0, lanes)
        y = correction = nothing
        if grad_moments is not None and rest:
            y, moments = rest
            correction = _linear_in_features(layer, moments, grad_moments)
        grad_y = grad_y.contiguous()
        grad_z = nothing
        if ctx.needs_input_grad[3]:  # nobody else has the gradient that comes from the next layer
            is_alike = np.array_equal(layer.before.places[:, :2], layer.after.places[:, :2])
            grad_z = grad_y if is_alike else _empty(*z.shape)
        needs_grad_affine = ctx.needs_input_grad[4]
        size = 2 * layer.before.channels * needs_grad_affine
        grad_affine = z.new_zeros(groups, size, lanes)
        grad_wholes = z.new_empty(groups, layer.after.channels, lanes)
        grad_weights = z.new_zeros(groups, len(weights))
        own_affine, own_weights, own_z = _flat(affine), _flat(weights), _groups(z)
        others = [
            _groups(x)
            for x in (pooled, y, grad_y, correction, grad_weights, grad_wholes, grad_affine, grad_z)
        ]

        def differentiate(group: int) -> None:
            rest = (x[group] for x in others)
            layer_backward(layer, own_z[group], own_affine, keep[group], own_weights, *rest)

        map_in_threads(differentiate, range(groups))
        total = grad_weights.sum(0)
        wholes = pooled[:, : layer.before.channels]
        out, into = (x.movedim(1, 0).flatten(1) for x in (grad_wholes, wholes))
        total[: out.shape[0] * into.shape[0]] = (out @ into.T).flatten()
        total[layer.bias : layer.bias + len(out)] = out.sum(1)
        grad_of_affine = None
        if needs_grad_affine:
            scale, shift = grad_affine.sum((0, 2)).view(2, -1)
            grad_of_affine = torch.stack([-affine[1] * shift, scale, shift])
        return None, None, None, grad_z if grad_z.numel() else None, grad_of_affine, total


def _linear_in_features(layer: Layer, moments: Tensor, grad: Tensor) -> Tensor:
    """Give what times a feature, and what besides, is the gradient of its channel's moments."""
    positions = _positions(layer)[:, None]
    mean, _ = moments.chunk(2, 1)
    grad_mean, grad_squares = grad.chunk(2, 1)
    slope = 2 * grad_squares
    return torch.cat([slope, grad_mean / positions - slope * mean], 1)


def _positions(layer: Layer) -> Tensor:
    """The number of positions of each channel after a layer."""
    n, m, _ = torch.from_numpy(layer.tensors).T
    return (n * m).repeat_interleave(torch.from_numpy(layer.after.places[:, 0]))


class _PoolAll(torch.autograd.Function):
    """Pool relu(z) over all positions of every tensor."""

    @staticmethod
    def forward(ctx: Any, layer: Layer, z: Tensor, affine: Tensor) -> Tensor:
        pooled = _empty(len(z), layer.before.pooled, z.shape[2])

        own_affine, inputs, outputs = _flat(affine), _groups(z), _groups(pooled)

        def compute(group: int) -> None:
            pool_features(
                layer.tensors, layer.before, layer.takes_maxima,
                inputs[group], own_affine, layer.floor, _NO_BITS, outputs[group],
            )  # fmt: skip

        map_in_threads(compute, range(len(z)))
        ctx.layer = layer
        ctx.save_for_backward(z, affine, pooled)
        return pooled[:, : layer.before.channels].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        z, affine, pooled = ctx.saved_tensors
        layer = ctx.layer
        grad_pooled = torch.zeros_like(pooled)
        grad_pooled[:, : layer.before.channels] = grad
        grad_z, nothing = _empty(*z.shape), np.empty(0, np.float32)
        own_affine = _flat(affine)
        own_z, own_pooled, own_grad, out = map(_groups, (z, pooled, grad_pooled, grad_z))

        def differentiate(group: int) -> None:
            features_backward(
                layer, own_z[group], own_affine, _NO_BITS, nothing, own_pooled[group],
                own_grad[group], nothing, nothing, nothing, out[group],
            )  # fmt: skip

        map_in_threads(differentiate, range(len(z)))
        return None, grad_z, None


_NO_BITS = np.empty(0, np.uint16)


def _empty(*shape: int) -> Tensor:
    return torch.from_numpy(np.empty(shape, np.float32))


def _groups(x: Tensor) -> Any:
    return x.detach().flatten(1).numpy()


def _flat(x: Tensor) -> Any:
    return x.detach().reshape(-1).numpy()
