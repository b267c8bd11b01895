"""Augmentations that keep the network's function approximately: noise and dropout."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lightning_dws.augmentations.base import (
    Augmentation,
    Params,
    check_probability,
    check_range,
    draw_dtype,
    draw_uniform,
)
from lightning_dws.weight_space import WeightBatch


class GaussianNoise(Augmentation):
    """Add normal noise to every weight and bias. The function is kept approximately.

    The noise of a weight matrix or bias vector has ``noise_std_ratio`` times the standard
    deviation of that tensor's entries over the whole batch.

    Args:
        noise_std_ratio: Noise over spread of the tensor, >= 0.
        p: Probability that an INR is changed.

    Raises:
        ValueError: ``noise_std_ratio`` is negative or not finite.
    """

    def __init__(self, noise_std_ratio: float = 0.32, p: float = 1.0) -> None:
        super().__init__(p)
        check_range("noise_std_ratio", noise_std_ratio, 0)
        self.noise_std_ratio = noise_std_ratio

    def draw(self, batch: WeightBatch, generator: torch.Generator) -> Params:
        noise = torch.randn(
            batch.parameters.shape,
            generator=generator,
            device=batch.device,
            dtype=draw_dtype(batch),
        )
        return {"noise": noise}

    def transform(self, batch: WeightBatch, params: Params) -> WeightBatch:
        scale = self.noise_std_ratio * tensor_std(batch)
        parameters = torch.addcmul(batch.parameters, params["noise"], scale)
        return batch.replace(parameters=parameters.to(batch.parameters.dtype))


class WeightDropout(Augmentation):
    """Set random weights and biases to zero, the others as they are.

    Nothing is rescaled: the dropout of training networks divides by the kept share, which here
    would change the INR's function further. The function is kept approximately.

    Args:
        drop_probability: Share of weights and biases to drop, in [0, 1), rounded to a multiple
            of 2^-16: each decision takes 16 random bits.
        p: Probability that an INR is changed.

    Raises:
        ValueError: ``drop_probability`` is not in [0, 1).
    """

    def __init__(self, drop_probability: float = 0.1, p: float = 1.0) -> None:
        super().__init__(p)
        if not 0 <= drop_probability < 1:
            raise ValueError(f"drop_probability must be in [0, 1), got {drop_probability}")
        self.drop_probability = drop_probability

    def draw(self, batch: WeightBatch, generator: torch.Generator) -> Params:
        count = batch.parameters.numel()
        # Generators give 64 bits at a time: four decisions from each are half the cost of
        # one uniform number per decision on a CPU.
        words = torch.empty(-(-count // 4), dtype=torch.int64, device=batch.device)
        words.random_(-(2**63), None, generator=generator)
        lowest_kept = min(round(self.drop_probability * 2**16) - 2**15, 2**15 - 1)
        keep = words.view(torch.int16)[:count] >= lowest_kept
        return {"keep": keep.view(batch.parameters.shape)}

    def transform(self, batch: WeightBatch, params: Params) -> WeightBatch:
        return batch.replace(parameters=batch.parameters * params["keep"])


class QuantileDropout(Augmentation):
    """Set the weights and biases of smallest magnitude to zero.

    Per INR, a share uniform in [0, ``max_quantile``) of all its weights and biases together is
    dropped, the smallest first (and what ties with the last of them). The function is kept
    approximately.

    Args:
        max_quantile: Largest share that is dropped, in [0, 1].
        p: Probability that an INR is changed.

    Raises:
        ValueError: ``max_quantile`` is not in [0, 1].
    """

    def __init__(self, max_quantile: float = 0.1, p: float = 1.0) -> None:
        super().__init__(p)
        check_probability("max_quantile", max_quantile)
        self.max_quantile = max_quantile

    def draw(self, batch: WeightBatch, generator: torch.Generator) -> Params:
        return {"quantile": draw_uniform(batch, 0, self.max_quantile, generator)}

    def transform(self, batch: WeightBatch, params: Params) -> WeightBatch:
        magnitudes, size = batch.parameters.abs(), batch.parameters.shape[1]
        smallest = _smallest(magnitudes, int(self.max_quantile * size))
        none_dropped = torch.full_like(magnitudes[:, :1], -1)
        thresholds = torch.cat([none_dropped, smallest], dim=1)
        counts = (params["quantile"] * size).long().clamp_max(smallest.shape[1])
        keep = magnitudes > thresholds.gather(1, counts[:, None])
        return batch.replace(parameters=batch.parameters * keep)


def _smallest(values: Tensor, count: int) -> Tensor:
    """Give the smallest so many values of every row, sorted, (B, count)."""
    if values.is_cuda or count == 0:
        return values.topk(count, dim=1, largest=False).values
    # NumPy selects and sorts with the CPU's vector instructions, in a tenth of torch's time.
    dtype = torch.promote_types(values.dtype, torch.float32)  # NumPy has no bfloat16
    partitioned = np.partition(values.detach().to(dtype).numpy(), count - 1)
    return torch.from_numpy(np.sort(partitioned[:, :count])).to(values.dtype)


def tensor_std(batch: WeightBatch) -> Float[Tensor, "parameters"]:
    """Give the standard deviation of every weight matrix and bias vector over the batch.

    Each entry of a row has the value of the tensor that it belongs to, 0 where a standard
    deviation is undefined because the batch holds a single value of the tensor.
    """
    tensors, size = batch.architecture.tensor_slices, len(batch)
    parameters = batch.parameters.to(draw_dtype(batch))
    mean = parameters.mean(dim=0)
    for where in tensors:
        mean[where] = mean[where].mean()
    variance = (parameters - mean).square().sum(dim=0)
    for where in tensors:
        count = size * (where.stop - where.start)
        variance[where] = variance[where].sum() / (count - 1) if count > 1 else 0
    return variance.sqrt()
