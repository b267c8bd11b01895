"""Training steps of DWSNet per second, against the authors' code and the machine's own limits.

    python benchmarks/dwsnet.py

A step is forward, cross-entropy, backward and AdamW on batches of random INRs. The variants take
turns, each round with its own measurement of the matrix-product rate; medians are printed. The
authors' code was timed on another machine: its figures are scaled by the ratio of the two
machines' matrix-product rates. Peak memory is that of a process that runs one variant only.
"""

import argparse
import multiprocessing
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F
from machine import matmul_gflops, memory_gbps
from torch.utils.flop_counter import FlopCounterMode, bmm_flop

from lightning_dws import INRArchitecture, WeightBatch
from lightning_dws.models import DWSNet

# The authors' code, samples/s of such a step on two CPU cores, where a 2048^3 float32 product ran
# at this rate.
AUTHORS_GFLOPS = 190.0
AUTHORS_ATTENTION_MAX = 75.0
AUTHORS_DEEPSETS_MEAN = 170.0


@dataclass(frozen=True)
class Variant:
    """A model, the INRs it reads, and what the authors' code does with the same."""

    name: str
    options: dict
    widths: tuple[int, ...] = (2, 32, 32, 1)
    batch_size: int = 128
    authors_samples_per_second: float | None = None


NO_NORM = {"batch_norm": False}
SMALL = {"widths": (2, 16, 16, 1), "batch_size": 64}
VARIANTS = [
    Variant(
        "attention, max",
        {"set_layer": "attention", "reduction": "max"} | NO_NORM,
        authors_samples_per_second=AUTHORS_ATTENTION_MAX,
    ),
    Variant(
        "deepsets, mean",
        {"set_layer": "deepsets", "reduction": "mean"} | NO_NORM,
        authors_samples_per_second=AUTHORS_DEEPSETS_MEAN,
    ),
    Variant("attention, max, batch norm", {}),
    Variant("deepsets, max, batch norm", {"set_layer": "deepsets"}),
    Variant("small attention", {"hidden_dim": 16, "num_hidden": 2}, **SMALL),
    Variant(
        "small deepsets", {"hidden_dim": 16, "num_hidden": 2, "set_layer": "deepsets"}, **SMALL
    ),
]


def make_step(variant: Variant, device: str) -> Callable[[], None]:
    """Build a model, an optimizer and a batch; give the function that trains one step."""
    torch.manual_seed(0)
    architecture = INRArchitecture(variant.widths)
    model = DWSNet(architecture, 10, **variant.options).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    rows = torch.randn(variant.batch_size, architecture.num_parameters)
    label = torch.randint(10, (variant.batch_size,))
    batch = WeightBatch.from_parameters(architecture, rows, label).to(device)

    def step() -> None:
        loss = F.cross_entropy(model(batch), batch.label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()

    return step


def count_flops(variant: Variant) -> int:
    """Operations of a step's matrix products."""
    in_place = {torch.ops.aten.baddbmm_: lambda _, *factors, **kwargs: bmm_flop(*factors)}
    with FlopCounterMode(display=False, custom_mapping=in_place) as counter:
        make_step(variant, "cpu")()
    return counter.get_total_flops()


def peak_megabytes(variant: Variant, device: str) -> float:
    """Memory that three steps take, the libraries' own not counted."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        make_step(variant, device)()
        return torch.cuda.max_memory_allocated() / 2**20
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak_megabytes_of_this_process, (variant, torch.get_num_threads()))


def _peak_megabytes_of_this_process(variant: Variant, num_threads: int) -> float:
    torch.set_num_threads(num_threads)
    before = _resident_megabytes("VmRSS")
    step = make_step(variant, "cpu")
    for _ in range(3):
        step()
    return _resident_megabytes("VmHWM") - before


def _resident_megabytes(field: str) -> float:
    """Read from Linux; ``resource.getrusage`` would give the parent process's peak as well."""
    status = Path("/proc/self/status")
    if not status.exists():
        return float("nan")
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return int(lines[field].split()[0]) / 1024


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    arguments = parser.parse_args()
    device = arguments.device

    steps = [make_step(variant, device) for variant in VARIANTS]
    seconds: list[list[float]] = [[] for _ in VARIANTS]
    rates = []
    for step in steps:
        step()
    for _ in range(arguments.rounds):
        rates.append(matmul_gflops(device, repeats=3))
        for step, times in zip(steps, seconds, strict=True):
            start = time.perf_counter()
            step()
            times.append(time.perf_counter() - start)
    gflops = median(rates)

    print(
        f"{device}, {torch.get_num_threads()} threads, torch {torch.__version__}; "
        f"matrix product {gflops:.0f} GFLOP/s, memory copy {memory_gbps(device):.0f} GB/s"
    )
    print(f"{'':28}{'batch':>6}{'samples/s':>11}{'x authors':>11}{'of product rate':>17}{'MB':>7}")
    for variant, times in zip(VARIANTS, seconds, strict=True):
        per_second = variant.batch_size / median(times)
        ratio = "-"
        if variant.authors_samples_per_second is not None and device == "cpu":
            scaled = variant.authors_samples_per_second * gflops / AUTHORS_GFLOPS
            ratio = f"{per_second / scaled:.1f}"
        fraction = count_flops(variant) / median(times) / 1e9 / gflops
        memory = peak_megabytes(variant, device)
        print(
            f"{variant.name:28}{variant.batch_size:6}{per_second:11.0f}{ratio:>11}"
            f"{fraction:17.0%}{memory:7.0f}"
        )


if __name__ == "__main__":
    main()
