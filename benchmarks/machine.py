"""What this machine can do: the measure for every other benchmark."""

import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch


def seconds_per_call(function: Callable[[], object], repeats: int) -> list[float]:
    """Time calls one by one, after one that is not counted."""
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return times


def matmul_gflops(device: str = "cpu", size: int = 2048, repeats: int = 5) -> float:
    """Rate of a float32 product of two square matrices, 10^9 operations per second."""
    a, b = torch.randn(2, size, size, device=device)
    out = torch.empty_like(a)
    return 2 * size**3 / median(seconds_per_call(lambda: torch.mm(a, b, out=out), repeats)) / 1e9


def memory_gbps(device: str = "cpu", megabytes: int = 256, repeats: int = 5) -> float:
    """Bandwidth of a copy that does not fit in any cache, read and written, 10^9 bytes a second."""
    source = torch.ones(megabytes * 2**18, device=device)
    target = torch.empty_like(source)
    seconds = median(seconds_per_call(lambda: target.copy_(source), repeats))
    return 2 * source.numel() * source.element_size() / seconds / 1e9


def describe_processor() -> str:
    """Name the processor as Linux does, with family, model and number of cores in use."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    fields = {}
    for name, separator, value in (line.partition(":") for line in lines):
        if separator:
            fields.setdefault(name.strip(), value.strip())
    name = fields.get("model name", platform.processor() or platform.machine())
    if "cpu family" in fields:
        name += f" (family {fields['cpu family']}, model {fields['model']})"
    return f"{name}, {len(os.sched_getaffinity(0))} cores"


if __name__ == "__main__":
    print(describe_processor())
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"matrix product, 2048^3 float32: {matmul_gflops():.0f} GFLOP/s")
    print(f"memory copy, 256 MB:            {memory_gbps():.0f} GB/s")
