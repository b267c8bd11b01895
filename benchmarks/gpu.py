"""Everything that a GPU has to show, in order of worth, until the time is up.

    python benchmarks/gpu.py --minutes 25

Tests on the device; the published models' numbers there; speed of fitting, training and aligning
beside the card's own limits; all of Fashion-MNIST fitted; cells of conf/table/fmnist.yaml. Every
part writes its result at once and is not run again, so the command can be stopped and started
anew; the report is report.md in the folder of results. ``--dry`` goes the same way in miniature on
a CPU. Needs the development extras, and Fashion-MNIST where ``lightning_dws`` finds it.
"""

import argparse
import importlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from machine import describe_processor, matmul_gflops, memory_gbps
from torch import nn
from training_steps import count_flops, random_batch

from lightning_dws import INRArchitecture
from lightning_dws.inrs import FashionMNIST, INRStore, fit_inrs
from lightning_dws.inrs.fitting.recipes import RECIPES, Recipe
from lightning_dws.mixup import align
from lightning_dws.models import DWSNet, NeuralGraphGNN, NeuralGraphTransformer
from lightning_dws.tasks.compiling import GraphedNetwork

ROOT = Path(__file__).parents[1]
ARCHITECTURE = INRArchitecture((2, 32, 32, 1))
COMPARED = 256  # INRs fitted on the CPU as well
CELLS_AT_ONCE = 4  # most of a step's time is a CPU's, that launches it
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "DWSNet attention, max": lambda: DWSNet(ARCHITECTURE, 10),
    "DWSNet DeepSets, mean": lambda: DWSNet(
        ARCHITECTURE, 10, set_layer="deepsets", reduction="mean", batch_norm=False
    ),
    "GNN": lambda: NeuralGraphGNN(ARCHITECTURE, 10),
    "GNN, 64 probes": lambda: NeuralGraphGNN(ARCHITECTURE, 10, num_probes=64),
    "transformer": lambda: NeuralGraphTransformer(ARCHITECTURE, 10),
}


@dataclass(frozen=True)
class Run:
    """What the parts need to know.

    Attributes:
        device: Where they run.
        dry: Whether all is a miniature.
        results: Folder of what they write.
        max_steps: Of a cell of the table.
        root: Folder of the stores.
        deadline: In seconds of ``time.monotonic``.
    """

    device: torch.device
    dry: bool
    results: Path
    root: Path
    max_steps: int
    deadline: float

    @property
    def seconds_left(self) -> float:
        return self.deadline - time.monotonic()

    def synchronize(self) -> None:
        """Wait for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def seconds(self, function: Callable[[], Any], repeats: int) -> float:
        """Give the median time of a call, after two that are not counted."""
        times = []
        for _ in range(2 + (1 if self.dry else repeats)):
            self.synchronize()
            start = time.perf_counter()
            function()
            self.synchronize()
            times.append(time.perf_counter() - start)
        return median(times[2:])


def run_command(words: Sequence[str], run: Run) -> tuple[bool, list[str]]:
    """Run a command while there is time; give whether it ended well, and its last lines."""
    process = subprocess.Popen(
        [sys.executable, *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "TESTS_ON_GPU": "1"},
    )
    try:
        text, _ = process.communicate(timeout=max(1.0, run.seconds_left))
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)  # as Ctrl-C: what is done is kept
        process.communicate()
        return False, ["stopped: the time was up"]
    return process.returncode == 0, text.strip().splitlines()[-12:]


def device_tests(run: Run) -> Iterator[str]:
    """Run the tests of ``tests/device``; elsewhere the tests hide GPUs."""
    words = ["-m", "pytest", "tests/device", "-q", "-p", "no:cacheprovider"]
    if run.dry:
        words += ["-k", "gather"]
    good, lines = run_command(words, run)
    yield f"`python {' '.join(words)}`: {'passed' if good else 'FAILED'}"
    yield from ["", "```", *lines, "```"]


def golden_outputs(run: Run) -> Iterator[str]:
    """Compare with the outputs of the published models, in float64 and float32."""
    sys.path.append(str(ROOT / "tests"))
    golden = importlib.import_module("golden")
    gnn, transformer = (importlib.import_module(f"golden_{n}") for n in ("gnn", "transformer"))
    makers = [
        *((name, golden.Golden.dwsnet) for name in golden.DWSNET_FILES),
        *((name, gnn.published_gnn) for name in gnn.GNN_FILES),
        *((name, transformer.golden_transformer) for name in transformer.TRANSFORMER_FILES),
    ]
    yield "Relative difference of the logits from the published models'."
    yield from ["", "| file | float64 | float32 |", "| --- | --- | --- |"]
    for name, make in makers:
        known = golden.Golden(name)
        model = make(known).to(run.device)
        apart = []
        for dtype in (torch.float64, torch.float32):
            batch = known.batch.to(run.device).to(dtype)
            logits = model.to(dtype)(batch).detach().double().cpu()
            apart.append(float((logits - known.logits).norm() / known.logits.norm()))
        yield f"| {name} | {apart[0]:.1e} | {apart[1]:.1e} |"


def training_step(network: nn.Module, call: Any, size: int, run: Run) -> Callable[[], None]:
    """Give forward, cross-entropy, backward and AdamW on a batch of random INRs."""
    batch = random_batch(ARCHITECTURE.widths, size, str(run.device))
    network.standardize.keep_identity()  # type: ignore[union-attr, operator]
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)

    def step() -> None:
        loss = F.cross_entropy(call(batch), batch.label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def training_speed(run: Run) -> Iterator[str]:
    """Time training steps as they are, and recorded as CUDA graphs."""
    torch.set_float32_matmul_precision("high")  # as in training
    rate = matmul_gflops(str(run.device), 512 if run.dry else 8192)
    copied = memory_gbps(str(run.device), 64 if run.dry else 1024)
    yield f"Matrix product {rate:.0f} GFLOP/s (float32, high precision), copy {copied:.0f} GB/s."
    yield from [
        "",
        "| network | batch | ms a step | recorded, ms | INRs/s, recorded | of product rate | MB |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, make in NETWORKS.items():
        for size in (8,) if run.dry else (128, 1024):
            network = make().to(run.device)
            step = training_step(network, network, size, run)
            plain = recorded = run.seconds(step, 10)
            memory = 0.0
            if run.device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
                step()
                memory = torch.cuda.max_memory_allocated() / 2**20
                graphed = GraphedNetwork(network, adds_gradients=False)
                recorded = run.seconds(training_step(network, graphed, size, run), 20)
            on_cpu = make()
            cpu_run = replace(run, device=torch.device("cpu"))
            flops = count_flops(training_step(on_cpu, on_cpu, 8, cpu_run)) * size / 8
            yield (
                f"| {name} | {size} | {1e3 * plain:.2f} | {1e3 * recorded:.2f} | "
                f"{size / recorded:.0f} | {flops / recorded / 1e9 / rate:.1%} | {memory:.0f} |"
            )
    torch.set_float32_matmul_precision("highest")


def alignment_speed(run: Run) -> Iterator[str]:
    """Time alignment of random pairs."""
    yield from ["| alignment | pairs | us a pair | us a pair on this CPU |", "| --- " * 4 + "|"]
    for symmetry in ("permutation", "signed_permutation"):
        for size in (16,) if run.dry else (128, 1024):
            a, b = (random_batch(ARCHITECTURE.widths, size, str(run.device)) for _ in range(2))
            b = b.replace(parameters=b.parameters.flip(0).contiguous())
            there = run.seconds(lambda a=a, b=b, s=symmetry: align(a, b, s), 10)
            c, d = a.to("cpu"), b.to("cpu")
            here = run.seconds(lambda c=c, d=d, s=symmetry: align(c, d, s), 3)
            yield f"| {symmetry} | {size} | {1e6 * there / size:.1f} | {1e6 * here / size:.1f} |"


def fitting_speed(run: Run) -> Iterator[str]:
    """Time fitting by every recipe, and compare its PSNR with the CPU's on the same images."""
    count = 16 if run.dry else 16384
    images = FashionMNIST()
    signals = images.values(images.first("train", count).object_id)
    points = images.coordinates
    yield from [
        "| recipe | INRs | INRs/s | PSNR, dB | PSNR on the CPU, dB | largest difference, dB |",
        "| --- " * 6 + "|",
    ]
    for name, recipe in RECIPES.items():
        if run.dry:
            recipe = replace(recipe, steps=6, warmup_steps=0)

        def fit(device: torch.device, size: int, recipe: Recipe = recipe) -> torch.Tensor:
            some = torch.arange(size, device=device)
            return fit_inrs(
                signals[:size].to(device),
                points.to(device),
                ARCHITECTURE,
                recipe=recipe,
                seed=0,
                object_id=some,
                view=torch.zeros_like(some),
            )[1].cpu()

        fit(run.device, min(count, 256))
        run.synchronize()
        start = time.perf_counter()
        psnr = fit(run.device, count)
        seconds = time.perf_counter() - start
        compared = min(count, 8 if run.dry else COMPARED)
        known = fit(torch.device("cpu"), compared)
        apart = (psnr[:compared] - known).abs().max()
        yield (
            f"| {name} | {count} | {count / seconds:.0f} | {psnr[:compared].mean():.2f} | "
            f"{known.mean():.2f} | {apart:.2f} |"
        )


def whole_dataset(run: Run) -> Iterator[str]:
    """Fit all of Fashion-MNIST, one view and then ten."""
    for views in (1,) if run.dry else (1, 10):
        words = ["main.py", "inrs", "fit", "--config", "conf/inrs/fmnist.yaml"]
        words += ["--views", str(views), "--root", str(run.root), "--device", run.device.type]
        if run.dry:
            words += [f"--num_{split}_objects=12" for split in ("train", "val", "test")]
        start = time.perf_counter()
        good, lines = run_command(words, run)
        took = time.perf_counter() - start
        ending = f"{'done' if good else 'NOT done'} in {took:.0f} s"
        yield f"- {views} views: {ending}: {''.join(lines[-1:])}"
    stores = [INRStore(path.parent) for path in run.root.glob("*/dataset.json")]
    for store in stores:
        psnr = torch.cat([values for _, values in store.parts("train", None, None)])
        low, middle, high = psnr.quantile(torch.tensor([0.01, 0.5, 0.99])).tolist()
        yield f"- `{store.directory.name}`, train: PSNR {middle:.2f} dB ({low:.2f} to {high:.2f})"


def table_cells(run: Run) -> Iterator[str]:
    """Train cells of the poster's table until the time is up; the part is never done."""
    words = ["main.py", "table", "--config", "conf/table/fmnist.yaml"]
    words += ["--results_root", str(run.results), "--jobs", str(CELLS_AT_ONCE), "--set"]
    words += [f"common.data.root={run.root}", f"common.trainer.max_steps={run.max_steps}"]
    words += ["common.model.compile=cuda-graph"] if run.device.type == "cuda" else []
    good, lines = run_command([*words, "--dry_run"] if run.dry else words, run)
    cells = list((run.results / "fmnist" / "cells").glob("*.json"))
    yield f"{len(cells)} cells of {run.max_steps} steps are done, {CELLS_AT_ONCE} at a time."
    report = run.results / "fmnist" / "report.md"
    if report.exists():
        yield "[Their table](fmnist/report.md)."
    if not good:
        yield from ["", "```", *lines, "```"]


PARTS: dict[str, Callable[[Run], Iterator[str]]] = {
    "Tests on the device": device_tests,
    "The published models' outputs": golden_outputs,
    "Training": training_speed,
    "Alignment": alignment_speed,
    "Fitting": fitting_speed,
    "All of Fashion-MNIST": whole_dataset,
    "The poster's table": table_cells,
}


def slug(title: str) -> str:
    """Give the name of a part's file."""
    return re.sub("[^a-z]+", "-", title.lower())


def run_part(title: str, part: Callable[[Run], Iterator[str]], run: Run) -> None:
    """Run a part, and write what it says line by line; what was stopped begins anew."""
    path = run.results / "parts" / f"{slug(title)}.md"
    if path.exists():
        return
    unfinished = path.with_suffix(".unfinished")
    start = time.perf_counter()
    print(f"## {title}", flush=True)
    with unfinished.open("w") as file:
        for line in part(run):
            print(line, flush=True)
            print(line, file=file, flush=True)
        print(f"\n{time.perf_counter() - start:.0f} s.", file=file)
    if part is not table_cells and run.seconds_left > 0:  # else some of it was stopped
        unfinished.rename(path)
    write_report(run)


def write_report(run: Run) -> None:
    """Put together what the parts have written."""
    is_gpu = run.device.type == "cuda"
    name = torch.cuda.get_device_name() if is_gpu else describe_processor()
    lines = [f"# {name}, torch {torch.__version__}", "", "By `python benchmarks/gpu.py`."]
    for title in PARTS:
        for path in sorted((run.results / "parts").glob(f"{slug(title)}.*")):
            lines += ["", f"## {title}", "", path.read_text().strip()]
    (run.results / "report.md").write_text("\n".join(lines) + "\n")


def main() -> None:
    """Run the parts that are left."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=25.0)
    parser.add_argument("--results", type=Path, default=ROOT / "results" / "gpu")
    parser.add_argument("--root", type=Path, default=ROOT / "data", help="folder of the stores")
    parser.add_argument("--max_steps", type=int, default=43000, help="of a cell of the table")
    parser.add_argument("--dry", action="store_true", help="all in miniature, on the CPU")
    arguments = parser.parse_args()
    if not arguments.dry and not torch.cuda.is_available():
        raise SystemExit("gpu.py needs a GPU of CUDA, and torch finds none; --dry needs none")
    run = Run(
        torch.device("cpu" if arguments.dry else "cuda"),
        arguments.dry,
        arguments.results.resolve(),
        arguments.root.resolve(),
        arguments.max_steps,
        time.monotonic() + 60 * arguments.minutes,
    )
    (run.results / "parts").mkdir(parents=True, exist_ok=True)
    for title, part in PARTS.items():
        if run.seconds_left > 0:
            run_part(title, part, run)
    print(f"{run.results / 'report.md'}")


if __name__ == "__main__":
    main()
