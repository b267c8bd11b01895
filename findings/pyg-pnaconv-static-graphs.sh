#!/usr/bin/env bash
# torch-geometric's PNAConv takes a static-graph batch and passes messages in its first graph only.
#
# Guess, written down before it was run: layers either support static graphs, that is, many feature
# matrices x (B, N, D) over one edge_index, and give what they give for each x[i], or they refuse
# x as GATConv does ("Static graphs not supported"). PNAConv, the layer of the published
# neural-graph networks, has no such check, so it supports them.
#
# Seen with torch-geometric 2.8.1, torch 2.13.0 on Python 3.11: PNAConv gives (B * N, out) for
# (B, N, D), without an error or a warning. Its first N rows are right; all others are what a graph
# WITHOUT ANY EDGE gives, for edge_index was read as one graph of B * N nodes. Code that views the
# output as (B, N, out) trains, on networks that see no edge except in the first of a batch, and what
# a network gets depends on its place in the batch. SAGEConv gives (B, N, out), all right. node_dim,
# which other layers take, is refused by PNAConv's constructor.
#
# The script fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 torch-geometric==2.8.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import warnings

warnings.simplefilter("error")
warnings.filterwarnings("ignore", message=".torch.jit.script. is deprecated")  # at import

import torch
import torch_geometric
from torch_geometric.nn import GATConv, PNAConv, SAGEConv

torch.manual_seed(0)
graphs, nodes, features = 3, 6, 8
edge_index = torch.tensor([[0, 1, 2, 3, 4, 5, 0, 2], [1, 2, 3, 4, 5, 0, 3, 5]])
no_edges = edge_index[:, :0]
x = torch.randn(graphs, nodes, features)
print("torch-geometric", torch_geometric.__version__, "torch", torch.__version__)


def compare(layer):
    """Give the output's shape, and how far each graph is from itself alone and without edges."""
    with torch.no_grad():
        output = layer(x, edge_index)
        each = output.view(graphs, nodes, -1)
        alone = torch.stack([layer(one, edge_index) for one in x])
        edgeless = torch.stack([layer(one, no_edges) for one in x])
    from_alone, from_edgeless = (
        [round(float((a - b).abs().max()), 3) for a, b in zip(each, other)]
        for other in (alone, edgeless)
    )
    print(type(layer).__name__, tuple(output.shape), "from itself alone", from_alone,
          "from itself without edges", from_edgeless)
    return tuple(output.shape), from_alone, from_edgeless


degrees = torch.bincount(torch.bincount(edge_index[1], minlength=nodes))
pna = PNAConv(features, 8, ["mean", "max", "std"], ["identity", "amplification"], degrees)
shape, from_alone, from_edgeless = compare(pna)
assert shape == (graphs * nodes, 8), "the behaviour has changed"
assert from_alone[0] < 1e-3 < 0.01 < from_edgeless[0], "the behaviour has changed"
assert max(from_edgeless[1:]) < 1e-3 < 0.01 < min(from_alone[1:]), "the behaviour has changed"

shape, from_alone, _ = compare(SAGEConv(features, 8))
assert shape == (graphs, nodes, 8) and max(from_alone) < 1e-3, "the behaviour has changed"
try:
    GATConv(features, 8)(x, edge_index)
except AssertionError as error:
    print("GATConv refuses:", error)
else:
    raise SystemExit("the behaviour has changed: GATConv took it")
print("as stated: PNAConv passed messages in the first graph only")
PYTHON
