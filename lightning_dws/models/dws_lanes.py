"""DWSNet on CPUs, an INR in each lane of a vector.

A compiled kernel takes a group of INRs through a whole layer, and another one back; see
``dws_kernels``. Between layers are the features of all tensors, (G, entries, lanes). Batch norm,
relu and dropout are what the next layer reads them by.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from lightning_dws.models.batch_norm import PositionBatchNorm
from lightning_dws.models.dense_edges import takes_kernels
from lightning_dws.models.dws_kernels import Layer, features_backward, layer_backward, layer_forward
from lightning_dws.models.dws_layer import DWSLayer
from lightning_dws.models.dws_tables import LayerTables
from lightning_dws.models.lane_dropout import draw_keep_bits
from lightning_dws.models.lanes import LANES, from_lanes, to_lanes
from lightning_dws.models.parameter_axes import fold_tensors
from lightning_dws.models.pooling_kernels import pool_features
from lightning_dws.models.scratch_kernels import make_room
from lightning_dws.parallel import map_in_threads, one_thread_per_operation
from lightning_dws.weight_space import Architecture, WeightBatch

Norms = Sequence[PositionBatchNorm]  # of each tensor
Affine = Float[Tensor, "3 channels"]  # mean, scale and shift
Lanes = Float[Tensor, "groups entries lanes"]
Pooled = Float[Tensor, "groups channels lanes"]


def takes_lanes(x: Float[Tensor, "batch ..."]) -> bool:
    """Whether lanes are faster: in float32 on a CPU, three quarters of them filled with INRs."""
    lanes = -(-len(x) // LANES) * LANES
    return takes_kernels(x) and x.dtype == torch.float32 and 0 < 3 * lanes <= 4 * len(x)


class LaneNetwork:
    """The layers of a DWSNet, as kernels see them; it holds none of their parameters.

    Args:
        architecture: Of the INRs.
        layers: Of the network.
    """

    def __init__(self, architecture: Architecture, layers: Sequence[DWSLayer]) -> None:
        length = sum(spec.num_entries for spec in architecture.tensors)
        zero = torch.zeros(1, dtype=torch.int64)
        entries = torch.arange(length, dtype=torch.float64)[None]
        folded = fold_tensors(WeightBatch(architecture, entries, zero, zero, zero))
        moved = [x[0].movedim(0, -1) for x in folded]  # channels behind positions
        self._entries = torch.cat([x.flatten() for x in moved]).long()
        shapes = [(*x.shape[:-1], 1, 1)[:2] for x in moved]
        self._layers = [
            LayerTables(layer, shapes, activates=number > 0) for number, layer in enumerate(layers)
        ]
        last = self._layers[-1].layer
        no_maps = last.tensors * (1, 1, 0) - (0, 0, 1)
        self._readout = last._replace(tensors=no_maps, before=last.after, floor=0.0)
        channels = torch.from_numpy(last.after.places[:, 0]).clone()
        positions = torch.tensor([n * m for n, m in shapes])
        self._channels: list[int] = channels.tolist()
        self._positions = positions.repeat_interleave(channels)
        self._is_mean = layers[0].reduction == "mean"
        # Channels of a tensor come once for each of its folds; a norm's are shared by these.
        tensors = layers[0].tensors
        folds = torch.tensor([tensor.fold for tensor in tensors])
        width = self._channels[0] // tensors[0].fold
        norm_channels = torch.arange(len(tensors) * width).view(len(tensors), width)
        self._norm_channel = torch.cat(
            [own.repeat(fold) for own, fold in zip(norm_channels, folds, strict=True)]
        )
        self._norm_positions = (positions * folds).repeat_interleave(width)

    @one_thread_per_operation()
    def embed(
        self,
        parameters: Float[Tensor, "batch parameters"],
        layers: Sequence[DWSLayer],
        norms: Sequence[Norms],
        dropout: float,
    ) -> list[Float[Tensor, "batch _channels"]]:
        """Give relu of the last layer's features, pooled over all positions of each tensor.

        Args:
            parameters: Standardised rows.
            layers: Whose parameters to use.
            norms: Of every layer but the last one; or none.
            dropout: Probability of dropping a feature between layers.
        """
        weights = [own.weights(layer) for own, layer in zip(self._layers, layers, strict=True)]
        z = to_lanes(parameters.index_select(1, self._entries))
        uses_batch = len(norms) > 0 and norms[0][0].training
        if uses_batch or dropout > 0 or torch.is_grad_enabled():
            pooled = self._embed(z, weights, norms, dropout, len(parameters))
        else:
            pooled = self._evaluate(z, weights, norms)
        rows = from_lanes(pooled, len(parameters))
        if self._is_mean:
            rows = rows / self._positions
        return list(rows.split(self._channels, 1))

    def _embed(
        self, z: Lanes, weights: Sequence[Tensor], norms: Sequence[Norms], dropout: float, size: int
    ) -> Pooled:
        uses_batch, last = len(norms) > 0 and norms[0][0].training, len(weights) - 1
        affine, keep = _identity(self._layers[0].layer), np.empty((len(z), 0), np.uint16)
        for number, (tables, own) in enumerate(zip(self._layers, weights, strict=True)):
            has_norm = number < len(norms)
            z, moments = _Layer.apply(  # type: ignore[no-untyped-call]
                tables.layer, uses_batch and has_norm, keep, z, affine, own
            )
            affine = _identity(self._readout)
            if has_norm:
                of_inrs = from_lanes(moments, size) if uses_batch else None
                affine = self._normalise(norms[number], of_inrs)
            if dropout > 0 and number < last:
                keep, kept_share = draw_keep_bits(tuple(z.shape[:2]), dropout)
                affine = affine / affine.new_tensor([1, kept_share, kept_share])[:, None]
        return _PoolAll.apply(self._readout, z, affine)  # type: ignore[no-any-return, no-untyped-call]

    def _evaluate(self, z: Lanes, weights: Sequence[Tensor], norms: Sequence[Norms]) -> Pooled:
        """Do what ``_embed`` does, group by group, each of which stays in the cache.

        There is little of Python between the kernels, since its lock lets other threads wait.
        """
        readout = self._readout
        affines = [_identity(self._layers[0].layer), *(self._normalise(own, None) for own in norms)]
        affines += [_identity(readout)] * (len(weights) + 1 - len(affines))
        *of_layers, last = map(_flat, affines)
        layers = [tables.layer for tables in self._layers]
        steps = list(zip(layers, of_layers, map(_flat, weights), strict=True))
        result = _empty(len(z), readout.before.pooled, LANES)
        inputs, outputs = _groups(z), _groups(result)

        def evaluate(group: int) -> None:
            x = inputs[group]
            for layer, affine, own in steps:
                sizes = (layer.after.features, layer.before.pooled, layer.attended)
                y, *kept = (_room(size) for size in sizes)
                layer_forward(layer, x, affine, _NO_BITS, own, y, *kept, _NOTHING)
                x = y
            _pool(readout, x, last, outputs[group])

        map_in_threads(evaluate, range(len(z)))
        return result[:, : readout.before.channels]

    def _normalise(self, norms: Norms, moments: Float[Tensor, "batch _moments"] | None) -> Affine:
        """Give batch norm by a batch's moments, or by the running statistics."""
        weight = torch.cat([norm.weight for norm in norms])
        bias = torch.cat([norm.bias for norm in norms])
        if moments is None:
            mean = torch.cat([norm.running_mean for norm in norms])
            variance = torch.cat([norm.running_var for norm in norms])
        else:
            count = len(moments) * self._norm_positions
            mean, variance = self._join(moments, count)
            correction = count / (count - 1).clamp(min=1)
            unbiased = variance.detach() * correction.to(variance.dtype)
            width = len(norms[0].weight)
            of_norms = zip(norms, mean.detach().split(width), unbiased.split(width), strict=True)
            for norm, own_mean, own_variance in of_norms:
                norm.track(own_mean, own_variance)
        scale = weight * (variance + norms[0].eps).rsqrt()
        return torch.stack([mean, scale, bias]).index_select(1, self._norm_channel)

    def _join(self, moments: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
        """Give the mean and variance of all that share a norm's channel (Chan et al., 1979)."""
        means, squares = moments.chunk(2, 1)
        zeros = moments.new_zeros(len(count))
        total = zeros.index_add(0, self._norm_channel, means.sum(0) * self._positions)
        mean = total / count
        deviations = (means - mean[self._norm_channel]).square().sum(0) * self._positions
        joint = zeros.index_add(0, self._norm_channel, squares.sum(0) + deviations)
        return mean, joint / count


def _identity(layer: Layer) -> Affine:
    rows = torch.tensor([[0.0], [1.0], [0.0]], dtype=torch.float32)
    return rows.repeat(1, layer.before.channels)


class _Layer(torch.autograd.Function):
    """Give features, and each channel's mean and sum of squares of deviations, or none."""

    @staticmethod
    def forward(
        ctx: Any,
        layer: Layer,
        has_moments: bool,
        keep: Any,
        z: Tensor,
        affine: Tensor,
        weights: Tensor,
    ) -> tuple[Tensor, Tensor]:
        groups, _, lanes = z.shape
        y = _empty(groups, layer.after.features, lanes)
        pooled = _empty(groups, layer.before.pooled, lanes)
        attended = _empty(groups, layer.attended, lanes)
        moments = z.new_empty(groups, 2 * layer.after.channels * has_moments, lanes)

        own_affine, own_weights, own_z = _flat(affine), _flat(weights), _groups(z)
        outputs = [_groups(x) for x in (y, pooled, attended, moments)]

        def compute(group: int) -> None:
            out = (x[group] for x in outputs)
            layer_forward(layer, own_z[group], own_affine, keep[group], own_weights, *out)

        map_in_threads(compute, range(groups))
        ctx.layer, ctx.keep = layer, keep
        ctx.set_materialize_grads(False)
        kept = (y, moments) if has_moments else ()
        ctx.save_for_backward(z, affine, weights, pooled, attended, *kept)
        return y, moments

    @staticmethod
    @once_differentiable
    @one_thread_per_operation()
    def backward(ctx: Any, grad_y: Tensor, grad_moments: Tensor | None) -> Any:
        layer, keep = ctx.layer, ctx.keep
        z, affine, weights, pooled, attended, *rest = ctx.saved_tensors
        groups, _, lanes = z.shape
        nothing = z.new_empty(groups, 0, lanes)
        y = slopes = nothing
        if grad_moments is not None and rest:
            y, moments = rest
            slopes = _linear_in_features(layer, moments, grad_moments)
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
            for x in (
                pooled,
                attended,
                y,
                grad_y,
                slopes,
                grad_weights,
                grad_wholes,
                grad_affine,
                grad_z,
            )
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
    n, m, _ = layer.tensors.T
    positions = torch.from_numpy((n * m).repeat(layer.after.places[:, 0]))[:, None]
    mean, _ = moments.chunk(2, 1)
    grad_mean, grad_squares = grad.chunk(2, 1)
    slope = 2 * grad_squares
    return torch.cat([slope, grad_mean / positions - slope * mean], 1)


class _PoolAll(torch.autograd.Function):
    """Pool relu(z) over all positions of every tensor."""

    @staticmethod
    def forward(ctx: Any, layer: Layer, z: Tensor, affine: Tensor) -> Tensor:
        pooled = _empty(len(z), layer.before.pooled, z.shape[2])

        own_affine, inputs, outputs = _flat(affine), _groups(z), _groups(pooled)

        def compute(group: int) -> None:
            _pool(layer, inputs[group], own_affine, outputs[group])

        map_in_threads(compute, range(len(z)))
        ctx.layer = layer
        ctx.save_for_backward(z, affine, pooled)
        return pooled[:, : layer.before.channels].clone()

    @staticmethod
    @once_differentiable
    @one_thread_per_operation()
    def backward(ctx: Any, grad: Tensor) -> Any:
        z, affine, pooled = ctx.saved_tensors
        layer = ctx.layer
        grad_pooled = torch.zeros_like(pooled)
        grad_pooled[:, : layer.before.channels] = grad
        grad_z = _empty(*z.shape)
        own_affine = _flat(affine)
        own_z, own_pooled, own_grad, out = map(_groups, (z, pooled, grad_pooled, grad_z))

        def differentiate(group: int) -> None:
            features_backward(
                layer, own_z[group], own_affine, _NO_BITS, _NOTHING, own_pooled[group],
                own_grad[group], _NOTHING, _NOTHING, _NOTHING, out[group],
            )  # fmt: skip

        map_in_threads(differentiate, range(len(z)))
        return None, grad_z, None


def _pool(layer: Layer, z: Any, affine: Any, pooled: Any) -> None:
    pool_features(
        layer.tensors, layer.before, layer.takes_maxima, z, affine, layer.floor, _NO_BITS, pooled
    )


_NO_BITS, _NOTHING = np.empty(0, np.uint16), np.empty(0, np.float32)


_room = make_room.py_func  # NumPy's memory is huge pages


def _empty(*shape: int) -> Tensor:
    return torch.from_numpy(_room(math.prod(shape) // LANES)).view(shape)


def _groups(x: Tensor) -> Any:
    return x.detach().flatten(1).numpy()


def _flat(x: Tensor) -> Any:
    return x.detach().reshape(-1).numpy()
