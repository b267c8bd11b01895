"""What each augmentation costs per INR, against a loop over single INRs.

    python benchmarks/augmentations.py [--threads 2] [--batch-size 256] [--device cpu]

The loop augments one INR at a time, as a data set's ``__getitem__`` does. Alignment is compared
with weight matching of one pair at a time, in NumPy, with SciPy's assignments. Both are in turns
with ours, in this run. The share of memory is what must move once, the INRs read and written, over
this machine's rate of copying; a batch that stays in the cache can go beyond it.
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from alignment import fit_shapes
from machine import describe_processor, matmul_gflops, memory_gbps
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from lightning_dws import INRArchitecture, WeightBatch
from lightning_dws import augmentations as aug
from lightning_dws.augmentations import Augmentation
from lightning_dws.inrs.siren import initialise_inrs
from lightning_dws.mixup import MixUp

WIDTHS = (2, 32, 32, 1)
LOOP_INRS = 100  # and pairs: so many are timed one at a time

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


# Augmentation, and the loop's version of it.
ROWS: list[tuple[Augmentation, Callable[..., Layers] | None]] = [
    (aug.GaussianNoise(), noise_one),
    (aug.WeightDropout(), dropout_one),
    (aug.QuantileDropout(), quantile_dropout_one),
    (aug.SirenNegation(), negate_one),
    (aug.SirenBias(-4, 3, shift_probability=1.0), siren_bias_one),
    (aug.Permutation(), permute_one),
    (aug.Rotation(), rotate_one),
    (aug.Translation(), translate_one),
    (aug.Scaling(), scale_one),
    (aug.Flip(), None),
    (aug.Affine(), None),
    (aug.Intensity(), None),
    (aug.ReLUScaling(), None),
    (aug.Compose([aug.Translation(), aug.GaussianNoise(), aug.SirenNegation()]), None),
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
    copy = memory_gbps(device)
    print(
        f"{describe_processor()}, {arguments.threads} threads; {matmul_gflops(device):.0f} GFLOP/s "
        f"matmul, {copy:.1f} GB/s memory; {size} INRs of {'-'.join(map(str, WIDTHS))} on {device}\n"
    )
    columns = ("us/INR", "loop us/INR", "ratio", "of memory")
    print(f"{'augmentation':20} " + " ".join(f"{name:>{max(len(name), 8)}}" for name in columns))
    generator = torch.Generator(device).manual_seed(0)
    sine, relu = (make_batch(activation, size, device) for activation in ("sine", "relu"))
    least = 1e-3 * 2 * 4 * sine.parameters.shape[1] / copy  # us an INR
    for augmentation, augment_one in ROWS:
        batch = relu if isinstance(augmentation, aug.ReLUScaling) else sine
        cost = microseconds_per_inr(lambda a=augmentation, b=batch: a(b, generator), size)
        loop = None
        if augment_one is not None:
            weights = [weight[0].cpu().contiguous() for weight in batch.weights]
            biases = [bias[0].cpu().contiguous() for bias in batch.biases]
            loop = microseconds_per_inr(
                lambda f=augment_one, w=weights, b=biases: [f(w, b) for _ in range(LOOP_INRS)],
                LOOP_INRS,
            )
        print_row(type(augmentation).__name__, cost, loop, least / cost)

    print()
    order = torch.randperm(size, generator=torch.Generator().manual_seed(0))[:LOOP_INRS]
    pairs = [(sine[:LOOP_INRS].to("cpu"), sine[order].to("cpu"))]
    for alignment in ("none", "permutation", "signed_permutation"):
        callback = MixUp(alignment=alignment)
        cost = microseconds_per_inr(lambda c=callback: c.mix(sine, 10, generator), size)
        loop = None
        if alignment != "none":
            loop = microseconds_per_inr(
                lambda signed=alignment != "permutation": [
                    align_one(a, b, signed)
                    for first, second in pairs
                    for a, b in zip(to_layers(first), to_layers(second), strict=True)
                ],
                LOOP_INRS,
            )
        print_row(
            f"MixUp, {alignment}".replace("signed_permutation", "signed"), cost, loop, least / cost
        )


def print_row(name: str, cost: float, loop: float | None, share: float) -> None:
    """Print one line of the table."""
    middle = f"{'':>11} {'':>8}" if loop is None else f"{loop:11.1f} {loop / cost:8.0f}"
    print(f"{name:20} {cost:8.2f} {middle} {share:9.0%}")


def to_layers(batch: WeightBatch) -> list[list[np.ndarray]]:
    """Give of every INR its layers (out, in + 1), the last column the bias."""
    parts = zip(batch.weights, batch.biases, strict=True)
    layers = [
        torch.cat([weight, bias[..., None]], dim=2).double().numpy() for weight, bias in parts
    ]
    return [[layer[index] for layer in layers] for index in range(len(batch))]


def align_one(
    first: list[np.ndarray], second: list[np.ndarray], signed: bool, sweeps: int = 100
) -> list[np.ndarray]:
    """Match the hidden neurons of one INR to another's (Ainsworth et al., 2023).

    Coordinate descent: layer by layer a linear assignment, until nothing changes; with signs, on
    absolute similarities. Layers are (out, in + 1).
    """
    aligned = [layer.copy() for layer in second]
    for _ in range(sweeps):
        changed = False
        for number in range(len(first) - 1):
            incoming = first[number] @ aligned[number].T
            outgoing = first[number + 1][:, :-1].T @ aligned[number + 1][:, :-1]
            similarity = incoming + outgoing
            rows, order = linear_sum_assignment(
                np.abs(similarity) if signed else similarity, maximize=True
            )
            gain = similarity[rows, order]
            signs = np.where(gain < 0, -1.0, 1.0) if signed else np.ones(len(order))
            if (signs * gain).sum() > np.trace(similarity) + 1e-9:
                changed = True
                aligned[number] = signs[:, None] * aligned[number][order]
                following = aligned[number + 1].copy()
                following[:, :-1] = following[:, order] * signs
                aligned[number + 1] = following
        if not changed:
            break
    return aligned


if __name__ == "__main__":
    main()
