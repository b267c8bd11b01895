"""What alignment achieves and costs: distance, mid-point error and time, over pairs of INRs.

    python benchmarks/alignment.py [STORE] [--pairs 1000] [--threads 2] [--picture FILE.png]

STORE is a directory of fitted INRs, e.g. of Fashion-MNIST; without it, disks and boxes of random
size, place and brightness are fitted. Pairs are of different objects and, where there are two
views, of two views of the same object.
"""

import argparse
import time
from pathlib import Path
from statistics import median

import torch
from machine import matmul_gflops, memory_gbps
from torch import Tensor
from weight_matching import match_at_once

from lightning_dws import INRArchitecture, WeightBatch
from lightning_dws.inrs import INRStore, evaluate_inrs, fit_inrs
from lightning_dws.inrs.fitting import Recipe
from lightning_dws.mixup import align, midpoint_error, squared_distance
from lightning_dws.mixup.alignment import Symmetry

ALIGNMENTS = ("none", "permutation", "signed_permutation")
SIDE = 28  # pixels
ROUNDS = 3  # of all ways in turn; the median is printed


def pixel_grid() -> Tensor:
    """Give the (784, 2) pixel coordinates in [-1, 1], x first, row by row."""
    axis = torch.linspace(-1, 1, SIDE)
    return torch.cartesian_prod(axis, axis).flip(1)


def draw_shapes(count: int, seed: int = 0) -> Tensor:
    """Draw (count, 784, 1) images in [0, 1]: a disk or a box each."""
    generator = torch.Generator().manual_seed(seed)
    offset = pixel_grid() - (torch.rand(count, 1, 2, generator=generator) - 0.5)
    disks = torch.rand(count, 1, generator=generator) < 0.5
    distance = torch.where(disks, offset.norm(dim=2), offset.abs().amax(dim=2))
    radius = 0.2 + 0.5 * torch.rand(count, 1, generator=generator)
    brightness = 0.3 + 0.7 * torch.rand(count, 1, generator=generator)
    return ((distance < radius) * brightness)[:, :, None]


def fit_shapes(count: int, view: int) -> WeightBatch:
    """Fit SIRENs of the published size to shapes."""
    recipe, ids = Recipe(steps=200, learning_rate=5e-3), torch.arange(count)
    fitted, _ = fit_inrs(
        draw_shapes(count),
        pixel_grid(),
        INRArchitecture((2, 32, 32, 1)),
        recipe=recipe,
        seed=0,
        object_id=ids,
        view=torch.full_like(ids, view),
    )
    return fitted


def load_pairs(store: Path | None, count: int) -> dict[str, tuple[WeightBatch, WeightBatch]]:
    """Give up to ``count`` pairs of different objects and of two views of one object."""
    if store is None:
        first, second = (fit_shapes(count + 1, view) for view in (0, 1))
    else:
        inrs = INRStore(store).split("train")
        first, second = inrs[inrs.view == 0], inrs[inrs.view == 1]
        first, second = (part[part.object_id.argsort()] for part in (first, second))
        second = second[torch.isin(second.object_id, first.object_id)]
    pairs = {"different objects": (first[:-1][:count], first[1:][:count])}
    if len(second) > 0:
        same = first[torch.isin(first.object_id, second.object_id)]
        pairs["same object"] = (same[:count], second[:count])
    return pairs


def align_at_once(a: WeightBatch, b: WeightBatch, symmetry: Symmetry) -> None:
    """Align by plain operations of torch, and SciPy's assignments."""
    match_at_once(a, b, symmetry == "signed_permutation")


def align_all(
    a: WeightBatch, b: WeightBatch, gbps: float, batch_size: int = 256
) -> dict[str, WeightBatch]:
    """Align b to a in every way, and print what each achieves and costs.

    The share of memory is that of the copy's rate at which both INRs would be read once and the
    aligned one written.
    """
    aligned = {"none": b}
    for symmetry in ALIGNMENTS[1:]:
        ways = {"align": align, "plain operations": align_at_once}
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for way in ways.values():
            way(a[:8], b[:8], symmetry)
        for _ in range(ROUNDS):
            for name, way in ways.items():
                start = time.perf_counter()
                parts = [
                    way(a[at : at + batch_size], b[at : at + batch_size], symmetry)
                    for at in range(0, len(a), batch_size)
                ]
                seconds[name].append(time.perf_counter() - start)
                if name == "align":
                    rows = torch.cat([part.aligned.parameters for part in parts])
                    aligned[symmetry] = b.replace(parameters=rows)
        for name, times in seconds.items():
            each = median(times) / len(a)
            share = 3 * a.parameters[0].nbytes / each / 1e9 / gbps
            print(f"  {symmetry:20} {1e6 * each:8.0f} us per pair, {share:.2%} of memory, {name}")
    print(f"  {'':20} {'distance^2':>10} {'mid-point error':>16}")
    x = pixel_grid().to(a.device)
    for name, moved in aligned.items():
        distance = squared_distance(a, moved).mean()
        print(f"  {name:20} {distance:10.3f} {midpoint_error(a, moved, x).mean():16.5f}")
    unsigned, signed = (squared_distance(a, aligned[name]) for name in ALIGNMENTS[1:])
    closer, ratio = (signed < unsigned).double().mean(), (signed / unsigned).mean()
    print(f"  signed is closer than unsigned in {100 * closer:.1f} % of pairs, ratio {ratio:.3f}")
    return aligned


def draw_walks(
    pairs: dict[str, tuple[WeightBatch, WeightBatch]],
    aligned: dict[str, dict[str, WeightBatch]],
    path: Path,
    steps: int = 9,
) -> None:
    """Draw the first pair's walk from one INR to the other, a row per kind and alignment."""
    from matplotlib.figure import Figure

    rows = [(kind, name) for kind in pairs for name in ALIGNMENTS]
    figure = Figure(figsize=(steps, 1.1 * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), steps, squeeze=False)
    for (kind, name), cells in zip(rows, axes, strict=True):
        start, end = pairs[kind][0][:1], aligned[kind][name][:1]
        for share, cell in zip(torch.linspace(0, 1, steps).tolist(), cells, strict=True):
            between = torch.lerp(start.parameters, end.parameters, share)
            image = evaluate_inrs(start.replace(parameters=between), pixel_grid())
            cell.imshow(image.view(SIDE, SIDE).cpu(), cmap="gray", vmin=0, vmax=1)
            cell.set(xticks=[], yticks=[])
        cells[0].set_ylabel(f"{kind}\n{name}", rotation=0, ha="right", va="center", fontsize=7)
    figure.savefig(path, dpi=150)
    print(f"walks between the first pairs: {path}")


def main() -> None:
    """Measure and print, and draw where asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("store", type=Path, nargs="?")
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--picture", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    gbps = memory_gbps(arguments.device)
    print(
        f"{arguments.threads} threads, {matmul_gflops(arguments.device):.0f} GFLOP/s matmul, "
        f"{gbps:.1f} GB/s memory"
    )
    pairs = load_pairs(arguments.store, arguments.pairs)
    aligned = {}
    for kind, (a, b) in pairs.items():
        print(f"{len(a)} pairs, {kind}, {a.architecture.widths}")
        aligned[kind] = align_all(a.to(arguments.device), b.to(arguments.device), gbps)
    if arguments.picture is not None:
        on_cpu = {k: {n: x.to("cpu") for n, x in by.items()} for k, by in aligned.items()}
        draw_walks(pairs, on_cpu, arguments.picture)


if __name__ == "__main__":
    main()
