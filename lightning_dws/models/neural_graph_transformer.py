"""Classify INRs by their neural graph with the relational transformer.

Zhang et al. (2023), "Neural Networks Are Graphs!"; Kofinas et al. (2024), "Graph Neural Networks
for Learning Equivariant Representations of Neural Networks"; Diao & Loynd (2023), "Relational
Attention: Generalizing Transformers for Graph-Structured Tasks".
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from lightning_dws.models.architecture_check import check_architecture
from lightning_dws.models.dense_pna import compose
from lightning_dws.models.graph_features import (
    FourierFeatures,
    ProbeFeatures,
    check_features,
    read_out,
    without_autocast,
)
from lightning_dws.models.lanes import to_lanes
from lightning_dws.models.multilayer_head import multilayer_head
from lightning_dws.models.neural_graph import NeuralGraph
from lightning_dws.models.options import check_heads, check_options
from lightning_dws.models.recorded import recorded
from lightning_dws.models.relational_lanes import (
    LanePairs,
    bipartite_places,
    takes_lanes,
)
from lightning_dws.models.relational_layers import EdgeUpdate, RelationalLayer
from lightning_dws.models.standardize import Standardize
from lightning_dws.models.weight_encoding import encode_weights, interpolate, tabulate
from lightning_dws.weight_space import Architecture, INRArchitecture, WeightBatch


@recorded
class NeuralGraphTransformer(nn.Module):
    """Classify INRs by their neural graph with the relational transformer.

    Every node attends over all nodes, and the weight between two nodes takes part in query, key and
    value; a pair of nodes without a weight between them has the encoding of 0. Between layers the
    features of all pairs are updated too. An INR's logits depend on no other INR of the batch.

    ``Standardize``, Fourier features of weights and biases, learned positions of the neurons that
    can be told apart, probe features, ``num_layers`` layers, the readout, and two linear maps with
    relu between them. With ``readout="outputs"`` the last layer computes nothing for other nodes.

    Args:
        architecture: Of the INRs: any number of layers from two, any widths; or of other networks.
        num_classes: Number of logits.
        node_dim: Channels per node.
        edge_dim: Channels per ordered pair of nodes.
        num_layers: Number of layers; edges are updated between layers.
        num_heads: Of attention; divides ``attention_dim``.
        num_probes: Number of learned inputs at which the INRs are evaluated; 0 for none.
        dropout: Probability of dropping an entry of what attention, MLP or edge update adds to the
            features, in [0, 1).
        attention_dim: Channels of queries, keys and values, of all heads together.
        node_hidden_dim: Hidden channels of the nodes' MLP.
        edge_hidden_dim: Hidden channels of an edge update and of the edges' MLP.
        head_dim: Hidden channels of the head.
        fourier_features: Number of random frequencies of an encoding.
        fourier_scale: Standard deviation of the frequencies.
        readout: Features of the INR's ``"outputs"`` concatenated, or the ``"mean"`` or ``"max"``
            over all nodes.

    Raises:
        ValueError: An option is out of its range.
    """

    def __init__(
        self,
        architecture: Architecture,
        num_classes: int,
        node_dim: int = 64,
        edge_dim: int = 32,
        num_layers: int = 4,
        num_heads: int = 8,
        num_probes: int = 0,
        dropout: float = 0.2,
        attention_dim: int = 128,
        node_hidden_dim: int = 128,
        edge_hidden_dim: int = 64,
        head_dim: int = 128,
        fourier_features: int = 128,
        fourier_scale: float = 1.0,
        readout: str = "outputs",
    ) -> None:
        super().__init__()
        check_options(
            dropout,
            num_classes=num_classes,
            node_dim=node_dim,
            edge_dim=edge_dim,
            num_layers=num_layers,
            num_heads=num_heads,
            attention_dim=attention_dim,
            node_hidden_dim=node_hidden_dim,
            edge_hidden_dim=edge_hidden_dim,
            head_dim=head_dim,
            fourier_features=fourier_features,
        )
        check_features(num_probes, fourier_scale, readout)
        check_heads(num_heads, "attention_dim", attention_dim)
        self.standardize = Standardize(architecture)
        self.architecture, self.readout = architecture, readout
        self.graph = NeuralGraph(architecture, reverse_edges=False)
        self.encode_weight = nn.Sequential(
            FourierFeatures(self.graph.weight_features, fourier_features, fourier_scale),
            nn.Linear(2 * fourier_features, edge_dim),
        )
        self.encode_bias = nn.Sequential(
            FourierFeatures(self.graph.bias_features, fourier_features, fourier_scale),
            nn.Linear(2 * fourier_features, node_dim),
        )
        self.node_in = nn.Linear(node_dim, node_dim)
        self.edge_in = nn.Linear(edge_dim, edge_dim)
        self.positions = nn.Parameter(torch.randn(self.graph.num_neuron_classes, node_dim))
        self.probes = ProbeFeatures(architecture, num_probes, node_dim) if num_probes else None
        self.layers = nn.ModuleList(
            RelationalLayer(node_dim, edge_dim, attention_dim, node_hidden_dim, num_heads, dropout)
            for _ in range(num_layers)
        )
        self.edge_updates = nn.ModuleList(
            EdgeUpdate(node_dim, edge_dim, edge_hidden_dim, dropout) for _ in range(num_layers - 1)
        )
        out_nodes = self.graph.num_outputs if readout == "outputs" else 1
        self.head = multilayer_head([out_nodes * node_dim, head_dim, num_classes])

    def forward(self, batch: WeightBatch) -> Float[Tensor, "batch classes"]:
        """Give logits."""
        return self.head(self.embed(batch))  # type: ignore[no-any-return]

    def embed(self, batch: WeightBatch) -> Float[Tensor, "batch features"]:
        """Give invariant features: what the head takes."""
        check_architecture(self.architecture, batch)
        with without_autocast(batch.parameters):
            return self._embed(batch)

    def _embed(self, batch: WeightBatch) -> Tensor:
        standardized = batch.replace(parameters=self.standardize(batch.parameters))
        nodes = self.encode_bias(self.graph.biases(standardized))
        if self.probes is not None:
            nodes = nodes + self.probes(batch)
        nodes = self.node_in(nodes) + self.positions[self.graph.neuron_class]
        nodes = self._transform(nodes, self._encode_edges(standardized))
        return read_out(nodes, self.readout, self.graph.num_outputs)

    def _encode_edges(self, standardized: WeightBatch) -> Tensor | LanePairs:
        """Give features of all pairs, (B, D, N, N): from the first to the second node."""
        if isinstance(self.architecture, INRArchitecture) and len(self.layers) > 1:
            weights = torch.cat([weight.mT.flatten(1) for weight in standardized.weights], 1)
            if takes_lanes(weights):
                return self._encode_in_lanes(weights, self.architecture.widths)
        graph, size = self.graph, self.graph.num_nodes
        zero = standardized.parameters.new_zeros(1, graph.weight_features)
        no_edge = self.edge_in(self.encode_weight(zero))
        encoded = self.edge_in(self.encode_weight(graph.weights(standardized)))
        edges = no_edge.mT[:, :, None].repeat(len(standardized), 1, size, size)
        filled: set[tuple[int, int]] = set()
        for link, weight in zip(graph.links, encoded.split(graph.link_sizes, 1), strict=True):
            source, target = (graph.nodes_of(layer) for layer in link[:2])
            values = weight.unflatten(1, link.shape).permute(0, 3, 2, 1)
            if link[:2] in filled:  # further weights between the same neurons
                edges[:, :, source, target] += values
            else:
                edges[:, :, source, target] = values
            filled.add(link[:2])
        return edges  # type: ignore[no-any-return]

    def _encode_in_lanes(self, weights: Tensor, widths: tuple[int, ...]) -> LanePairs:
        """Give features of the pairs that have a weight (B, W), ordered by input neurons."""
        linear: nn.Linear = self.encode_weight[1]  # type: ignore[assignment]
        frequencies = self.encode_weight.get_buffer("0.frequencies").T
        encoding = (frequencies, *compose(self.edge_in, linear))
        tabulated = None if weights.requires_grad else tabulate(weights, *encoding)
        if tabulated is None:
            encoded = encode_weights(weights, *encoding)[:, :, 0]
        else:
            table, positions = tabulated
            encoded = interpolate(positions, table)[:, :, 0]
        no_edge = encode_weights(weights.new_zeros(()), *encoding)[0]
        padded = functional.pad(encoded - no_edge, (0, 1 - no_edge.numel() % 2))
        places = bipartite_places(widths)
        return LanePairs(to_lanes(padded), places, self.graph.num_nodes, no_edge)

    def _transform(self, nodes: Tensor, edges: Tensor | LanePairs) -> Tensor:
        """Apply the layers; of the last one's nodes only those that are read out, (B, R, D)."""
        out_nodes = self.graph.num_nodes
        if self.readout == "outputs":
            out_nodes = self.graph.num_outputs
        if isinstance(edges, Tensor) and len(self.layers) == 1:
            edges = edges[:, :, -out_nodes:]
        nodes, edges = self.layers[0](nodes, edges)
        for number, (update, layer) in enumerate(
            zip(self.edge_updates, self.layers[1:], strict=True), start=2
        ):
            is_last = number == len(self.layers)
            edges = update(nodes, edges, out_nodes if is_last else self.graph.num_nodes)
            nodes, edges = layer(nodes, edges)
        return nodes
