"""Compare this build with an earlier one: training steps, evaluation and alignment, in turns.

    python benchmarks/builds.py DIR [--rounds 5] [--store STORE] [--only TEXT]

DIR is a checkout of the other commit ("git worktree add --detach DIR COMMIT"). Each build runs in a
process of its own, which waits while the other one computes. A step is forward, cross-entropy,
backward and AdamW on random INRs of 2-32-32-1; alignment is of INRs of a STORE, where one is given.
Medians are printed, the share of this machine's matrix-product rate that this build's case runs at,
and the peak of memory over three steps in a process of its own.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from machine import matmul_gflops, memory_gbps
from torch import nn
from torch.nn import functional
from training_steps import count_flops, describe_machine

from lightning_dws import INRArchitecture, WeightBatch
from lightning_dws.mixup import align
from lightning_dws.models import DWSNet, NeuralGraphGNN, NeuralGraphTransformer

WIDTHS = (2, 32, 32, 1)
NETWORKS: dict[str, tuple[type[nn.Module], dict[str, Any], int]] = {  # options, batch size
    "DWSNet, attention, max": (DWSNet, {"reduction": "max", "batch_norm": False}, 128),
    "DWSNet, DeepSets, mean": (
        DWSNet,
        {"set_layer": "deepsets", "reduction": "mean", "batch_norm": False},
        128,
    ),
    "DWSNet, attention, max, batch norm": (DWSNet, {"reduction": "max"}, 128),
    "DWSNet, DeepSets, max, batch norm": (
        DWSNet,
        {"set_layer": "deepsets", "reduction": "max"},
        128,
    ),
    "GNN": (NeuralGraphGNN, {}, 128),
    "transformer": (NeuralGraphTransformer, {}, 32),
}
SYMMETRIES = ("permutation", "signed_permutation")
PAIRS = 128


def make_case(
    name: str, inrs: Path | None = None, dtype: torch.dtype = torch.float32
) -> Callable[[], None]:
    """Build what one case repeats."""
    kind, _, what = name.rpartition(": ")
    if kind == "alignment":
        architecture = INRArchitecture(WIDTHS)
        rows = torch.from_numpy(np.load(inrs, allow_pickle=False))  # type: ignore[arg-type]
        a, b = (
            WeightBatch.from_parameters(
                architecture, half, torch.zeros(len(half), dtype=torch.long)
            )
            for half in rows.chunk(2)
        )

        def align_all() -> None:
            align(a, b, symmetry=what)  # type: ignore[arg-type]

        return align_all
    network_class, options, size = NETWORKS[kind]
    torch.manual_seed(0)
    architecture = INRArchitecture(WIDTHS)
    rows = torch.randn(size, architecture.num_parameters, dtype=dtype)
    batch = WeightBatch.from_parameters(architecture, rows, torch.randint(10, (size,)))
    network = network_class(architecture, 10, **options).to(dtype)
    network.standardize.fit(rows)  # type: ignore[operator, union-attr]
    optimizer = torch.optim.AdamW(network.parameters())

    def step() -> None:
        loss = functional.cross_entropy(network(batch), batch.label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    if what == "step":
        return step

    def evaluate() -> None:
        with torch.no_grad():
            network(batch)

    network.eval()
    return evaluate


def work(inrs: Path | None) -> None:
    """Time the cases that are asked for, one call a line of standard input."""
    cases: dict[str, Callable[[], None]] = {}
    for line in sys.stdin:
        name = line.strip()
        if name not in cases:
            cases.clear()  # one network at a time
            cases[name] = make_case(name, inrs)
            cases[name]()
        start = time.perf_counter()
        cases[name]()
        print(json.dumps(time.perf_counter() - start), flush=True)


def print_peak(name: str) -> None:
    """Print the megabytes that three steps take beside what was there before."""

    def resident(field: str) -> int:
        status = Path("/proc/self/status").read_text().splitlines()
        return int(dict(line.split(":", 1) for line in status)[field].split()[0])

    before, step = resident("VmRSS"), make_case(name)
    for _ in range(3):
        step()
    print((resident("VmHWM") - before) / 1024)


def command(build: Path, *arguments: str) -> dict[str, Any]:
    """Say how to run this file on a build."""
    environment = os.environ | {"PYTHONPATH": str(build)}
    return {"args": [sys.executable, __file__, *arguments], "env": environment}


def compare(other: Path, rounds: int, store: Path | None, only: str) -> None:
    """Print a line for each case, as it ends."""
    builds = (other, Path(__file__).parent.parent)
    names = [f"{network}: {what}" for network in NETWORKS for what in ("step", "evaluation")]
    if store:
        names += [f"alignment: {symmetry}" for symmetry in SYMMETRIES]
    rate = matmul_gflops()
    print(describe_machine("cpu", rate, memory_gbps()))
    print(f"{'milliseconds':46} before      now  ratio  of product   peak MB before, now")
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["--work"]
        if store:
            arguments += ["--inrs", write_inrs(store, Path(folder) / "inrs.npy")]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        workers = [
            subprocess.Popen(**command(build, str(other), *arguments), **pipes, text=True)
            for build in builds
        ]
        for name in filter(lambda name: only in name, names):
            seconds: list[list[float]] = [[], []]
            for _ in range(rounds):
                for worker, times in zip(workers, seconds, strict=True):
                    times.append(ask(worker, name))
            before, now = map(median, seconds)
            line = f"{name:44}{1e3 * before:9.1f}{1e3 * now:9.1f}{before / now:7.1f}"
            if not name.startswith("alignment"):  # kernels are not counted, float64 takes none
                flops = count_flops(make_case(name, dtype=torch.float64))
                line += f"{flops / now / 1e9 / rate:12.0%}"
            if name.endswith("step"):
                line += "".join(f"{peak(build, other, name):10.0f}" for build in builds)
            print(line, flush=True)
        for worker in workers:
            worker.communicate()


def ask(worker: "subprocess.Popen[str]", name: str) -> float:
    """Let a worker repeat a case once; give its seconds."""
    assert worker.stdin is not None
    assert worker.stdout is not None
    worker.stdin.write(name + "\n")
    worker.stdin.flush()
    return float(worker.stdout.readline())


def peak(build: Path, other: Path, name: str) -> float:
    """Give the peak of a build's memory, in MB."""
    run = command(build, str(other), "--peak", name)
    return float(subprocess.run(**run, stdout=subprocess.PIPE, text=True, check=True).stdout)


def write_inrs(store: Path, file: Path) -> str:
    """Write the first INRs of a store for both builds to read."""
    from lightning_dws.inrs import INRStore  # earlier builds may not have it here

    rows = INRStore(store).split("train")[: 2 * PAIRS].parameters
    np.save(file, rows.numpy())
    return str(file)


def main() -> None:
    """Compare, or do what a process of a comparison does."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("other", type=Path, metavar="DIR", help="a checkout of the other commit")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--store", type=Path, help="of INRs of 2-32-32-1")
    parser.add_argument("--only", default="", help="cases whose names have this text")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--inrs", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        work(arguments.inrs)
    elif arguments.peak:
        print_peak(arguments.peak)
    else:
        compare(arguments.other, arguments.rounds, arguments.store, arguments.only)


if __name__ == "__main__":
    main()
