"""CNNs trained together: their weights, a batch of images for each, and passes over them."""

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_dws.zoo.cnn_shape import CNNShape


@dataclass(frozen=True)
class _Layer:
    """Buffers of one convolution of B CNNs on N images, made once.

    Attributes:
        size: (height, width) of what it gives.
        patches: (B, C k k + 1, height * width * N): what every output sees, the image last in
            each position, and a row of ones for the bias.
        output: (B, O, height * width * N): behind ReLU and dropout.
        factor: (B, O, N): what dropout multiplies by.
        delta: The gradient by the convolution's own output, as ``output``.
        patches_delta: The gradient by ``patches`` without its last row.
    """

    size: tuple[int, int]
    patches: Tensor
    output: Tensor
    factor: Tensor
    delta: Tensor
    patches_delta: Tensor


class CNNChunk:
    """CNNs of one shape that are trained together, without autograd.

    A convolution is one batched product of the weights with the patches of all images; an image
    is the last, contiguous axis, so that patches are gathered and scattered in long runs.

    For results that depend on nothing else in the chunk, no element may meet another instruction
    sequence in another place: see ``inrs.fitting.chunk.Chunk``. So N is a multiple of 16, weights
    are padded to a multiple of 64, and a chunk holds an even number of CNNs.

    Args:
        shape: Of every CNN.
        parameters: (B, P) where they start; the dtype is that of all that is computed.
        batch_size: Images N at once.

    Attributes:
        weights: Per layer (B, O, I + 1), the bias last: views of ``flat``.
        gradients: The same of ``gradient``, after ``backward``.
        logits: (B, K, N), after ``forward``.
        keep: Per convolution (B, O, N), what dropout multiplies by; ones until it is written.
    """

    def __init__(self, shape: CNNShape, parameters: Tensor, batch_size: int) -> None:
        self.shape = shape
        self.batch_size = batch_size
        count, new = len(parameters), parameters.new_zeros
        self.images = new(count, shape.in_channels, *shape.image_size, batch_size)
        self._layers = []
        for fan_in, out, size in zip(shape.fan_ins, shape.channels, shape.sizes[1:], strict=False):
            columns = math.prod(size) * batch_size
            patches = new(count, fan_in + 1, columns)
            patches[:, -1] = 1
            self._layers.append(
                _Layer(
                    size,
                    patches,
                    new(count, out, columns),
                    parameters.new_ones(count, out, batch_size),
                    new(count, out, columns),
                    new(count, fan_in, columns),
                )
            )
        self.keep = [layer.factor for layer in self._layers]
        self._pooled = new(count, shape.channels[-1] + 1, batch_size)
        self._pooled[:, -1] = 1
        self.logits = new(count, shape.num_classes, batch_size)
        total = 64 * math.ceil(parameters.numel() / 64)
        self.flat, self.gradient = new(total), new(total)
        self.weights = self.split_layers(self.flat)
        self.gradients = self.split_layers(self.gradient)
        start = 0
        for weight in self.weights:
            _, out, fan_in = weight.shape
            bias = start + out * (fan_in - 1)
            weight[:, :, :-1] = parameters[:, start:bias].unflatten(1, (out, -1))
            weight[:, :, -1] = parameters[:, bias : bias + out]
            start = bias + out

    def __len__(self) -> int:
        return len(self.images)

    def split_layers(self, flat: Tensor) -> list[Tensor]:
        """Give views of a tensor of the size of ``flat``: per layer (B, O, I + 1)."""
        layers = zip(self.shape.fan_ins, self.shape.fan_outs, strict=True)
        shapes = [(len(self), out, fan_in + 1) for fan_in, out in layers]
        starts = itertools.accumulate((math.prod(shape) for shape in shapes), initial=0)
        return [
            flat[start : start + math.prod(shape)].view(shape)
            for start, shape in zip(starts, shapes, strict=False)
        ]

    def spread(self, values: Tensor) -> Tensor:
        """Give every parameter of ``flat`` the value of its CNN: (B,) to the size of ``flat``."""
        spread = self.flat.new_zeros(len(self.flat))
        for layer in self.split_layers(spread):
            layer += values.to(spread)[:, None, None]
        return spread

    def rows(self) -> Tensor:
        """Give the weights as rows (B, P), in torch's order."""
        columns = []
        for layer in self.weights:
            columns += [layer[:, :, :-1].flatten(1), layer[:, :, -1]]
        return torch.cat(columns, dim=1)

    def forward(self) -> None:
        """Compute the logits of ``images``."""
        below = self.images
        for layer, weight in zip(self._layers, self.weights, strict=False):
            self._gather(below, layer)
            torch.bmm(weight, layer.patches, out=layer.output)
            layer.output.clamp_min_(0)
            below = layer.output.view(len(self), -1, *layer.size, self.batch_size)
            below.mul_(layer.factor[:, :, None, None])
        torch.mean(below.flatten(2, 3), dim=2, out=self._pooled[:, :-1])
        torch.bmm(self.weights[-1], self._pooled, out=self.logits)

    def backward(self, logits_delta: Tensor) -> None:
        """Compute the gradient of the last forward pass, from that by the logits (B, K, N)."""
        torch.bmm(logits_delta, self._pooled.mT, out=self.gradients[-1])
        pooled_delta = self.weights[-1][:, :, :-1].mT @ logits_delta
        above = None
        for number in reversed(range(len(self._layers))):
            layer = self._layers[number]
            delta = layer.delta.view(len(self), -1, *layer.size, self.batch_size)
            if above is None:
                spread = pooled_delta.div_(math.prod(layer.size))
                delta.copy_(spread[:, :, None, None].expand_as(delta))
            else:
                self._scatter(above, delta)
            delta.mul_(layer.factor[:, :, None, None])
            layer.delta.mul_(layer.output > 0)
            torch.bmm(layer.delta, layer.patches.mT, out=self.gradients[number])
            if number:
                weight = self.weights[number][:, :, :-1]
                torch.bmm(weight.mT, layer.delta, out=layer.patches_delta)
                above = layer

    def _gather(self, below: Tensor, layer: _Layer) -> None:
        """Copy what each output of a convolution sees."""
        size, step, (height, width) = self.shape.kernel_size, self.shape.stride, layer.size
        patches = layer.patches[:, :-1].unflatten(1, (-1, size, size))
        patches = patches.unflatten(4, (height, width, self.batch_size))
        for i, j in itertools.product(range(size), repeat=2):
            patches[:, :, i, j] = below[:, :, i::step, j::step][:, :, :height, :width]

    def _scatter(self, above: _Layer, delta: Tensor) -> None:
        """Add up the gradients by all patches in which an output stands."""
        size, step, (height, width) = self.shape.kernel_size, self.shape.stride, above.size
        patches = above.patches_delta.unflatten(1, (-1, size, size))
        patches = patches.unflatten(4, (height, width, self.batch_size))
        delta.zero_()
        for i, j in itertools.product(range(size), repeat=2):
            delta[:, :, i::step, j::step][:, :, :height, :width] += patches[:, :, i, j]
