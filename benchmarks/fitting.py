"""Fitting INRs: our engine against a plain PyTorch loop, one process per core, in one run.

    python benchmarks/fitting.py

Takes about a minute on two cores. Needs FashionMNIST where ``lightning_dws`` finds it. Where JAX is
installed, a ``vmap`` over INRs of a compiled step, on all cores, takes its turns as well.
"""

import argparse
import itertools
import multiprocessing
import os
import resource
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from machine import describe_processor, matmul_gflops, memory_gbps
from torch import Tensor, nn

from lightning_dws.inrs.fitting import RECIPES, Recipe, fit_inrs
from lightning_dws.inrs.signals import FashionMNIST
from lightning_dws.inrs.siren import initialise_inrs
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


def make_jax_fit(coordinates: Tensor, signals: Tensor) -> Callable[[], float] | None:
    """Give what fits all signals at once with JAX, in INR-steps per second; None without JAX."""
    try:
        import jax
        import jax.numpy as jnp
    except ImportError:
        return None
    points, values = (jnp.asarray(tensor.numpy()) for tensor in (coordinates, signals))

    def loss(layers: Any, signal: Any) -> Any:
        x = points
        for weight, bias in layers[:-1]:
            x = jnp.sin(ARCHITECTURE.w0 * (x @ weight.T + bias))
        weight, bias = layers[-1]
        return jnp.mean((x @ weight.T + bias + ARCHITECTURE.output_offset - signal) ** 2)

    def step(number: Any, state: Any) -> Any:
        layers, first, second = state
        gradients = jax.vmap(jax.grad(loss))(layers, values)
        first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, gradients)
        second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, second, gradients)
        scale, scale2 = 1 - 0.9 ** (number + 1.0), 1 - 0.999 ** (number + 1.0)

        def update(p: Any, m: Any, v: Any) -> Any:
            return p - 5e-4 * (m / scale) / (jnp.sqrt(v / scale2) + 1e-8)

        return jax.tree.map(update, layers, first, second), first, second

    fit_all = jax.jit(lambda state: jax.lax.fori_loop(0, ENGINE_STEPS, step, state))
    keys = torch.arange(len(signals))
    inrs = initialise_inrs(ARCHITECTURE, seed=0, object_id=keys, view=torch.zeros_like(keys))
    layers = [
        (jnp.asarray(weight.numpy()), jnp.asarray(bias.numpy()))
        for weight, bias in zip(inrs.weights, inrs.biases, strict=True)
    ]
    zeros = jax.tree.map(jnp.zeros_like, layers)

    def run() -> float:
        start = time.perf_counter()
        jax.block_until_ready(fit_all((layers, zeros, zeros)))
        return len(signals) * ENGINE_STEPS / (time.perf_counter() - start)

    return run


def compare(rounds: int, coordinates: Tensor, signals: Tensor) -> tuple[float, float, float | None]:
    """Alternate between all; give medians in INR-steps per second: plain loop, ours, JAX."""
    cores = sorted(os.sched_getaffinity(0))
    engine_recipe = Recipe(ENGINE_STEPS, learning_rate=5e-4)
    plain, engine, with_jax = [], [], []
    run_jax = make_jax_fit(coordinates, signals[:ENGINE_INRS])
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
        if run_jax is not None:
            runs.append((with_jax, run_jax))
        for number in range(rounds + 1):
            for results, run in runs:
                rate = run()
                if number > 0:  # the first round warms up
                    results.append(rate)
    jax_rate = statistics.median(with_jax) if with_jax else None
    return statistics.median(plain), statistics.median(engine), jax_rate


def matmul_flops_per_step(architecture: INRArchitecture, num_points: int) -> int:
    """Count what a step needs in matrix products: forward, weight gradients, hidden gradients."""
    forward = sum(n_out * (n_in + 1) for n_out, n_in in architecture.weight_shapes)
    hidden = sum(n_out * n_in for n_out, n_in in architecture.weight_shapes[1:])
    return 2 * num_points * (2 * forward + hidden)


def least_bytes_per_step(architecture: INRArchitecture, num_values: int) -> int:
    """Count the bytes that a step of an INR moves if everything moves once, in no cache.

    The signal is read; parameters are read in both passes and updated, gradients written and read,
    Adam's two moments read and written. Activations need not leave the cache.
    """
    return 4 * (num_values + 10 * architecture.num_parameters)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    data = FashionMNIST()
    objects = data.split("train").object_id[: max(RECIPE_INRS.values())]
    coordinates, signals = data.coordinates, data.values(objects)

    gbps = memory_gbps()
    print(
        f"{describe_processor()}, {torch.get_num_threads()} threads, torch {torch.__version__}; "
        f"memory copy {gbps:.0f} GB/s; widths 2-32-32-1, 784 px"
    )
    machine = matmul_gflops()
    plain, engine, with_jax = compare(rounds, coordinates, signals)
    used = engine * matmul_flops_per_step(ARCHITECTURE, signals.shape[1]) / 1e9
    print(f"matrix product 2048^3       {machine:10.0f} GFLOP/s")
    print(f"plain loop, one per core    {plain:10.0f} INR-steps/s")
    print(f"fit_inrs                    {engine:10.0f} INR-steps/s")
    print(f"  over the plain loop       {engine / plain:10.1f}")
    if with_jax is None:
        print("JAX is not installed: not compared")
    else:
        print(f"JAX, vmap over INRs         {with_jax:10.0f} INR-steps/s")
        print(f"  fit_inrs over it          {engine / with_jax:10.1f}")
    print(
        f"fit_inrs, matrix products   {used:10.0f} GFLOP/s, {used / machine:.0%} of the machine's"
    )
    moved = engine * least_bytes_per_step(ARCHITECTURE, signals[0].numel()) / 1e9
    print(f"fit_inrs, memory            {moved:10.2f} GB/s, {moved / gbps:.1%} of the machine's")

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
