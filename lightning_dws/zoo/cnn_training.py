"""Train many small CNNs at once.

As INRs are fitted: in chunks of CNNs on which every operation works at once, without autograd,
small enough to stay in the processor's cache; each operation runs on one thread, and threads share
out the chunks. CNNs of a chunk are trained for similar numbers of steps, and one that has taken
its last step stays as it is until the others have.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from lightning_dws.errors import DataError
from lightning_dws.parallel import one_thread_per_operation
from lightning_dws.zoo.cnn_chunk import CNNChunk
from lightning_dws.zoo.cnn_draws import TrainingDraws, draw_weights
from lightning_dws.zoo.cnn_shape import CNNShape
from lightning_dws.zoo.zoo_recipe import DRAWN, ZooRecipe

MEASURES = ("test_accuracy", "test_loss", "train_accuracy", "train_loss", *DRAWN)
_CHUNK_SIZE = 16  # an even number; see CNNChunk


@dataclass(frozen=True)
class ZooImages:
    """What CNNs are trained and tested on.

    Attributes:
        images: (M, channels, height, width) for training.
        label: (M,) int64.
        test_images: Likewise for test.
        test_label: Likewise.
    """

    images: Tensor
    label: Tensor
    test_images: Tensor
    test_label: Tensor


def train_cnns(
    shape: CNNShape,
    data: ZooImages,
    recipe: ZooRecipe,
    *,
    seed: int,
    index: Tensor,
    chunk_size: int = _CHUNK_SIZE,
    progress: Callable[[int, Tensor], None] | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Train CNNs; each depends on (seed, its index) and the other arguments but the chunks' alone.

    Args:
        shape: Of every CNN.
        data: What they are trained and tested on.
        recipe: How, and what is drawn for each.
        seed: Of all that is drawn.
        index: (B,) int64, which CNNs.
        chunk_size: CNNs at once, per thread.
        progress: Called after every chunk with the number of CNNs and their test accuracy.

    Returns:
        (B, P) float32 in torch's order, and the ``MEASURES``, (B,) float32 each: accuracy and
        mean cross-entropy of all test images, and of those that a CNN was trained on.

    Raises:
        DataError: Weights or losses of a CNN are not finite.
    """
    steps = recipe.draw(seed, index)["steps"]
    order = steps.argsort(stable=True)
    chunks = order.split(chunk_size) if len(index) else ()
    parameters = torch.empty(len(index), shape.num_parameters)
    measures = {name: torch.empty(len(index)) for name in MEASURES}
    with one_thread_per_operation() as workers, ThreadPoolExecutor(workers) as pool:
        train = partial(_train_chunk, shape, data, recipe, seed)
        results = pool.map(train, (index[rows] for rows in chunks))
        try:
            for rows, (own, found) in zip(chunks, results, strict=True):
                parameters[rows] = own
                for name in MEASURES:
                    measures[name][rows] = found[name]
                if progress is not None:
                    progress(len(rows), found["test_accuracy"])
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return parameters, measures


@torch.no_grad()
def _train_chunk(
    shape: CNNShape, data: ZooImages, recipe: ZooRecipe, seed: int, index: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    size = len(index)
    padded = torch.cat([index, index[-1:].expand(max(2, size + size % 2) - size)])
    drawn = recipe.draw(seed, padded)
    start = draw_weights(shape, seed, padded, drawn["init_gain"])
    draws = TrainingDraws(seed, padded, drawn, data.label, recipe.batch_size, shape.channels)
    chunk = CNNChunk(shape, start, recipe.batch_size)
    train(chunk, data, draws, drawn)
    measures = {**measure(chunk, data, draws.is_own), **drawn}
    parameters = chunk.rows()
    finite = parameters.isfinite().all(dim=1)
    for name in MEASURES:
        finite &= measures[name].isfinite()
    if not finite.all():
        row = int(finite.logical_not().nonzero()[0])
        values = ", ".join(f"{name} {float(drawn[name][row]):g}" for name in DRAWN)
        raise DataError(
            f"CNN {int(padded[row])} diverged: its weights or losses are not finite, with "
            f"{values}; choose narrower ranges"
        )
    return parameters[:size], {name: values[:size] for name, values in measures.items()}


def train(
    chunk: CNNChunk, data: ZooImages, draws: TrainingDraws, drawn: Mapping[str, Tensor]
) -> None:
    """Take all steps of AdamW, each CNN its own number.

    Args:
        chunk: The CNNs, at their start.
        data: What they are trained on.
        draws: Their batches and dropout.
        drawn: Their hyperparameters.
    """
    optimizer = ManyAdamW(chunk, drawn["learning_rate"], drawn["weight_decay"])
    pixels = data.images.flatten(1).to(chunk.images)
    steps = drawn["steps"]
    ending = set(steps.int().tolist())
    for step in range(1, int(steps.max()) + 1):
        images, keep = draws.step(step)
        chunk.images.copy_(pixels[images].mT.unflatten(1, data.images.shape[1:]))
        for own, factor in zip(chunk.keep, keep, strict=True):
            own.copy_(factor)
        chunk.forward()
        delta = chunk.logits.softmax(dim=1)
        label = data.label[images][:, None]
        delta.scatter_add_(1, label, torch.full_like(delta[:, :1], -1))
        chunk.backward(delta.div_(chunk.batch_size))
        optimizer.step(step)
        if step in ending:
            optimizer.stop(steps <= step)
    for own in chunk.keep:
        own.fill_(1)


def measure(chunk: CNNChunk, data: ZooImages, is_own: Tensor) -> dict[str, Tensor]:
    """Give accuracy and mean cross-entropy of all test images, and of each CNN's own for training.

    Returns:
        (B,) by name.
    """
    everything = torch.ones(len(chunk), len(data.test_label), dtype=torch.bool)
    return {
        f"{name}_{what}": values
        for name, images, label, counted in (
            ("test", data.test_images, data.test_label, everything),
            ("train", data.images, data.label, is_own),
        )
        for what, values in _evaluate(chunk, images, label, counted).items()
    }


def _evaluate(chunk: CNNChunk, images: Tensor, label: Tensor, counted: Tensor) -> dict[str, Tensor]:
    size = chunk.batch_size
    correct, loss = torch.zeros(len(chunk)), torch.zeros(len(chunk), dtype=torch.float64)
    for start in range(0, len(label), size):
        block = images[start : start + size]
        chunk.images[..., : len(block)] = block.permute(1, 2, 3, 0)
        chunk.forward()
        logits = chunk.logits[..., : len(block)]
        wanted = label[start : start + size].expand(len(chunk), 1, -1)
        own = counted[:, start : start + size]
        correct += ((logits.argmax(dim=1) == wanted[:, 0]) & own).sum(dim=1)
        entropy = -chunk.logits.log_softmax(dim=1)[..., : len(block)].gather(1, wanted)[:, 0]
        loss += torch.where(own, entropy.double(), 0).sum(dim=1)
    count = counted.sum(dim=1)
    return {"accuracy": correct / count, "loss": (loss / count).float()}


class ManyAdamW:
    """AdamW (Loshchilov and Hutter, 2019) with a learning rate and a weight decay for each CNN.

    Args:
        chunk: The CNNs.
        learning_rate: (B,).
        weight_decay: (B,).
    """

    betas = (0.9, 0.999)
    eps = 1e-8

    def __init__(self, chunk: CNNChunk, learning_rate: Tensor, weight_decay: Tensor) -> None:
        self._chunk = chunk
        self._rate = chunk.spread(learning_rate)
        self._kept = 1 - chunk.spread(learning_rate.to(chunk.flat) * weight_decay)
        self._mean, self._square = torch.zeros_like(chunk.flat), torch.zeros_like(chunk.flat)

    def step(self, step: int) -> None:
        """Take a step, counted from 1, along the chunk's gradient."""
        first, second = self.betas
        flat, gradient = self._chunk.flat, self._chunk.gradient
        self._mean.lerp_(gradient, 1 - first)
        self._square.mul_(second).addcmul_(gradient, gradient, value=1 - second)
        size = (self._square / (1 - second**step)).sqrt_().add_(self.eps)
        flat.mul_(self._kept)
        flat.addcdiv_(self._mean * self._rate, size, value=-1 / (1 - first**step))

    def stop(self, where: Tensor) -> None:
        """Keep the weights of some CNNs (B,) as they are from now on."""
        stopped = self._chunk.spread(where) > 0
        self._rate.masked_fill_(stopped, 0)
        self._kept.masked_fill_(stopped, 1)
