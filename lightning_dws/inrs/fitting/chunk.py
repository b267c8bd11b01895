"""The INRs that are fitted together: their weights, their signals, and passes over them."""

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_dws.inrs.fitting.fused import sine_and_cosine_
from lightning_dws.inrs.siren import encode_points
from lightning_dws.sine_kernel import sine_kernel
from lightning_dws.weight_space import INRArchitecture

DIVERGED_GROWTH = 100.0  # of the error since the start
_MAX_PSNR = 150.0


def psnr_of(mean_squared_error: Tensor) -> Tensor:
    """Give the peak signal-to-noise ratio in dB, for a peak of 1, of errors of any shape."""
    return -10 * torch.log10(mean_squared_error.clamp_min(10 ** (-_MAX_PSNR / 10)))


def share_points(num_points: int, points_per_step: int | None) -> tuple[Tensor, ...]:
    """Share out points over steps, the first of which have most, in an order of their own.

    It depends on their number alone. With all points in every step they stay as they are.
    """
    if points_per_step is None or points_per_step >= num_points:
        return (torch.arange(num_points),)
    order = torch.randperm(num_points, generator=torch.Generator().manual_seed(0))
    return order.tensor_split(math.ceil(num_points / points_per_step))


@dataclass(frozen=True)
class Block:
    """Points that one step uses.

    Attributes:
        inputs: (B, n_0 + 1, M) their coordinates, or the encoding of these, and a row of ones, zero
            in columns behind the last.
        target: (B, out, m) the signal at the m points, the output offset taken off; m <= M.
    """

    inputs: Tensor
    target: Tensor

    @property
    def num_points(self) -> int:
        return self.target.shape[-1]


class Chunk:
    """INRs fitted together, with buffers for one pass, made once and without autograd.

    Activations are (B, n + 1, M): a row of ones below each layer's n neurons makes biases a
    row of the weights, (B, in + 1, out), and their gradients part of the same product.

    For results that depend on nothing else in the chunk, no element may meet another instruction
    sequence in another place: element-wise operations treat the end of an array that is no
    multiple of two SIMD registers differently, and a product of a single matrix goes through
    another kernel than batched products. So points are padded to a multiple of 16 (there all
    activations are zero), weights to a multiple of 64, and a chunk holds an even number of INRs.

    Attributes:
        weights: Per layer (B, in + 1, out), views of ``flat``.
        gradients: The same of ``gradient``, after ``backward``.
        activations: Per layer (B, n + 1, M): what it takes in, after ``forward``.
        slopes: Per hidden layer (B, n, M): the activation function's derivative by its argument
            there, over ``frequency``.
        error: (B, out, M) output minus target, zero behind the last point.
    """

    def __init__(
        self,
        architecture: INRArchitecture,
        parameters: Tensor,
        signals: Tensor,
        coordinates: Tensor,
        points_per_step: int | None = None,
    ) -> None:
        self.architecture, self.signals, self.coordinates = architecture, signals, coordinates
        self.points_per_step = points_per_step
        size = len(signals)
        self.sine = architecture.activation == "sine"
        self.frequency = architecture.w0 if self.sine else 1.0
        self.in_turns = (
            self.sine and parameters.dtype == torch.float32 and parameters.device.type == "cpu"
        )
        self.blocks = self._cut_into_blocks()
        self.block = self.blocks[0]

        new, padded = parameters.new_zeros, self.block.inputs.shape[-1]
        self.activations = [self.block.inputs]
        self.slopes, self.deltas = [], []
        for width in architecture.hidden_widths:
            self.activations.append(new(size, width + 1, padded))
            self.slopes.append(new(size, width, padded))
            self.deltas.append(new(size, width, padded))
        self.output = new(size, architecture.out_features, padded)
        self.error = new(size, architecture.out_features, padded)
        self._put(self.block)

        total = 64 * math.ceil(parameters.numel() / 64)
        self.flat, self.gradient = new(total), new(total)
        self.weights = self.split_layers(self.flat)
        self.gradients = self.split_layers(self.gradient)
        layers = zip(
            self.weights, architecture.weight_slices, architecture.bias_slices, strict=True
        )
        for weight, weight_slice, bias_slice in layers:
            bias = parameters[:, bias_slice]
            weight[:, :-1] = parameters[:, weight_slice].view(size, bias.shape[1], -1).mT
            weight[:, -1] = bias

    def __len__(self) -> int:
        return len(self.signals)

    def _cut_into_blocks(self) -> list[Block]:
        """Share out the points, in an order that only depends on their number."""
        num_points, device = self.signals.shape[1], self.signals.device
        parts = share_points(num_points, self.points_per_step)
        padded = 16 * math.ceil(len(parts[0]) / 16)
        return [self._make_block(part.to(device), padded) for part in parts]

    def _make_block(self, part: Tensor, padded: int) -> Block:
        target = (self.signals[:, part] - self.architecture.output_offset).mT.contiguous()
        coordinates = self.coordinates[..., part, :]
        num_points, d = coordinates.shape[-2:]
        points = self.signals.new_zeros(len(self.signals), d, padded)
        points[:, :, :num_points] = coordinates.mT
        features = encode_points(self.architecture, points, dim=1)
        inputs = torch.cat([features, torch.ones_like(points[:, :1])], dim=1)
        inputs[:, :, num_points:] = 0
        return Block(inputs, target)

    def split_layers(self, flat: Tensor) -> list[Tensor]:
        """Give views of a tensor of the size of ``flat``: per layer (B, in + 1, out)."""
        shapes = [(len(self), n_in + 1, n_out) for n_out, n_in in self.architecture.weight_shapes]
        starts = itertools.accumulate((math.prod(shape) for shape in shapes), initial=0)
        return [
            flat[start : start + math.prod(shape)].view(shape)
            for start, shape in zip(starts, shapes, strict=False)
        ]

    def rows(self, layers: list[Tensor]) -> Tensor:
        """Give weights or their gradients as rows, (B, P)."""
        columns = []
        for layer in layers:
            columns += [layer[:, :-1].mT.flatten(1), layer[:, -1]]
        return torch.cat(columns, dim=1)

    def select(self, rows: Tensor) -> "Chunk":
        """Give a chunk of some of the INRs, with the weights that they have."""
        coordinates = self.coordinates if self.coordinates.ndim == 2 else self.coordinates[rows]
        parameters = self.rows(self.weights)[rows]
        signals = self.signals[rows]
        return Chunk(self.architecture, parameters, signals, coordinates, self.points_per_step)

    @property
    def mean_factor(self) -> float:
        """One over the number of values of the block."""
        return 1 / (self.block.num_points * self.architecture.out_features)

    def use_block(self, step: int) -> None:
        """Let a step, counted from 1, use the points that are its turn."""
        block = self.blocks[(step - 1) % len(self.blocks)]
        if block is not self.block:
            self._put(block)

    def _put(self, block: Block) -> None:
        for above in self.activations[1:]:
            above[:, -1] = block.inputs[:, -1]
        self.error[:, :, block.num_points :] = 0
        self.block, self.activations[0] = block, block.inputs
        self._is_forward = False

    def weights_changed(self) -> None:
        """Say that the weights are others than those of the last forward pass."""
        self._is_forward = False

    def forward(self) -> None:
        """Compute activations, slopes and error at the block's points, unless they are known."""
        if self._is_forward:
            return
        num_points = self.block.num_points
        scale = self.frequency / (2 * math.pi) if self.in_turns else self.frequency
        layers = zip(
            self.weights, self.activations, self.activations[1:], self.slopes, strict=False
        )
        for weight, below, above, slope in layers:
            torch.baddbmm(slope, weight.mT, below, beta=0, alpha=scale, out=slope)
            value = above[:, :-1]
            if self.in_turns:
                sine_kernel()(slope.flatten(1).numpy(), above.flatten(1).numpy())
            elif self.sine:
                sine_and_cosine_(slope, value)
            else:
                torch.clamp_min(slope, 0, out=value)
                slope.gt_(0)
        torch.bmm(self.weights[-1].mT, self.activations[-1], out=self.output)
        valid = slice(0, num_points)
        torch.sub(self.output[:, :, valid], self.block.target, out=self.error[:, :, valid])
        self._is_forward = True

    def backward(self) -> None:
        """Compute the gradient of the mean squared error of the last forward pass."""
        delta, factor = self.error, 2 * self.mean_factor
        for layer in reversed(range(self.architecture.num_layers)):
            gradient = self.gradients[layer]
            torch.baddbmm(
                gradient, self.activations[layer], delta.mT, beta=0, alpha=factor, out=gradient
            )
            if layer == 0:
                break
            above, delta = delta, self.deltas[layer - 1]
            weight = self.weights[layer][:, :-1]
            torch.baddbmm(delta, weight, above, beta=0, alpha=factor, out=delta)
            delta.mul_(self.slopes[layer - 1])
            factor = self.frequency

    def block_error(self) -> Tensor:
        """Give the mean squared error of the last forward pass, (B,)."""
        return self.error.square().flatten(1).sum(dim=1) * self.mean_factor

    def mean_squared_error(self) -> Tensor:
        """Compute the mean squared error over all points, (B,)."""
        if len(self.blocks) == 1:
            self.forward()
            return self.block_error()
        total = torch.zeros_like(self.error[:, 0, 0])
        for step in range(1, len(self.blocks) + 1):
            self.use_block(step)
            self.forward()
            total += self.block_error() * self.block.num_points
        return total / self.signals.shape[1]
