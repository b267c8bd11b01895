"""What each augmentation costs per INR, against a loop over single INRs.

    python benchmarks/augmentations.py [--threads 2] [--batch-size 256] [--device cpu]

The loop augments one INR at a time, as the code published with the MixUp paper does in a data
set's ``__getitem__``. It is written here anew and leaner than that code, so the ratio to it is
the least that batching gains, on this machine and in this run. What was measured of the published
code itself is a constant: 43 microseconds per INR for its cheapest augmentation, 500 for its
dearest. The speed-up that is wanted is over the published code's own time for the augmentation.
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable

import torch
from alignment import fit_shapes
from machine import matmul_gflops, memory_gbps
from torch import Tensor

from lightning_dws import INRArchitecture, WeightBatch
from lightning_dws import augmentations as aug
from lightning_dws.augmentations import Augmentation
from lightning_dws.inrs.siren import initialise_inrs
from lightning_dws.mixup import MixUp

WIDTHS = (2, 32, 32, 1)
PUBLISHED_MICROSECONDS = (43, 500)  # per INR, least and most of the plain augmentations
PUBLISHED_ALIGNED_MIXUP_MICROSECONDS = (5600, 7300)

Layers = tuple[list[Tensor], list[Tensor]]  # weights (out, in) and biases (out,) of one INR


def translate_one(weights: list[Tensor], biases: list[Tensor]) -> Layers:
    """Translate the first layer of one INR."""
    shift = torch.empty(2).uniform_(-0.25, 0.25)
    return weights, [biases[0] + torch.einsum("oi,i->o", weights[0], shift), *biases[1:]]


def rotate_one(weights: list[Tensor], biases: list[Tensor]) -> Layers:
    """Turn the first layer of one INR."""
    angle = torch.empty(1).uniform_(-30, 30) * (math.pi / 180)
    cos, sin = torch.cos(angle), torch.sin(angle)
    matrix = torch.tensor([[cos, -sin], [sin, cos]])
    return [torch.einsum("oi,ij->oj", weights[0], matrix), *weights[1:]], biases


def scale_one(weights: list[Tensor], biases: list[Tensor]) -> Layers:
    """Scale the first layer of one INR."""
    return [weights[0] * (1 + (torch.rand(1).item() - 0.5) * 0.4), *weights[1:]], biases


def noise_one(weights: list[Tensor], biases: list[Tensor]) -> Layers:
    """Add noise to one INR."""

    def noisy(tensor: Tensor) -> Tensor:
        std = tensor.std() if tensor.numel() > 1 else torch.zeros(())
        return tensor + torch.empty(tensor.shape).normal_() * (0.32 * std)

    return [noisy(weight) for weight in weights], [noisy(bias) for bias in biases]


def dropout_one(weights: list[Tensor], biases: list[Tensor]) -> Layers:
    """Drop weights of one INR."""

    def drop(tensor: Tensor) -> Tensor:
        return tensor * (torch.rand(tensor.shape) >= 0.1)

    return [drop(weight) for weight in weights], [drop(bias) for bias in biases]


def quantile_dropout_one(weights: list[Tensor], biases: list[Tensor]) -> Layers:
    """Drop the smallest weights of one INR."""
    every = torch.cat([tensor.flatten().abs() for tensor in (*weights, *biases)])
    threshold = torch.quantile(every, torch.empty(1).uniform_(0, 0.1))

    def drop(tensor: Tensor) -> Tensor:
        return torch.where(tensor.abs() < threshold, 0, tensor)

    return [drop(weight) for weight in weights], [drop(bias) for bias in biases]


def negate_one(weights: list[Tensor], biases: list[Tensor]) -> Layers:
    """Negate hidden neurons of one INR."""
    weights, biases = list(weights), list(biases)
    for layer in range(len(weights) - 1):
        sign = 1 - 2 * (torch.rand_like(biases[layer]) < 0.5).float()
        weights[layer] = sign[:, None] * weights[layer]
        biases[layer] = sign * biases[layer]
        weights[layer + 1] = sign * weights[layer + 1]
    return weights, biases


def siren_bias_one(weights: list[Tensor], biases: list[Tensor]) -> Layers:
    """Shift biases of one INR by half periods."""
    weights, biases = list(weights), list(biases)
    for layer in range(len(weights) - 1):
        shift = torch.randint_like(biases[layer], -4, 4)
        biases[layer] = biases[layer] + shift * math.pi / 30
        weights[layer + 1] = (1 - 2 * (shift % 2 == 1).float()) * weights[layer + 1]
    return weights, biases


def permute_one(weights: list[Tensor], biases: list[Tensor]) -> Layers:
    """Permute hidden neurons of one INR."""
    weights, biases = list(weights), list(biases)
    for layer in range(len(weights) - 1):
        order = torch.randperm(len(biases[layer]))
        weights[layer] = weights[layer][order]
        biases[layer] = biases[layer][order]
        weights[layer + 1] = weights[layer + 1][:, order]
    return weights, biases


# Augmentation, the loop's version of it, how many times faster it is to be.
ROWS: list[tuple[Augmentation, Callable[..., Layers] | None, int | None]] = [
    (aug.GaussianNoise(), noise_one, 20),
    (aug.WeightDropout(), dropout_one, 20),
    (aug.QuantileDropout(), quantile_dropout_one, 10),
    (aug.SirenNegation(), negate_one, 50),
    (aug.SirenBias(-4, 3, shift_probability=1.0), siren_bias_one, 50),
    (aug.Permutation(), permute_one, 50),
    (aug.Rotation(), rotate_one, 50),
    (aug.Translation(), translate_one, 50),
    (aug.Scaling(), scale_one, 50),
    (aug.Flip(), None, None),
    (aug.Affine(), None, None),
    (aug.Intensity(), None, None),
    (aug.ReLUScaling(), None, None),
    (aug.Compose([aug.Translation(), aug.GaussianNoise(), aug.SirenNegation()]), None, None),
]


def microseconds_per_inr(call: Callable[[], object], count: int, seconds: float = 0.5) -> float:
    """Median over repeated calls, each for ``count`` INRs, after a warm-up."""
    synchronize = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    for _ in range(3):
        call()
    times: list[float] = []
    while sum(times) < seconds or len(times) < 5:
        synchronize()
        start = time.perf_counter()
        call()
        synchronize()
        times.append(time.perf_counter() - start)
    return 1e6 * statistics.median(times) / count


def make_batch(activation: str, size: int, device: str) -> WeightBatch:
    """Give SIRENs fitted to shapes, or initial ReLU networks."""
    if activation == "sine":
        return fit_shapes(size, view=0).to(device)
    ids = torch.arange(size)
    architecture = INRArchitecture(WIDTHS, activation=activation)
    return initialise_inrs(architecture, seed=0, object_id=ids, view=0 * ids).to(device)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    size, device = arguments.batch_size, arguments.device
    low, high = PUBLISHED_MICROSECONDS
    print(
        f"{arguments.threads} threads, {matmul_gflops():.0f} GFLOP/s matmul, "
        f"{memory_gbps():.1f} GB/s memory; {size} INRs of {'-'.join(map(str, WIDTHS))} on {device}"
    )
    print(f"published code, measured elsewhere: {low} to {high} us per INR\n")
    columns = ("us/INR", f"{low} us /", "loop us/INR", "ratio", "wanted")
    print(f"{'augmentation':16} " + " ".join(f"{name:>{max(len(name), 8)}}" for name in columns))
    generator = torch.Generator(device).manual_seed(0)
    sine, relu = (make_batch(activation, size, device) for activation in ("sine", "relu"))
    for augmentation, augment_one, wanted in ROWS:
        batch = relu if isinstance(augmentation, aug.ReLUScaling) else sine
        cost = microseconds_per_inr(lambda a=augmentation, b=batch: a(b, generator), size)
        line = f"{type(augmentation).__name__:16} {cost:8.2f} {low / cost:8.0f}"
        if augment_one is not None:
            weights = [weight[0].cpu().contiguous() for weight in batch.weights]
            biases = [bias[0].cpu().contiguous() for bias in batch.biases]
            loop = microseconds_per_inr(
                lambda f=augment_one, w=weights, b=biases: [f(w, b) for _ in range(100)], 100
            )
            line += f" {loop:11.1f} {loop / cost:8.0f} {wanted:8}"
        print(line)

    low, high = PUBLISHED_ALIGNED_MIXUP_MICROSECONDS
    print(f"\nMixUp; published code with alignment, measured elsewhere: {low} to {high} us per INR")
    for alignment in ("none", "permutation", "signed_permutation"):
        callback = MixUp(alignment=alignment)
        cost = microseconds_per_inr(lambda c=callback: c.mix(sine, 10, generator), size)
        line = f"{alignment:20} {cost:8.2f} us/INR"
        if alignment != "none":
            line += f", {low / cost:.0f} to {high / cost:.0f} times the published speed (wanted 10)"
        print(line)


if __name__ == "__main__":
    main()
