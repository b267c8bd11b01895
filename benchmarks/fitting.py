"""Fitting INRs: our engine against a plain PyTorch loop, one process per core, in one run.

    python benchmarks/fitting.py

Takes about a minute on two cores. Needs FashionMNIST where ``lightning_dws`` finds it.
"""

import argparse
import itertools
import multiprocessing
import os
import resource
import statistics
import time
from collections.abc import Callable

import torch
from machine import matmul_gflops
from torch import Tensor, nn

from lightning_dws.inrs.fitting import RECIPES, Recipe, fit_inrs
from lightning_dws.inrs.signals import FashionMNIST
from lightning_dws.weight_space import INRArchitecture, WeightBatch

ARCHITECTURE = INRArchitecture((2, 32, 32, 1))
PUBLISHED_STD = ((0.0782, 0.0324, 0.1345), (0.0286, 0.0167, 0.0960))
BASELINE_STEPS = 200
ENGINE_INRS, ENGINE_STEPS = 128, 100
RECIPE_INRS = {"published": 64, "fast": 512}


class Siren(nn.Module):
    """The network as a tutorial would write it."""

    def __init__(self, widths: tuple[int, ...], w0: float) -> None:
        super().__init__()
        pairs = itertools.pairwise(widths)
        self.layers = nn.ModuleList([nn.Linear(n_in, n_out) for n_in, n_out in pairs])
        self.w0 = w0

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = torch.sin(self.w0 * layer(x))
        return self.layers[-1](x) + 0.5


def fit_one_by_one(core: int, coordinates: Tensor, signal: Tensor) -> float:
    """Fit one INR with autograd and ``torch.optim.Adam``; give its steps per second."""
    os.sched_setaffinity(0, {core})
    torch.set_num_threads(1)
    siren = Siren(ARCHITECTURE.widths, ARCHITECTURE.w0)
    optimizer = torch.optim.Adam(siren.parameters(), lr=5e-4)
    start = time.perf_counter()
    for _ in range(BASELINE_STEPS):
        optimizer.zero_grad()
        loss = (siren(coordinates) - signal).square().mean()
        loss.backward()
        optimizer.step()
    return BASELINE_STEPS / (time.perf_counter() - start)


def fit(recipe: Recipe, coordinates: Tensor, signals: Tensor) -> tuple[float, WeightBatch, Tensor]:
    """Fit all signals at once; give the seconds, the INRs and their PSNR."""
    keys = torch.arange(len(signals))
    start = time.perf_counter()
    batch, psnr = fit_inrs(
        signals,
        coordinates,
        ARCHITECTURE,
        recipe=recipe,
        seed=0,
        object_id=keys,
        view=torch.zeros_like(keys),
    )
    return time.perf_counter() - start, batch, psnr


def compare(rounds: int, coordinates: Tensor, signals: Tensor) -> tuple[float, float]:
    """Alternate between the two; give the medians in INR-steps per second, plain loop first."""
    cores = sorted(os.sched_getaffinity(0))
    engine_recipe = Recipe(ENGINE_STEPS, learning_rate=5e-4)
    plain, engine = [], []
    spawn = multiprocessing.get_context("spawn")
    with spawn.Pool(len(cores)) as pool:

        def run_plain() -> float:
            tasks = [(core, coordinates, signals[i]) for i, core in enumerate(cores)]
            return sum(pool.starmap(fit_one_by_one, tasks, chunksize=1))

        def run_engine() -> float:
            seconds, _, _ = fit(engine_recipe, coordinates, signals[:ENGINE_INRS])
            return ENGINE_INRS * ENGINE_STEPS / seconds

        runs: list[tuple[list[float], Callable[[], float]]] = [
            (plain, run_plain),
            (engine, run_engine),
        ]
        for number in range(rounds + 1):
            for results, run in runs:
                rate = run()
                if number > 0:  # the first round warms up
                    results.append(rate)
    return statistics.median(plain), statistics.median(engine)


def matmul_flops_per_step(architecture: INRArchitecture, num_points: int) -> int:
    """Count what a step needs in matrix products: forward, weight gradients, hidden gradients."""
    forward = sum(n_out * (n_in + 1) for n_out, n_in in architecture.weight_shapes)
    hidden = sum(n_out * n_in for n_out, n_in in architecture.weight_shapes[1:])
    return 2 * num_points * (2 * forward + hidden)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    data = FashionMNIST()
    objects = data.split("train").object_id[: max(RECIPE_INRS.values())]
    coordinates, signals = data.coordinates, data.values(objects)

    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, widths 2-32-32-1, 784 px")
    machine = matmul_gflops()
    plain, engine = compare(rounds, coordinates, signals)
    used = engine * matmul_flops_per_step(ARCHITECTURE, signals.shape[1]) / 1e9
    print(f"matrix product 2048^3       {machine:10.0f} GFLOP/s")
    print(f"plain loop, one per core    {plain:10.0f} INR-steps/s")
    print(f"fit_inrs                    {engine:10.0f} INR-steps/s")
    print(f"ratio                       {engine / plain:10.1f}")
    print(
        f"fit_inrs, matrix products   {used:10.0f} GFLOP/s, {used / machine:.0%} of the machine's"
    )

    print("\nstd per layer               W0     W1     W2    | b0     b1     b2")
    show_std("released INRs", *PUBLISHED_STD)
    for name, count in RECIPE_INRS.items():
        seconds, batch, psnr = fit(RECIPES[name], coordinates, signals[:count])
        weight_std = tuple(weight.std().item() for weight in batch.weights)
        bias_std = tuple(bias.std().item() for bias in batch.biases)
        show_std(name, weight_std, bias_std)
        print(
            f"  {count} INRs in {seconds:.1f} s, {count / seconds:.1f} INRs/s, "
            f"mean PSNR {psnr.mean():.2f} dB, lowest {psnr.min():.1f}"
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"\npeak memory of this process {peak:.0f} MiB")


def show_std(name: str, weight_std: tuple[float, ...], bias_std: tuple[float, ...]) -> None:
    """Print one line of the table of statistics."""
    rows = [" ".join(f"{std:.4f}" for std in stds) for stds in (weight_std, bias_std)]
    print(f"{name:27s} {rows[0]} | {rows[1]}")


if __name__ == "__main__":
    main()
