"""Training steps of DWSNet per second, against the authors' code and the machine's own limits.

    python benchmarks/dwsnet.py

A step is forward, cross-entropy, backward and AdamW on batches of random INRs. The variants take
turns, each round with its own measurement of the matrix-product rate; medians are printed. The
authors' code was timed on another machine: its figures are scaled by the ratio of the two
machines' matrix-product rates. Peak memory is that of a process that runs one variant only.
"""

import argparse
from dataclasses import dataclass

import torch
from machine import memory_gbps
from training_steps import (
    AUTHORS_GFLOPS,
    Step,
    count_flops,
    make_step,
    peak_megabytes,
    random_batch,
    time_in_turns,
)

from lightning_dws.models import DWSNet

AUTHORS_ATTENTION_MAX = 75.0  # samples/s
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


def make_variant(variant: Variant, device: str) -> Step:
    """Build a model and a batch; give the function that trains one step."""
    batch = random_batch(variant.widths, variant.batch_size, device)
    model = DWSNet(batch.architecture, 10, **variant.options).to(device)
    return make_step(model, lambda: model(batch), batch.label)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    arguments = parser.parse_args()
    device = arguments.device

    steps = [make_variant(variant, device) for variant in VARIANTS]
    seconds, gflops = time_in_turns(steps, arguments.rounds, device)
    print(
        f"{device}, {torch.get_num_threads()} threads, torch {torch.__version__}; "
        f"matrix product {gflops:.0f} GFLOP/s, memory copy {memory_gbps(device):.0f} GB/s"
    )
    print(f"{'':28}{'batch':>6}{'samples/s':>11}{'x authors':>11}{'of product rate':>17}{'MB':>7}")
    for variant, time in zip(VARIANTS, seconds, strict=True):
        per_second = variant.batch_size / time
        ratio = "-"
        if variant.authors_samples_per_second is not None and device == "cpu":
            scaled = variant.authors_samples_per_second * gflops / AUTHORS_GFLOPS
            ratio = f"{per_second / scaled:.1f}"
        fraction = count_flops(make_variant(variant, "cpu")) / time / 1e9 / gflops
        memory = peak_megabytes(make_variant, variant, device)
        print(
            f"{variant.name:28}{variant.batch_size:6}{per_second:11.0f}{ratio:>11}"
            f"{fraction:17.0%}{memory:7.0f}"
        )


if __name__ == "__main__":
    main()
