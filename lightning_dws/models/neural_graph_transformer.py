"""Classify INRs by their neural graph with the relational transformer.

Zhang et al. (2023), "Neural Networks Are Graphs!"; Kofinas et al. (2024), "Graph Neural Networks
for Learning Equivariant Representations of Neural Networks"; Diao & Loynd (2023), "Relational
Attention: Generalizing Transformers for Graph-Structured Tasks".
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lightning_dws.models.architecture_check import check_architecture
from lightning_dws.models.graph_features import (
    FourierFeatures,
    ProbeFeatures,
    check_features,
    read_out,
)
from lightning_dws.models.multilayer_head import multilayer_head
from lightning_dws.models.neural_graph import NeuralGraph
from lightning_dws.models.options import check_heads, check_options
from lightning_dws.models.pairs import Pairs
from lightning_dws.models.recorded import recorded
from lightning_dws.models.relational_attention import AttentionTerms, attend
from lightning_dws.models.relational_edges import EdgeUpdateTerms, update_edges
from lightning_dws.models.standardize import Standardize
from lightning_dws.weight_space import Architecture, WeightBatch

Nodes = Float[Tensor, "batch nodes node_channels"]
Queries = Float[Tensor, "batch queries node_channels"]


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
        standardized = batch.replace(parameters=self.standardize(batch.parameters))
        nodes = self.encode_bias(self.graph.biases(standardized))
        if self.probes is not None:
            nodes = nodes + self.probes(batch)
        nodes = self.node_in(nodes) + self.positions[self.graph.neuron_class]
        nodes = self._transform(nodes, self._encode_edges(standardized))
        return read_out(nodes, self.readout, self.graph.num_outputs)

    def _encode_edges(self, standardized: WeightBatch) -> Tensor:
        """Give features of all pairs, (B, D, N, N): from the first to the second node."""
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

    def _transform(self, nodes: Tensor, edges: Tensor) -> Tensor:
        """Apply the layers; of the last one's nodes only those that are read out, (B, R, D)."""
        out_nodes = self.graph.num_nodes
        if self.readout == "outputs":
            out_nodes = self.graph.num_outputs
        if len(self.layers) == 1:
            edges = edges[:, :, -out_nodes:]
        nodes = self.layers[0](nodes, edges)
        for number, (update, layer) in enumerate(
            zip(self.edge_updates, self.layers[1:], strict=True), start=2
        ):
            is_last = number == len(self.layers)
            edges = update(nodes, edges, out_nodes if is_last else self.graph.num_nodes)
            nodes = layer(nodes, edges)
        return nodes


class RelationalLayer(nn.Module):
    """Attention of nodes over all nodes, then an MLP, each added and followed by layer norm.

    Args:
        node_dim: Channels per node.
        edge_dim: Channels per pair.
        attention_dim: Channels of queries, keys and values.
        hidden_dim: Of the MLP.
        num_heads: Divides ``attention_dim``.
        dropout: Probability, of what is added.
    """

    def __init__(
        self,
        node_dim: int,
        edge_dim: int,
        attention_dim: int,
        hidden_dim: int,
        num_heads: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.attention = RelationalAttention(node_dim, edge_dim, attention_dim, num_heads)
        self.attention_out = _xavier_linear(node_dim, node_dim)
        self.attention_norm = nn.LayerNorm(node_dim)
        self.mlp = nn.Sequential(
            _xavier_linear(node_dim, hidden_dim, bias=False),
            nn.GELU(),
            _xavier_linear(hidden_dim, node_dim),
        )
        self.mlp_norm = nn.LayerNorm(node_dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, nodes: Nodes, edges: Pairs) -> Queries:
        """Give the last nodes, those that query, from all."""
        attended = self.attention_out(self.attention(nodes, edges))
        nodes = nodes[:, -edges.shape[2] :]
        nodes = self.attention_norm(nodes + self.dropout(attended))
        return self.mlp_norm(nodes + self.dropout(self.mlp(nodes)))  # type: ignore[no-any-return]


class RelationalAttention(nn.Module):
    """Multi-head attention in which an edge adds to query and key, and gates and adds to the value.

    With i attending to j over an edge e: ``q = q_i + Q e``, ``k = k_j + K e``,
    ``v = v_j * G e + V e``, scores ``q . k / sqrt(attention_dim)``.

    Args:
        node_dim: Channels per node.
        edge_dim: Channels per pair.
        dim: Channels of queries, keys and values of all heads.
        num_heads: Divides ``dim``.
    """

    def __init__(self, node_dim: int, edge_dim: int, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads, self.scale = num_heads, 1 / math.sqrt(dim)
        self.node_maps = _xavier_linear(node_dim, 3 * dim, bias=False)
        self.edge_maps = _xavier_linear(edge_dim, 4 * dim, bias=False)
        self.out = _xavier_linear(dim, node_dim)

    def forward(self, nodes: Nodes, edges: Pairs) -> Queries:
        """Give what the last nodes, those that query, gather from all."""
        mapped = self.node_maps(nodes).unflatten(-1, (self.num_heads, 3, -1)).transpose(1, 2)
        query, key, value = mapped.unbind(-2)  # (B, H, N, C) each
        query = query[:, :, -edges.shape[2] :] * self.scale
        edge_maps = self.edge_maps.weight.unflatten(0, (self.num_heads, 4, -1))
        edge_query, edge_key, edge_value, gates = edge_maps.unbind(1)  # (H, C, D) each
        edge_query = edge_query * self.scale
        gated_mean, edge_mean = attend(
            edges,
            AttentionTerms(
                node_scores=query @ key.mT,
                query_terms=(query @ edge_key).transpose(1, 2),
                key_terms=(key @ edge_query).transpose(1, 2),
                forms=edge_query.mT @ edge_key,
                values=value.mT,
                gates=gates,
            ),
        )
        edge_part = torch.einsum("hcd,brhd->brhc", edge_value, edge_mean)
        return self.out((gated_mean.permute(0, 3, 1, 2) + edge_part).flatten(2))  # type: ignore[no-any-return]


class EdgeUpdate(nn.Module):
    """Update pairs from both their edges and both their nodes, then an MLP, with layer norms.

    ``e_ij + out(gelu(own e_ij + opposite e_ji + query x_i + key x_j))``, normalised, and
    ``e + mlp(e)``, normalised.

    Args:
        node_dim: Channels per node.
        edge_dim: Channels per pair.
        hidden_dim: Of both blocks.
        dropout: Probability, of what is added.
    """

    def __init__(self, node_dim: int, edge_dim: int, hidden_dim: int, dropout: float) -> None:
        super().__init__()
        self.edge = _xavier_linear(2 * edge_dim, hidden_dim)
        self.query = _xavier_linear(node_dim, hidden_dim)
        self.key = _xavier_linear(node_dim, hidden_dim)
        self.out = _xavier_linear(hidden_dim, edge_dim)
        self.norm = nn.LayerNorm(edge_dim)
        self.mlp_in = _xavier_linear(edge_dim, hidden_dim, bias=False)
        self.mlp_out = _xavier_linear(hidden_dim, edge_dim)
        self.mlp_norm = nn.LayerNorm(edge_dim)
        self.dropout = dropout

    def forward(
        self, nodes: Nodes, edges: Float[Tensor, "batch channels nodes nodes"], num_queries: int
    ) -> Pairs:
        """Give the edges of the last nodes, those that query, to all."""
        own, opposite = self.edge.weight.chunk(2, 1)
        query_terms = self.query(nodes[:, -num_queries:]) + self.edge.bias
        terms = EdgeUpdateTerms(
            query_terms=query_terms.mT,
            key_terms=self.key(nodes).mT,
            own=own,
            opposite=opposite,
            out=self.out.weight,
            out_bias=self.out.bias,
            norm=torch.stack([self.norm.weight, self.norm.bias]),
            mlp_in=self.mlp_in.weight,
            mlp_out=self.mlp_out.weight,
            mlp_out_bias=self.mlp_out.bias,
            mlp_norm=torch.stack([self.mlp_norm.weight, self.mlp_norm.bias]),
        )
        return update_edges(
            edges[:, :, -num_queries:],
            edges[..., -num_queries:].mT,
            terms,
            self.dropout if self.training else 0.0,
        )


def _xavier_linear(in_features: int, out_features: int, bias: bool = True) -> nn.Linear:
    """Make a linear map as the published model initialises it."""
    linear = nn.Linear(in_features, out_features, bias)
    nn.init.xavier_uniform_(linear.weight)
    if bias:
        nn.init.zeros_(linear.bias)
    return linear
