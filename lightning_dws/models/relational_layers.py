"""The layers of the relational transformer: attention of nodes, and updates of edges.

Diao & Loynd (2023), "Relational Attention: Generalizing Transformers for Graph-Structured Tasks".
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lightning_dws.models.pairs import Pairs
from lightning_dws.models.relational_attention import AttentionTerms, attend
from lightning_dws.models.relational_edges import EdgeUpdateTerms, update_edges
from lightning_dws.models.relational_lanes import LanePairs, attend_in_lanes, update_in_lanes

Nodes = Float[Tensor, "batch nodes node_channels"]
Queries = Float[Tensor, "batch queries node_channels"]
AnyPairs = Pairs | LanePairs


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

    def forward(self, nodes: Nodes, edges: AnyPairs) -> tuple[Queries, AnyPairs]:
        """Give the last nodes, those that query, from all; and the edges, as they are."""
        attended, edges = self.attention(nodes, edges)
        attended = self.attention_out(attended)
        nodes = nodes[:, -attended.shape[1] :]
        nodes = self.attention_norm(nodes + self.dropout(attended))
        return self.mlp_norm(nodes + self.dropout(self.mlp(nodes))), edges


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

    def forward(self, nodes: Nodes, edges: AnyPairs) -> tuple[Queries, AnyPairs]:
        """Give what the last nodes, those that query, gather from all; and the edges."""
        mapped = self.node_maps(nodes).unflatten(-1, (self.num_heads, 3, -1))
        query, key, value = mapped.unbind(-2)  # (B, N, H, C) each
        edge_maps = self.edge_maps.weight.unflatten(0, (self.num_heads, 4, -1))
        edge_query, edge_key, edge_value, gates = edge_maps.unbind(1)  # (H, C, D) each
        edge_query = edge_query * self.scale
        if isinstance(edges, LanePairs):
            query = query[:, -edges.num_queries :] * self.scale
            gated_mean, edge_mean, edges = attend_in_lanes(
                edges, query, key, value, edge_query, edge_key, gates
            )
        else:
            query, key, value = (x.transpose(1, 2) for x in (query, key, value))
            query = query[:, :, -edges.shape[2] :] * self.scale
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
            gated_mean = gated_mean.permute(0, 3, 1, 2)
        edge_part = torch.einsum("hcd,brhd->brhc", edge_value, edge_mean)
        return self.out((gated_mean + edge_part).flatten(2)), edges


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
        self,
        nodes: Nodes,
        edges: Float[Tensor, "batch channels nodes nodes"] | LanePairs,
        num_queries: int,
    ) -> AnyPairs:
        """Give the edges of the last nodes, those that query, to all."""
        own_map, opposite_map = self.edge.weight.chunk(2, 1)
        query_terms = self.query(nodes[:, -num_queries:]) + self.edge.bias
        terms = EdgeUpdateTerms(
            query_terms=query_terms.mT,
            key_terms=self.key(nodes).mT,
            own=own_map,
            opposite=opposite_map,
            out=self.out.weight,
            out_bias=self.out.bias,
            norm=torch.stack([self.norm.weight, self.norm.bias]),
            mlp_in=self.mlp_in.weight,
            mlp_out=self.mlp_out.weight,
            mlp_out_bias=self.mlp_out.bias,
            mlp_norm=torch.stack([self.mlp_norm.weight, self.mlp_norm.bias]),
        )
        dropout = self.dropout if self.training else 0.0
        if isinstance(edges, LanePairs):
            return update_in_lanes(edges, terms, num_queries, dropout)
        own, opposite = edges[:, :, -num_queries:], edges[..., -num_queries:].mT
        return update_edges(own, opposite, terms, dropout)


def _xavier_linear(in_features: int, out_features: int, bias: bool = True) -> nn.Linear:
    """Make a linear map as the published model initialises it."""
    linear = nn.Linear(in_features, out_features, bias)
    nn.init.xavier_uniform_(linear.weight)
    if bias:
        nn.init.zeros_(linear.bias)
    return linear
