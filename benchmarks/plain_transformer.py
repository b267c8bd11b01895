"""The relational transformer written straight from its papers in plain PyTorch: easy to check.

Diao & Loynd (2023), "Relational Attention: Generalizing Transformers for Graph-Structured Tasks",
and Kofinas et al. (2024), "Graph Neural Networks for Learning Equivariant Representations of Neural
Networks". Every pair of neurons has a query, a key, a value and a gate of its own, (B, N, N, heads,
channels), channels last, and nothing but torch's own operations: the baseline of
``neural_graphs.py``, and in float64 what the tests hold ``lightning_dws.models.
NeuralGraphTransformer`` to. Parameters are named as there.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from lightning_dws import INRArchitecture, WeightBatch


class FourierLinear(nn.Sequential):
    """Cosines and sines of random multiples of a value, and a linear map of them."""

    def __init__(self, frequencies: int, out_features: int, scale: float) -> None:
        super().__init__(nn.Module(), nn.Linear(2 * frequencies, out_features))
        self[0].register_buffer("frequencies", scale * torch.randn(frequencies, 1))

    def forward(self, values: Tensor) -> Tensor:
        angles = 2 * math.pi * values[..., None] * self[0].frequencies[:, 0]
        return self[1](torch.cat([angles.cos(), angles.sin()], -1))


class Attention(nn.Module):
    """An edge adds to query and key, and gates and adds to the value: (B, N, D) to (B, N, D)."""

    def __init__(self, node_dim: int, edge_dim: int, dim: int, num_heads: int) -> None:
        super().__init__()
        self.node_maps = nn.Linear(node_dim, 3 * dim, bias=False)
        self.edge_maps = nn.Linear(edge_dim, 4 * dim, bias=False)
        self.out = nn.Linear(dim, node_dim)
        self.num_heads, self.scale = num_heads, 1 / math.sqrt(dim)

    def forward(self, nodes: Tensor, edges: Tensor) -> Tensor:
        of_nodes = self.node_maps(nodes).unflatten(-1, (self.num_heads, 3, -1))
        of_edges = self.edge_maps(edges).unflatten(-1, (self.num_heads, 4, -1))
        query, key, value = of_nodes.unbind(-2)  # (B, N, H, C) each
        edge_query, edge_key, edge_value, gate = of_edges.unbind(-2)  # (B, N, N, H, C) each
        query, key = query[:, :, None] + edge_query, key[:, None] + edge_key
        attention = ((query * key).sum(-1) * self.scale).softmax(2)
        value = value[:, None] * gate + edge_value
        return self.out((attention[..., None] * value).sum(2).flatten(2))


class Layer(nn.Module):
    """Attention, then an MLP, each added and followed by layer norm."""

    def __init__(
        self, node_dim: int, edge_dim: int, dim: int, hidden: int, num_heads: int, dropout: float
    ) -> None:
        super().__init__()
        self.attention = Attention(node_dim, edge_dim, dim, num_heads)
        self.attention_out = nn.Linear(node_dim, node_dim)
        self.attention_norm = nn.LayerNorm(node_dim)
        self.mlp = nn.Sequential(
            nn.Linear(node_dim, hidden, bias=False), nn.GELU(), nn.Linear(hidden, node_dim)
        )
        self.mlp_norm = nn.LayerNorm(node_dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, nodes: Tensor, edges: Tensor) -> Tensor:
        attended = self.attention_out(self.attention(nodes, edges))
        nodes = self.attention_norm(nodes + self.dropout(attended))
        return self.mlp_norm(nodes + self.dropout(self.mlp(nodes)))


class EdgeUpdate(nn.Module):
    """An edge from itself, from the opposite one and from its nodes; then an MLP."""

    def __init__(self, node_dim: int, edge_dim: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.edge = nn.Linear(2 * edge_dim, hidden)
        self.query, self.key = nn.Linear(node_dim, hidden), nn.Linear(node_dim, hidden)
        self.out = nn.Linear(hidden, edge_dim)
        self.norm = nn.LayerNorm(edge_dim)
        self.mlp_in = nn.Linear(edge_dim, hidden, bias=False)
        self.mlp_out = nn.Linear(hidden, edge_dim)
        self.mlp_norm = nn.LayerNorm(edge_dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, nodes: Tensor, edges: Tensor) -> Tensor:
        hidden = self.edge(torch.cat([edges, edges.transpose(1, 2)], -1))
        hidden = hidden + self.query(nodes)[:, :, None] + self.key(nodes)[:, None]
        edges = self.norm(edges + self.dropout(self.out(functional.gelu(hidden))))
        hidden = functional.gelu(self.mlp_in(edges))
        return self.mlp_norm(edges + self.dropout(self.mlp_out(hidden)))


class PlainTransformer(nn.Module):
    """Encodings, layers with updates of edges between them, the outputs' nodes, and an MLP.

    Arguments are those of ``lightning_dws.models.NeuralGraphTransformer``; without probe features,
    and weights come standardised.
    """

    def __init__(
        self,
        architecture: INRArchitecture,
        num_classes: int,
        node_dim: int = 64,
        edge_dim: int = 32,
        num_layers: int = 4,
        num_heads: int = 8,
        dropout: float = 0.2,
        attention_dim: int = 128,
        node_hidden_dim: int = 128,
        edge_hidden_dim: int = 64,
        head_dim: int = 128,
        fourier_features: int = 128,
        fourier_scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.encode_weight = FourierLinear(fourier_features, edge_dim, fourier_scale)
        self.encode_bias = FourierLinear(fourier_features, node_dim, fourier_scale)
        self.node_in, self.edge_in = nn.Linear(node_dim, node_dim), nn.Linear(edge_dim, edge_dim)
        in_features, *hidden, out_features = architecture.widths
        classes = [1] * in_features + hidden + [1] * out_features  # who may not be told apart
        self.register_buffer(
            "neuron_class", torch.arange(len(classes)).repeat_interleave(torch.tensor(classes))
        )
        self.positions = nn.Parameter(torch.randn(len(classes), node_dim))
        sizes = node_dim, edge_dim, attention_dim, node_hidden_dim, num_heads, dropout
        self.layers = nn.ModuleList(Layer(*sizes) for _ in range(num_layers))
        self.edge_updates = nn.ModuleList(
            EdgeUpdate(node_dim, edge_dim, edge_hidden_dim, dropout) for _ in range(num_layers - 1)
        )
        self.head = nn.Sequential(
            nn.Linear(out_features * node_dim, head_dim),
            nn.ReLU(),
            nn.Linear(head_dim, num_classes),
        )
        self.out_features = out_features

    def forward(self, batch: WeightBatch) -> Tensor:
        """Give logits (B, num_classes)."""
        size, in_features = len(self.neuron_class), batch.architecture.in_features
        biases = batch.parameters.new_zeros(len(batch), in_features)
        weights = batch.parameters.new_zeros(len(batch), size, size)  # 0 where there is none
        first = 0
        for weight in batch.weights:
            n_out, n_in = weight.shape[1:]
            target = first + n_in
            weights[:, first:target, target : target + n_out] = weight.mT
            first = target
        biases = torch.cat([biases, *batch.biases], 1)
        nodes = self.node_in(self.encode_bias(biases)) + self.positions[self.neuron_class]
        edges = self.edge_in(self.encode_weight(weights))
        for number, layer in enumerate(self.layers):
            nodes = layer(nodes, edges)
            if number < len(self.edge_updates):
                edges = self.edge_updates[number](nodes, edges)
        return self.head(nodes[:, -self.out_features :].flatten(1))
