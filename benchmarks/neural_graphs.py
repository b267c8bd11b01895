"""Training steps of the neural-graph networks per second, and the memory they take.

    python benchmarks/neural_graphs.py [--rounds 5] [--authors DIR]

A step is forward, cross-entropy, backward and AdamW on a batch of random INRs of widths
2-32-32-1. Compared with each other, in turns: the GNN as torch-geometric users would write it, one
``Data`` per INR in a ``Batch``, which is its baseline; the same on static graphs
(``message_passing=True``); the dense way, which is the default; and the transformer, whose baseline
is ``plain_transformer``, written straight from the papers in plain PyTorch. With ``--authors DIR``,
a checkout of mkofinas/neural-graphs, the authors' own networks take part; they need hydra-core,
einops, torchvision and random-fourier-features-pytorch. The shares are of this machine's
matrix-product rate and of its memory rate (``least_bytes``). Peak memory is that of a process that
runs one variant only.
"""

import argparse
import sys
from dataclasses import dataclass, field

import torch
import torch_geometric.utils._trim_to_layer
from plain_transformer import PlainTransformer
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
from lightning_dws.models.attention_kernels import FORM_BLOCK

WIDTHS = (2, 32, 32, 1)


@dataclass(frozen=True)
class Variant:
    """A network and how it is computed."""

    name: str
    network: type
    options: dict = field(default_factory=dict)
    batch_size: int = 128
    kind: str = "ours"  # or "per graph", "plain" or "authors"
    compiled: bool = False
    autocast: torch.dtype | None = None


GNN, TRANSFORMER = NeuralGraphGNN, NeuralGraphTransformer
CPU_VARIANTS = [
    Variant("GNN, a Data per INR", GNN, kind="per graph"),
    Variant("GNN, static graphs", GNN, {"message_passing": True}),
    Variant("GNN", GNN),
    Variant("GNN, 64 probes", GNN, {"num_probes": 64}),
    Variant("plain transformer", TRANSFORMER, batch_size=32, kind="plain"),
    Variant("transformer", TRANSFORMER),
    Variant("transformer, 64 probes", TRANSFORMER, {"num_probes": 64}),
]
AUTHORS_VARIANTS = [
    Variant("authors' GNN", GNN, batch_size=32, kind="authors"),
    Variant("authors' transformer", TRANSFORMER, batch_size=32, kind="authors"),
]
COMPILED_VARIANTS = [
    Variant("GNN, compiled", GNN, compiled=True),
    Variant("transformer, compiled", TRANSFORMER, compiled=True),
]
CUDA_VARIANTS = [
    Variant(
        f"{name}{', compiled' * compiled}, {precision}", network, {}, size, "ours", compiled, dtype
    )
    for name, network, size in (("GNN", GNN, 512), ("transformer", TRANSFORMER, 512))
    for compiled in (False, True)
    for precision, dtype in (("float32", None), ("bfloat16", torch.bfloat16))
]


def make_variant(variant: Variant, device: str) -> Step:
    """Build a model and a batch; give the function that trains one step."""
    batch = random_batch(WIDTHS, variant.batch_size, device)
    if variant.kind == "authors":
        model = make_authors_network(variant.network, batch.architecture).to(device)
        weights = [weight.mT[..., None].contiguous() for weight in batch.weights]
        biases = [bias[..., None].contiguous() for bias in batch.biases]
        return make_step(model, lambda: model((weights, biases)), batch.label)
    network = PlainTransformer if variant.kind == "plain" else variant.network
    model = network(batch.architecture, 10, **variant.options).to(device)
    if variant.kind == "per graph":
        graphs = Batch.from_data_list(model.graph.to_data(batch))
        return make_step(model, lambda: per_graph_logits(model, graphs), batch.label)
    if variant.compiled:
        model.compile()
    return make_step(model, lambda: model(batch), batch.label, variant.autocast)


def make_authors_network(network: type, architecture: INRArchitecture) -> nn.Module:
    """Build the authors' network of our defaults; their package must be importable."""
    is_gnn = network is GNN
    graph = {
        "_target_": "nn.graph_constructor.GraphConstructor",
        "_recursive_": False,
        "_convert_": "all",
        "d_in": 1,
        "d_edge_in": 1,
        "sin_emb": True,
        "inp_factor": 3 if is_gnn else 1,
    }
    shared = {
        "d_out": 10,
        "graph_constructor": graph,
        "layer_layout": list(architecture.widths),
        "pooling_method": "cat",
        "pooling_layer_idx": "last",
        "rev_edge_features": is_gnn,
    }
    if is_gnn:
        backbone = {
            "_target_": "nn.gnn.PNA",
            "_convert_": "all",
            "in_channels": 32,
            "hidden_channels": 32,
            "out_channels": 32,
            "num_layers": 4,
            "aggregators": ["mean", "min", "max", "std"],
            "scalers": ["identity", "amplification"],
            "edge_dim": 32,
            "norm": "layernorm",
            "act": "silu",
            "deg": None,
            "update_edge_attr": True,
            "modulate_edges": True,
            "gating_edges": False,
            "final_edge_update": False,
        }
        # where torch-geometric 2.3, for which they wrote, had it
        sys.modules["torch_geometric.utils.trim_to_layer"] = torch_geometric.utils._trim_to_layer
        from nn.gnn import GNNForClassification  # of the checkout that --authors names

        return GNNForClassification(d_hid=32, gnn_backbone=backbone, **shared)
    from nn.relational_transformer import RelationalTransformer

    widths = {"d_node": 64, "d_edge": 32, "d_attn_hid": 128, "d_node_hid": 128, "d_edge_hid": 64}
    widths |= {"d_out_hid": 128, "n_layers": 4, "n_heads": 8}
    return RelationalTransformer(**widths, dropout=0.2, use_cls_token=False, **shared)


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


def flops(variant: Variant) -> int:
    """Operations of a step's matrix products on a CPU, those of the lanes' kernels included."""
    total = count_flops(make_variant(variant, "cpu"))
    if variant.kind == "ours" and not variant.options.get("message_passing"):
        count = gnn_lane_flops if variant.network is GNN else transformer_lane_flops
        total += variant.batch_size * count(INRArchitecture(WIDTHS))
    return total


def gnn_lane_flops(architecture: INRArchitecture) -> int:
    """Operations of the GNN's products of edges, for one INR, of our defaults."""
    channels, layers = 32, 4
    shapes = architecture.weight_shapes
    edges = 2 * sum(n_out * n_in for n_out, n_in in shapes)
    last = shapes[-1][0] * shapes[-1][1]  # edges that end in the outputs
    # The first round's are of the table. Scale and shift are computed twice, then two gradients;
    # the features for the next round are computed once.
    scale_shift = 4 * 2 * channels**2 * ((layers - 2) * edges + last)
    update = 3 * channels**2 * ((layers - 3) * edges + last)
    return 2 * (scale_shift + update)


def transformer_lane_flops(architecture: INRArchitecture) -> int:
    """Operations of the transformer's products of pairs, for one INR, of our defaults."""
    nodes, outputs, layers = sum(architecture.widths), architecture.out_features, 4
    channels, heads, values, hidden = 32, 8, 128, 64
    weights = sum(n_out * n_in for n_out, n_in in architecture.weight_shapes)
    pairs = weights + (layers - 2) * nodes**2 + outputs * nodes  # whose edges are attended to
    blocks = [channels - first for first in range(0, channels, FORM_BLOCK)]
    forms = FORM_BLOCK * heads * sum(blocks)
    attention = 2 * forms + heads * channels**2 + 4 * values * channels + 9 * heads * channels
    updated = (layers - 2) * nodes**2 + outputs * nodes
    update = 4 * 5 * hidden * channels  # in the first only weights have features
    update_total = updated * update - 8 * hidden * channels * (nodes**2 - weights)
    return 2 * (pairs * attention + 3 * values * updated + update_total)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--compiled", action="store_true", help="on the CPU: compiled ones too")
    parser.add_argument("--authors", metavar="DIR", help="a checkout of mkofinas/neural-graphs")
    arguments = parser.parse_args()
    device = arguments.device
    if arguments.authors:
        sys.path.append(arguments.authors)
    torch.set_float32_matmul_precision("high")

    variants = CUDA_VARIANTS if device == "cuda" else CPU_VARIANTS
    variants = variants + COMPILED_VARIANTS * (device == "cpu" and arguments.compiled)
    variants = variants + AUTHORS_VARIANTS * bool(arguments.authors)
    steps = [make_variant(variant, device) for variant in variants]
    seconds, gflops, gbps = time_in_turns(steps, arguments.rounds, device)
    print(describe_machine(device, gflops, gbps))
    columns = f"{'samples/s':>11}{'ratio':>8}{'of product':>12}{'of memory':>11}{'MB':>7}"
    print(f"{'':30}{'batch':>6}{columns}")
    baselines = {
        variant.network: variant.batch_size / time
        for variant, time in zip(variants, seconds, strict=True)
        if variant.kind in ("per graph", "plain")
    }
    for variant, time in zip(variants, seconds, strict=True):
        per_second = variant.batch_size / time
        ratio, fraction, memory = "-", "-", "-"
        if variant.network in baselines and not variant.options.get("num_probes"):
            ratio = f"{per_second / baselines[variant.network]:.1f}"
        if not variant.compiled:  # what a compiler makes of a step is not counted
            fraction = f"{flops(variant) / time / 1e9 / gflops:.0%}"
        network = variant.network(INRArchitecture(WIDTHS), 10, **variant.options)
        moved = least_bytes(network, variant.batch_size * count_features(network))
        if variant.kind != "authors":  # their package is not found by another process
            memory = f"{peak_megabytes(make_variant, variant, device):.0f}"
        print(
            f"{variant.name:30}{variant.batch_size:6}{per_second:11.1f}{ratio:>8}"
            f"{fraction:>12}{moved / time / 1e9 / gbps:11.0%}{memory:>7}"
        )


if __name__ == "__main__":
    main()
