"""Time training steps of networks in turns, and measure what memory they take."""

import multiprocessing
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from machine import describe_processor, matmul_gflops, memory_gbps
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, bmm_flop

from lightning_dws import INRArchitecture, WeightBatch
from lightning_dws.models import Standardize

Step = Callable[[], None]


def random_batch(widths: tuple[int, ...], size: int, device: str) -> WeightBatch:
    """Make INRs of random weights and labels of ten classes."""
    torch.manual_seed(0)
    architecture = INRArchitecture(widths)
    rows = torch.randn(size, architecture.num_parameters)
    return WeightBatch.from_parameters(architecture, rows, torch.randint(10, (size,))).to(device)


def make_step(
    model: nn.Module,
    logits: Callable[[], Tensor],
    label: Tensor,
    autocast: torch.dtype | None = None,
) -> Step:
    """Give the function that trains one step: forward, cross-entropy, backward and AdamW."""
    for module in model.modules():
        if isinstance(module, Standardize):
            module.keep_identity()  # the rows are random
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    device = label.device.type

    def step() -> None:
        with torch.autocast(device, autocast, enabled=autocast is not None):
            loss = F.cross_entropy(logits(), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()

    return step


def time_in_turns(
    steps: Sequence[Step], rounds: int, device: str
) -> tuple[list[float], float, float]:
    """Give the medians of each step's seconds, and of the product's and the copy's rates then."""
    seconds: list[list[float]] = [[] for _ in steps]
    rates, copies = [], []
    for step in steps:
        step()
    for _ in range(rounds):
        rates.append(matmul_gflops(device, repeats=3))
        copies.append(memory_gbps(device, repeats=3))
        for step, times in zip(steps, seconds, strict=True):
            start = time.perf_counter()
            step()
            times.append(time.perf_counter() - start)
    return [median(times) for times in seconds], median(rates), median(copies)


def least_bytes(model: nn.Module, features: int, size: int = 4) -> int:
    """Give the bytes that a training step moves if everything moves once, in no cache.

    The features between layers are written and read going forward; going backward they are read
    again while their gradients are written and read. Parameters are read in both passes and
    updated; gradients are written and read, AdamW's two moments read and written.

    Args:
        model: The network.
        features: Numbers that its layers hand on, for the whole batch.
        size: Bytes of a number.
    """
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return size * (5 * features + 10 * parameters)


def describe_machine(device: str, gflops: float, gbps: float) -> str:
    """Say in one line what was measured on."""
    name = torch.cuda.get_device_name() if device == "cuda" else describe_processor()
    return (
        f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}; "
        f"matrix product {gflops:.0f} GFLOP/s, memory copy {gbps:.0f} GB/s"
    )


def count_flops(step: Step) -> int:
    """Operations of a step's matrix products; a step on the CPU."""
    in_place = {torch.ops.aten.baddbmm_: lambda _, *factors, **kwargs: bmm_flop(*factors)}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the counter does not see other threads
    try:
        with FlopCounterMode(display=False, custom_mapping=in_place) as counter:
            step()
    finally:
        torch.set_num_threads(threads)
    return counter.get_total_flops()


def peak_megabytes(make: Callable[[Any, str], Step], variant: Any, device: str) -> float:
    """Memory that three steps take, the libraries' own not counted.

    On a CPU that of a process that runs this variant only; ``make`` must be a module's function.
    """
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        make(variant, device)()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        arguments = (make, variant, torch.get_num_threads())
        return pool.apply(_peak_megabytes_of_this_process, arguments)


def _peak_megabytes_of_this_process(
    make: Callable[[Any, str], Step], variant: Any, num_threads: int
) -> float:
    torch.set_num_threads(num_threads)
    before = _resident_megabytes("VmRSS")
    step = make(variant, "cpu")
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
