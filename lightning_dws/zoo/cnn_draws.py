"""What is drawn for CNNs beside their hyperparameters: start, images, batches and dropout.

Everything depends on (seed, index of the CNN) alone, and what belongs to a step on that too: a zoo
does not depend on which CNNs are trained together, in which order, or how many there are.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from lightning_dws.randomness import hashed_uniform, stream_seed
from lightning_dws.zoo.cnn_shape import CNNShape


def draw_weights(shape: CNNShape, seed: int, index: Tensor, init_gain: Tensor) -> Tensor:
    """Draw where CNNs start: weights by He's uniform initialisation times a gain, biases zero.

    Args:
        shape: Of every CNN.
        seed: The zoo's.
        index: (B,) int64, which CNNs.
        init_gain: (B,).

    Returns:
        (B, P) float32 in the order of ``torch.nn.utils.parameters_to_vector``.
    """
    uniform = hashed_uniform(stream_seed(seed, "weights"), (index,), shape.num_parameters)
    parameters, start = torch.zeros_like(uniform), 0
    for fan_in, out in zip(shape.fan_ins, shape.fan_outs, strict=True):
        own = slice(start, start + fan_in * out)
        bound = init_gain[:, None] * math.sqrt(6 / fan_in)
        parameters[:, own] = (2 * uniform[:, own] - 1) * bound
        start = own.stop + out
    return parameters


class TrainingDraws:
    """The images that each of B CNNs is trained on, and what it sees of them in each step.

    Args:
        seed: The zoo's.
        index: (B,) int64, which CNNs.
        hyperparameters: As drawn for them.
        label: (M,) of all training images.
        batch_size: Images N of a step.
        channels: Of every convolution.

    Attributes:
        is_own: (B, M) bool, which images each CNN is trained on: at least one.
    """

    def __init__(
        self,
        seed: int,
        index: Tensor,
        hyperparameters: Mapping[str, Tensor],
        label: Tensor,
        batch_size: int,
        channels: Sequence[int],
    ) -> None:
        self._step_seed = stream_seed(seed, "step")
        self._index = index
        self._batch_size = batch_size
        self._channels = tuple(channels)
        self._dropout = hyperparameters["dropout"]
        num_classes = int(label.max()) + 1
        rank = hashed_uniform(stream_seed(seed, "classes"), (index,), num_classes)
        rank = rank.argsort(dim=1, stable=True).argsort(dim=1)
        is_allowed = (rank < hyperparameters["num_classes"][:, None])[:, label]
        place = hashed_uniform(stream_seed(seed, "images"), (index,), len(label))
        self._order = torch.where(is_allowed, place, 2).argsort(dim=1, stable=True)
        share = hyperparameters["train_share"].double() * is_allowed.sum(dim=1)
        self._num_images = share.round().clamp_min(1)
        self.is_own = torch.zeros_like(is_allowed)
        chosen = torch.arange(len(label)) < self._num_images[:, None]
        self.is_own.scatter_(1, self._order, chosen)

    def step(self, step: int) -> tuple[Tensor, list[Tensor]]:
        """Draw a step's batch and dropout.

        Returns:
            Which images: (B, N) int64; and per convolution what dropout multiplies its outputs by,
            (B, O, N): 0, or one over the share that is kept.
        """
        num_kept = sum(self._channels) * self._batch_size
        step_key = torch.full_like(self._index, step)
        keys = (self._index, step_key)
        uniform = hashed_uniform(self._step_seed, keys, self._batch_size + num_kept)
        images, kept = uniform.tensor_split([self._batch_size], dim=1)
        position = (images.double() * self._num_images[:, None]).long()
        probability = self._dropout[:, None]
        factor = (kept >= probability) / (1 - probability)
        sizes = [count * self._batch_size for count in self._channels]
        parts = factor.split(sizes, dim=1)
        shaped = [part.unflatten(1, (-1, self._batch_size)) for part in parts]
        return self._order.gather(1, position), shaped
