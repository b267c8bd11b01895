"""Compare this build with an earlier one: fits, training steps, evaluation, alignment, in turns.

    python benchmarks/builds.py DIR [--rounds 5] [--store STORE] [--only TEXT]

DIR is a checkout of the other commit ("git worktree add --detach DIR COMMIT"). Each build runs in a
process of its own, which waits while the other one computes. Fits are of 128 INRs of 2-32-32-1 to
28x28 pixels; a step is forward, cross-entropy, backward and AdamW on random INRs; alignment is of
INRs of a STORE, where one is given.
Medians are printed, the share of this machine's matrix-product rate that this build's case runs at
(by the products of its float64 expressions, of which the GNN's kernels need but a part), and the
peak of memory over three steps in a process of its own.
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
from torch import Tensor, nn
from torch.nn import functional
from training_steps import count_flops, describe_machine

from lightning_dws import INRArchitecture, WeightBatch
from lightning_dws.inrs import RECIPES, Recipe, fit_inrs
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
PAIRS, FITS = 128, 128


def make_case(
    name: str, inrs: Path | None = None, dtype: torch.dtype = torch.float32
) -> Callable[[], None]:
    """Build what one case repeats."""
    kind, _, what = name.rpartition(": ")
    if kind == "fitting":
        return make_fit(RECIPES[what] if what in RECIPES else Recipe(50, learning_rate=5e-3))
    if kind == "alignment":
        return make_alignment(what, torch.from_numpy(np.load(str(inrs), allow_pickle=False)))
    return make_network_case(kind, what, dtype)


def make_fit(recipe: Recipe) -> Callable[[], None]:
    """Give what fits INRs to waves, which takes all of a recipe's steps, and once."""
    architecture, ids = INRArchitecture(WIDTHS), torch.arange(FITS)
    axis = torch.linspace(-1, 1, 28)
    points = torch.cartesian_prod(axis, axis)
    direction = 2 * torch.randn(2, FITS, generator=torch.Generator().manual_seed(0))
    signals = 0.5 + 0.4 * torch.sin(points @ direction).T[:, :, None]
    keys = {"seed": 0, "object_id": ids, "view": torch.zeros_like(ids)}

    def fit_all() -> None:
        fit_inrs(signals, points, architecture, recipe=recipe, **keys)  # type: ignore[arg-type]

    return fit_all


def make_alignment(symmetry: str, rows: Tensor) -> Callable[[], None]:
    """Give what aligns one half of INRs to the other."""
    architecture, label = INRArchitecture(WIDTHS), torch.zeros(PAIRS, dtype=torch.long)
    a, b = (WeightBatch.from_parameters(architecture, half, label) for half in rows.chunk(2))

    def align_all() -> None:
        align(a, b, symmetry=symmetry)  # type: ignore[arg-type]

    return align_all


def make_network_case(
    kind: str, what: str, dtype: torch.dtype = torch.float32, size: int | None = None
) -> Callable[[], None]:
    """Give a network's training step, or its evaluation, of the usual or another batch size."""
    network_class, options, usual = NETWORKS[kind]
    size = size or usual
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
    """Print the megabytes that three steps take beside what a step of a small batch has loaded."""
    kind, _, what = name.rpartition(": ")

    def resident(field: str) -> int:
        status = Path("/proc/self/status").read_text().splitlines()
        return int(dict(line.split(":", 1) for line in status)[field].split()[0])

    make_network_case(kind, what, size=16)()
    before, step = resident("VmRSS"), make_network_case(kind, what)
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
    names = ["fitting: fast", "fitting: 50 steps on all points"]
    names += [f"{network}: {what}" for network in NETWORKS for what in ("step", "evaluation")]
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
            if name.rpartition(": ")[0] in NETWORKS:  # kernels are not counted, float64 takes none
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
    if not (arguments.other / "lightning_dws").is_dir():  # else this build meets itself
        parser.error(f"{arguments.other}: expected a checkout, found no folder lightning_dws in it")
    if arguments.work:
        work(arguments.inrs)
    elif arguments.peak:
        print_peak(arguments.peak)
    else:
        compare(arguments.other, arguments.rounds, arguments.store, arguments.only)


if __name__ == "__main__":
    main()
