"""Training steps of DWSNet per second, beside plain code's and against the machine's own limits.

    python benchmarks/dwsnet.py [--rounds 5] [--authors DIR]

A step is forward, cross-entropy, backward and AdamW on batches of random INRs. All networks take
turns in one process; medians are printed. The baseline of each is ``plain_dwsnet``, the layer
written straight from the paper in plain PyTorch; with ``--authors DIR``, a checkout of
AvivNavon/DWSNets, the authors' own network is timed in the same turns. The shares are of this
machine's matrix-product rate and of its memory rate (``least_bytes``). Peak memory is that of a
process that runs one variant only.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from plain_dwsnet import PlainDWSNet
from torch import nn
from training_steps import (
    Step,
    count_flops,
    describe_machine,
    least_bytes,
    make_step,
    peak_megabytes,
    random_batch,
    time_in_turns,
)

from lightning_dws import INRArchitecture
from lightning_dws.models import DWSNet

HIDDEN_DIM, NUM_HIDDEN = 32, 4  # the defaults


@dataclass(frozen=True)
class Variant:
    """A network and the INRs it reads."""

    name: str
    options: dict[str, Any]
    widths: tuple[int, ...] = (2, 32, 32, 1)
    batch_size: int = 128
    kind: str = "ours"  # or "plain", or "authors"

    @property
    def has_baseline(self) -> bool:
        return self.options.get("batch_norm") is False

    def features(self) -> int:
        """Count the numbers that the layers hand on, for a batch."""
        hidden_dim = self.options.get("hidden_dim", HIDDEN_DIM)
        layers = self.options.get("num_hidden", NUM_HIDDEN) + 1
        entries = INRArchitecture(self.widths).num_parameters
        return self.batch_size * entries * (1 + hidden_dim * layers)


NO_NORM = {"batch_norm": False}
SMALL = {"widths": (2, 16, 16, 1), "batch_size": 64}
SMALL_OPTIONS = {"hidden_dim": 16, "num_hidden": 2} | NO_NORM
VARIANTS = [
    Variant("attention, max", {"set_layer": "attention", "reduction": "max"} | NO_NORM),
    Variant("deepsets, mean", {"set_layer": "deepsets", "reduction": "mean"} | NO_NORM),
    Variant("attention, max, batch norm", {}),
    Variant("deepsets, max, batch norm", {"set_layer": "deepsets"}),
    Variant("small attention", {"set_layer": "attention"} | SMALL_OPTIONS, **SMALL),
    Variant("small deepsets", {"set_layer": "deepsets"} | SMALL_OPTIONS, **SMALL),
]


def make_network(variant: Variant, architecture: INRArchitecture) -> nn.Module:
    """Build our network, or the plain one; weights are taken as they are."""
    if variant.kind == "plain":
        options = {k: v for k, v in variant.options.items() if k != "batch_norm"}
        return PlainDWSNet(architecture, 10, **options)
    network = DWSNet(architecture, 10, **variant.options)
    network.standardize.keep_identity()
    return network


def make_variant(variant: Variant, device: str, dtype: torch.dtype = torch.float32) -> Step:
    """Build a model and a batch; give the function that trains one step."""
    batch = random_batch(variant.widths, variant.batch_size, device).to(dtype)
    if variant.kind == "authors":
        model = make_authors_network(variant, batch.architecture).to(device, dtype)
        weights = tuple(weight.mT[..., None].contiguous() for weight in batch.weights)
        biases = tuple(bias[..., None].contiguous() for bias in batch.biases)
        return make_step(model, lambda: model((weights, biases)), batch.label)
    model = make_network(variant, batch.architecture).to(device, dtype)
    return make_step(model, lambda: model(batch), batch.label)


def make_authors_network(variant: Variant, architecture: INRArchitecture) -> nn.Module:
    """Build the authors' network; their package must be importable."""
    from nn.models import DWSModelForClassification  # of the checkout that --authors names

    shapes = [(n_in, n_out) for n_out, n_in in architecture.weight_shapes]
    return DWSModelForClassification(
        weight_shapes=tuple(shapes),
        bias_shapes=tuple((n_out,) for _, n_out in shapes),
        input_features=1,
        hidden_dim=variant.options.get("hidden_dim", HIDDEN_DIM),
        n_hidden=variant.options.get("num_hidden", NUM_HIDDEN),
        n_classes=10,
        reduction=variant.options.get("reduction", "max"),
        set_layer={"attention": "sab", "deepsets": "ds"}[variant.options["set_layer"]],
    )


def with_baselines(variants: Sequence[Variant], authors: bool) -> list[Variant]:
    """Put the other implementations of the same network behind each."""
    kinds = ["ours", "plain"] + ["authors"] * authors
    return [
        Variant(one.name, one.options, one.widths, one.batch_size, kind)
        for one in variants
        for kind in (kinds if one.has_baseline else ["ours"])
    ]


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--authors", metavar="DIR", help="a checkout of AvivNavon/DWSNets")
    arguments = parser.parse_args()
    device = arguments.device
    if arguments.authors:
        sys.path.append(arguments.authors)

    variants = with_baselines(VARIANTS, bool(arguments.authors))
    steps = [make_variant(variant, device) for variant in variants]
    seconds, gflops, gbps = time_in_turns(steps, arguments.rounds, device)
    print(describe_machine(device, gflops, gbps))
    columns = f"{'samples/s':>11}{'ratio':>8}{'of product':>12}{'of memory':>11}{'MB':>7}"
    print(f"{'':36}{'batch':>6}{columns}")
    ours = 0.0
    for variant, time in zip(variants, seconds, strict=True):
        name, ratio = variant.name, ""
        if variant.kind == "ours":
            ours = time
        else:
            name, ratio = f"  {variant.kind}", f"{time / ours:.1f}"
        flops = count_flops(make_variant(variant, "cpu", torch.float64))  # kernels are not counted
        network = make_network(variant, INRArchitecture(variant.widths))
        moved = least_bytes(network, variant.features())
        memory = peak_megabytes(make_variant, variant, device) if variant.kind != "authors" else 0
        print(
            f"{name:36}{variant.batch_size:6}{variant.batch_size / time:11.1f}{ratio:>8}"
            f"{flops / time / 1e9 / gflops:12.0%}{moved / time / 1e9 / gbps:11.0%}"
            f"{f'{memory:.0f}' if memory else '-':>7}"
        )


if __name__ == "__main__":
    main()
