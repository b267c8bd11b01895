"""What a training step of many small CNNs costs, computed in three ways.

    python benchmarks/zoo.py

Gradients of 16 CNNs of ``conf/zoo/digits.yaml``, 32 images each, on one thread: by the batched
products of ``CNNChunk`` without autograd, by one grouped convolution a layer, and by ``vmap`` over
``torch.func.grad``. All three are compared. The last line is a whole step of ``zoo fit``, with its
draws and AdamW. Processor time, since machines are shared.
"""

import time
from collections.abc import Callable
from statistics import median

import torch
from machine import describe_processor
from torch import Tensor
from torch.func import functional_call, grad, vmap
from torch.nn import functional

from lightning_dws import NetworkArchitecture, WeightBatch
from lightning_dws.inrs import Digits
from lightning_dws.zoo import ZooRecipe, ZooSpec
from lightning_dws.zoo.cnn_chunk import CNNChunk
from lightning_dws.zoo.cnn_draws import TrainingDraws, draw_weights
from lightning_dws.zoo.cnn_training import train

NUM_CNNS, NUM_IMAGES, REPEATS, STEPS = 16, 32, 20, 100
SPEC = ZooSpec(Digits(), training=ZooRecipe(batch_size=NUM_IMAGES, steps=(STEPS, STEPS)))

Gradients = list[Tensor]


def seconds_of_processor(function: Callable[[], object], repeats: int = REPEATS) -> float:
    """Give the median of several calls, after one that is not counted."""
    times = []
    for _ in range(repeats + 1):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return median(times[1:])


def by_products(rows: Tensor, images: Tensor, label: Tensor) -> Callable[[], Gradients]:
    """Make what gives the gradients by ``CNNChunk``."""
    chunk = CNNChunk(SPEC.shape, rows, NUM_IMAGES)
    chunk.images.copy_(images.permute(0, 2, 3, 4, 1))

    def gradients() -> Gradients:
        chunk.forward()
        delta = chunk.logits.softmax(dim=1)
        delta.scatter_add_(1, label[:, None], torch.full_like(delta[:, :1], -1))
        chunk.backward(delta.div_(NUM_IMAGES))
        return [part for g in chunk.gradients for part in (g[:, :, :-1].flatten(1), g[:, :, -1])]

    return gradients


def by_grouped_convolutions(
    batch: WeightBatch, images: Tensor, label: Tensor
) -> Callable[[], Gradients]:
    """Make what gives the gradients by autograd, all CNNs as groups of one convolution a layer."""
    parameters = [tensor.clone().requires_grad_() for tensor in batch.tensors]
    together = images.transpose(0, 1).flatten(1, 2)

    def gradients() -> Gradients:
        x = together
        for weight, bias in zip(parameters[:-2:2], parameters[1:-2:2], strict=True):
            x = functional.conv2d(x, weight.flatten(0, 1), bias.flatten(), groups=NUM_CNNS).relu()
        pooled = x.mean(dim=(2, 3)).unflatten(1, (NUM_CNNS, -1)).transpose(0, 1)
        logits = torch.baddbmm(parameters[-1][:, None], pooled, parameters[-2].mT)
        loss = functional.cross_entropy(logits.flatten(0, 1), label.flatten(), reduction="sum")
        found = torch.autograd.grad(loss / NUM_IMAGES, parameters)
        return [gradient.flatten(1) for gradient in found]

    return gradients


def by_vmap(batch: WeightBatch, images: Tensor, label: Tensor) -> Callable[[], Gradients]:
    """Make what gives the gradients by ``vmap`` over the gradient of one CNN."""
    module = SPEC.shape.to_sequential()

    def loss(own: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return functional.cross_entropy(functional_call(module, own, (x,)), y)

    together = vmap(grad(loss))
    parameters = {name: own.clone() for name, own in batch.named_parameters(module).items()}
    return lambda: [g.flatten(1) for g in together(parameters, images, label).values()]


def main() -> None:
    """Compare the three ways, and print what each costs."""
    torch.set_num_threads(1)
    print(f"{describe_processor()}, torch {torch.__version__}, one thread")
    index = torch.arange(NUM_CNNS)
    drawn = SPEC.training.draw(0, index)
    rows = draw_weights(SPEC.shape, 0, index, drawn["init_gain"])
    architecture = NetworkArchitecture.from_module(SPEC.shape.to_sequential(), (1, 8, 8))
    batch = WeightBatch.from_parameters(architecture, rows)
    draws = TrainingDraws(0, index, drawn, SPEC.images.label, NUM_IMAGES, SPEC.shape.channels)
    chosen, _ = draws.step(1)
    images, label = SPEC.images.images[chosen], SPEC.images.label[chosen]
    ways = {
        "batched products, no autograd": by_products(rows, images, label),
        "grouped convolutions, autograd": by_grouped_convolutions(batch, images, label),
        "vmap over torch.func.grad": by_vmap(batch, images, label),
    }
    expected = None
    for name, gradients in ways.items():
        found = gradients()
        expected = expected or found
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
        milliseconds = 1e3 * seconds_of_processor(gradients) / NUM_CNNS
        print(f"{name:32s} {milliseconds:.3f} ms for a CNN's step")

    def steps() -> None:
        chunk = CNNChunk(SPEC.shape, rows, NUM_IMAGES)
        with torch.no_grad():
            train(chunk, SPEC.images, draws, drawn)

    whole = 1e3 * seconds_of_processor(steps, 3) / NUM_CNNS / STEPS
    print(f"{'a whole step of zoo fit':32s} {whole:.3f} ms")


if __name__ == "__main__":
    main()
