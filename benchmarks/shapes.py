"""3-D shapes: sampling signed distances, fitting, and what INRs of several widths keep.

    python benchmarks/shapes.py                 # sampling and fitting, with a profile: two minutes
    python benchmarks/shapes.py --trade-off     # IoU and speed by widths and points: half an hour

Shapes are the embedded solids; samples go to a temporary folder.
"""

import argparse
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
import yaml
from fitting import matmul_flops_per_step
from machine import matmul_gflops, memory_gbps

from lightning_dws.inrs import Recipe, Sampling, Solids, fit_inrs
from lightning_dws.inrs.shapes.meshes import normalise
from lightning_dws.inrs.shapes.samples import _draw_points, grid_points
from lightning_dws.inrs.shapes.signed_distance import SignedDistance
from lightning_dws.weight_space import INRArchitecture

CONFIG = Path(__file__).parents[1] / "conf" / "inrs" / "shapes.yaml"
SAMPLED_POINTS = 100_000
WIDTHS = (
    (3, 24, 24, 1),
    (3, 32, 32, 1),
    (3, 48, 48, 1),
    (3, 64, 64, 1),
    (3, 16, 16, 16, 1),
    (3, 24, 24, 24, 1),
    (3, 28, 28, 28, 1),
    (3, 32, 32, 32, 1),
    (3, 40, 40, 40, 1),
    (3, 48, 48, 48, 1),
    (3, 24, 24, 24, 24, 1),
    (3, 32, 32, 32, 32, 1),
)
POINTS = (2048, 4096, 8192, 16384, 32768)

_seconds: dict[str, float] = defaultdict(float)


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Add the processor's time in a block to a stage's."""
    start = time.process_time()
    yield
    _seconds[name] += time.process_time() - start


def profile_sampling(count: int) -> None:
    """Print where the time goes when a shape is sampled, in one thread."""
    data = Solids(sampling=Sampling(num_points=SAMPLED_POINTS))
    sampling, grid = data.sampling, grid_points(data.sampling.grid_size).numpy()
    for index in range(count):
        with stage("build, clean"):
            mesh = normalise(data.load_mesh(index), sampling.margin)
        with stage("draw points"):
            points = _draw_points(mesh, sampling, np.random.default_rng(index))
        function = SignedDistance(mesh)
        with stage("build trees"):
            function.distance(points[:1])
            function.winding_number(points[:1])
        with stage("signed distances at points"):
            function(points)
        with stage("winding numbers on the grid"):
            function.is_inside(grid)
    total = sum(_seconds.values())
    print(f"\nsampling {count} solids at {SAMPLED_POINTS} points, one thread, processor time:")
    for name, seconds in _seconds.items():
        print(f"  {name:30s} {1e3 * seconds / count:8.1f} ms {seconds / total:5.0%}")
    print(f"  shapes/s and core {count / total:24.1f}")
    rate = 1e-6 * count * SAMPLED_POINTS / _seconds["signed distances at points"]
    print(f"  million signed distances a second and core {rate:5.2f}")


def measure_sampling(count: int, cache: str) -> None:
    """Print how fast samples are drawn and written by as many processes as there are cores."""
    data = Solids(sampling=Sampling(num_points=SAMPLED_POINTS), cache=cache)
    data._cache.examine([0, 1], "warm-up", 0, False)
    start = time.perf_counter()
    data.first("train", count)
    rate = count / (time.perf_counter() - start)
    print(f"\nsampled and written, all cores, start of processes included: {rate:.1f} shapes/s")


def load_recipe() -> tuple[INRArchitecture, Recipe]:
    """Give what ``conf/inrs/shapes.yaml`` says."""
    content = yaml.safe_load(CONFIG.read_text())
    recipe = {k: float(v) if k == "learning_rate" else v for k, v in content["recipe"].items()}
    return INRArchitecture(**content["architecture"]), Recipe(**recipe)


def fit(
    data: Solids, count: int, architecture: INRArchitecture, recipe: Recipe
) -> tuple[float, float, dict[str, torch.Tensor], torch.Tensor]:
    """Fit the first objects of training; give wall seconds, processor seconds and measures."""
    chosen = data.first("train", count)
    points, values = data.sample(chosen.object_id)
    start, cpu = time.perf_counter(), time.process_time()
    inrs, psnr = fit_inrs(
        values,
        points,
        architecture,
        recipe=recipe,
        seed=0,
        object_id=chosen.object_id,
        view=torch.zeros_like(chosen.object_id),
    )
    wall, cpu = time.perf_counter() - start, time.process_time() - cpu
    return wall, cpu, data.measure(inrs), psnr


def measure_fitting(data: Solids, count: int) -> None:
    """Print the speed of fitting against the machine's limits, and of measuring."""
    architecture, recipe = load_recipe()
    fit(data, 8, architecture, recipe)
    wall, cpu, measures, psnr = fit(data, count, architecture, recipe)
    flops = matmul_flops_per_step(architecture, recipe.points_per_step) * recipe.steps
    rate = flops * count / wall / 1e9
    machine = matmul_gflops()
    print(f"\nfitting {count} INRs as in {CONFIG.name}, widths {architecture.widths}")
    print(f"  {count / wall:.2f} INRs/s, {cpu / count:.2f} s of processor time an INR")
    print(
        f"  matrix products {rate:.0f} GFLOP/s, {rate / machine:.0%} of the machine's {machine:.0f}"
    )
    print(f"  mean PSNR {psnr.mean():.1f} dB, mean IoU {measures['iou'].nanmean():.3f}")


def show_trade_off(data: Solids, count: int, widths: list[tuple[int, ...]]) -> None:
    """Print what INRs keep by their widths, then by the number of points of a shape."""
    _, recipe = load_recipe()
    print("\n| widths | parameters | points | mean IoU | 5 % | mean error | PSNR (dB) | s / INR |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    rows = [(w, data) for w in widths]
    chosen, _ = load_recipe()
    rows += [
        (chosen.widths, Solids(sampling=Sampling(num_points=n), cache=data.cache_root))
        for n in POINTS
        if n != data.sampling.num_points
    ]
    for own_widths, own_data in rows:
        architecture = INRArchitecture(own_widths, w0=chosen.w0, output_offset=0.0)
        _, cpu, measures, psnr = fit(own_data, count, architecture, recipe)
        iou = measures["iou"]
        print(
            f"| {'-'.join(map(str, own_widths))} | {architecture.num_parameters} "
            f"| {own_data.sampling.num_points} | {iou.nanmean():.3f} | {iou.nanquantile(0.05):.2f} "
            f"| {measures['sdf_error'].mean():.4f} | {psnr.mean():.1f} | {cpu / count:.2f} |",
            flush=True,
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=56, help="shapes; classes take turns")
    parser.add_argument("--trade-off", action="store_true")
    parser.add_argument("--widths", nargs="+", help="such as 3-32-32-1, instead of the usual ones")
    options = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    with tempfile.TemporaryDirectory() as cache:
        data = Solids(cache=cache)
        if options.trade_off:
            given = [tuple(map(int, text.split("-"))) for text in options.widths or []]
            show_trade_off(data, options.count, given or list(WIDTHS))
            return
        print(f"memory copy {memory_gbps():.0f} GB/s")
        profile_sampling(options.count)
        measure_sampling(options.count, cache)
        measure_fitting(data, options.count)


if __name__ == "__main__":
    main()
