"""Training steps of the neural-graph networks per second, and the memory they take.

    python benchmarks/neural_graphs.py

A step is forward, cross-entropy, backward and AdamW on a batch of random INRs of widths
2-32-32-1. Compared with each other, in turns: the GNN as torch-geometric users would write it, one
``Data`` per INR in a ``Batch``, which is the baseline; the same on static graphs
(``message_passing=True``); the dense way, which is the default; and the transformer. The shares are
of this machine's matrix-product rate and of its memory rate (``least_bytes``). Peak memory is that
of a process that runs one variant only.
"""

import argparse
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch_geometric.data import Batch
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
from lightning_dws.models import NeuralGraphGNN, NeuralGraphTransformer

WIDTHS = (2, 32, 32, 1)


@dataclass(frozen=True)
class Variant:
    """A network and how it is computed."""

    name: str
    network: type
    options: dict = field(default_factory=dict)
    batch_size: int = 128
    per_graph: bool = False
    compiled: bool = False
    autocast: torch.dtype | None = None


GNN, TRANSFORMER = NeuralGraphGNN, NeuralGraphTransformer
CPU_VARIANTS = [
    Variant("GNN, a Data per INR", GNN, per_graph=True),
    Variant("GNN, static graphs", GNN, {"message_passing": True}),
    Variant("GNN", GNN),
    Variant("GNN, 64 probes", GNN, {"num_probes": 64}),
    Variant("transformer", TRANSFORMER),
    Variant("transformer, 64 probes", TRANSFORMER, {"num_probes": 64}),
]
COMPILED_VARIANTS = [
    Variant("GNN, compiled", GNN, compiled=True),
    Variant("transformer, compiled", TRANSFORMER, compiled=True),
]
CUDA_VARIANTS = [
    Variant(
        f"{name}{', compiled' * compiled}, {precision}", network, {}, size, False, compiled, dtype
    )
    for name, network, size in (("GNN", GNN, 512), ("transformer", TRANSFORMER, 512))
    for compiled in (False, True)
    for precision, dtype in (("float32", None), ("bfloat16", torch.bfloat16))
]


def make_variant(variant: Variant, device: str) -> Step:
    """Build a model and a batch; give the function that trains one step."""
    batch = random_batch(WIDTHS, variant.batch_size, device)
    model = variant.network(batch.architecture, 10, **variant.options).to(device)
    if variant.per_graph:
        graphs = Batch.from_data_list(model.graph.to_data(batch))
        return make_step(model, lambda: per_graph_logits(model, graphs), batch.label)
    if variant.compiled:
        model.compile()
    return make_step(model, lambda: model(batch), batch.label, variant.autocast)


def per_graph_logits(model: NeuralGraphGNN, graphs: Batch) -> Tensor:
    """Compute the GNN on one large graph of disjoint parts, as torch-geometric batches them."""
    x = model.node_in(model.encode_bias(model.bias_features(graphs.x)))
    x = x + model.positions[graphs.neuron_class]
    edges = model.edge_in(model.encode_weight(model.weight_features(graphs.edge_attr)))
    for conv, norm, update in zip(model.convs, model.norms, model.edge_updates, strict=False):
        x = conv(x, graphs.edge_index, edges)
        x = functional.silu(norm(x.view(graphs.num_graphs, -1, x.shape[1])).flatten(0, 1))
        edges = update(x, graphs.edge_index, edges)
    x = model.convs[-1](x, graphs.edge_index, edges)
    return model.head(x[graphs.node_layer == graphs.node_layer.max()])


def count_features(network: nn.Module) -> int:
    """Count the numbers that a network's layers hand on, for one INR: of its edges and nodes."""
    architecture = INRArchitecture(WIDTHS)
    edges = sum(n_out * n_in for n_out, n_in in architecture.weight_shapes)
    if isinstance(network, NeuralGraphGNN):
        edge_dim = node_dim = network.node_in.out_features
        layers = len(network.convs)
    else:
        edge_dim, node_dim = network.edge_in.out_features, network.node_in.out_features
        layers = len(network.layers)
    return (layers + 1) * (edges * edge_dim + sum(WIDTHS) * node_dim)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--compiled", action="store_true", help="on the CPU: compiled ones too")
    arguments = parser.parse_args()
    device = arguments.device
    torch.set_float32_matmul_precision("high")

    variants = CUDA_VARIANTS if device == "cuda" else CPU_VARIANTS
    variants = variants + COMPILED_VARIANTS * (device == "cpu" and arguments.compiled)
    steps = [make_variant(variant, device) for variant in variants]
    seconds, gflops, gbps = time_in_turns(steps, arguments.rounds, device)
    print(describe_machine(device, gflops, gbps))
    columns = f"{'samples/s':>11}{'ratio':>8}{'of product':>12}{'of memory':>11}{'MB':>7}"
    print(f"{'':30}{'batch':>6}{columns}")
    baseline = next((s for v, s in zip(variants, seconds, strict=True) if v.per_graph), None)
    for variant, time in zip(variants, seconds, strict=True):
        per_second = variant.batch_size / time
        ratio, fraction = "-", "-"
        if (
            baseline is not None
            and variant.network is GNN
            and not variant.options.get("num_probes")
        ):
            ratio = f"{baseline / time:.1f}"
        if not variant.compiled:  # what a compiler makes of a step is not counted
            fraction = f"{count_flops(make_variant(variant, 'cpu')) / time / 1e9 / gflops:.0%}"
        network = variant.network(INRArchitecture(WIDTHS), 10, **variant.options)
        moved = least_bytes(network, variant.batch_size * count_features(network))
        memory = peak_megabytes(make_variant, variant, device)
        print(
            f"{variant.name:30}{variant.batch_size:6}{per_second:11.1f}{ratio:>8}"
            f"{fraction:>12}{moved / time / 1e9 / gbps:11.0%}{memory:7.0f}"
        )


if __name__ == "__main__":
    main()
