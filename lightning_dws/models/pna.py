"""Principal neighbourhood aggregation with edges that modulate messages and are updated.

Corso et al. (2020), with the edges of Zhang et al. (2023). These are torch-geometric's message
passing, on any graph: static ones with nodes (B, N, D) and edges (B, E, D), or one graph without B.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch_geometric.nn import MessagePassing
from torch_geometric.nn.aggr import MultiAggregation


class PNAConv(MessagePassing):  # type: ignore[misc]
    """Aggregate messages by mean, min, max and std, each also scaled by the node's degree.

    The message into i from j is ``s * pre([x_i, x_j]) + t``, where s and t are halves of a linear
    map of the edge. A node becomes ``out(post([x, a, a * log(degree + 1) / mean log degree]))``,
    where a are the four aggregates: 0 where no edge ends.

    Args:
        dim: Channels D of nodes and edges.
        in_degree: (N,) of the graphs' nodes, from which the mean log degree is taken.
    """

    mean_log_degree: Tensor

    def __init__(self, dim: int, in_degree: Tensor) -> None:
        super().__init__(MultiAggregation(["mean", "min", "max", "std"]), node_dim=-2)
        self.edge = nn.Linear(dim, 2 * dim)
        self.pre = nn.Linear(2 * dim, dim)
        self.post = nn.Linear(9 * dim, dim)
        self.out = nn.Linear(dim, dim)
        self.register_buffer("mean_log_degree", (in_degree + 1.0).log().mean())

    def forward(self, x: Tensor, edge_index: Tensor, edges: Tensor) -> Tensor:
        """Map nodes (..., N, D) with edges (..., E, D) over edge_index (2, E)."""
        aggregates = self.propagate(edge_index, x=x, edges=edges)
        in_degree = torch.bincount(edge_index[1], minlength=x.shape[-2])
        return self.combine(x, aggregates, in_degree)

    def message(self, x_i: Tensor, x_j: Tensor, edges: Tensor) -> Tensor:
        scale, shift = self.edge(edges).chunk(2, -1)
        return scale * self.pre(torch.cat([x_i, x_j], -1)) + shift  # type: ignore[no-any-return]

    def ends(self, x: Tensor) -> Tensor:
        """Give what nodes add within ``pre`` as target, and as source: (..., N, 2 D)."""
        target, source = self.pre.weight.chunk(2, 1)
        return _at_ends(x, target, source, self.pre.bias)

    def combine(self, x: Tensor, aggregates: Tensor, in_degree: Tensor) -> Tensor:
        """Give the new nodes from the old ones and their aggregates (..., N, 4 D)."""
        scaler = ((in_degree + 1).to(x.dtype).log() / self.mean_log_degree)[:, None]
        dim = x.shape[-1]
        own, plain, scaled = self.post.weight.split([dim, 4 * dim, 4 * dim], 1)
        mixed = functional.linear(x, own, self.post.bias)
        mixed = mixed + functional.linear(aggregates, plain)
        mixed = mixed + functional.linear(aggregates, scaled) * scaler
        return self.out(mixed)  # type: ignore[no-any-return]


class EdgeUpdate(nn.Module):
    """Make an edge from itself and its ends: ``out(silu(edge(e) + source(x_s) + target(x_t)))``.

    Args:
        dim: Channels D of nodes and edges.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.edge, self.source, self.target, self.out = (nn.Linear(dim, dim) for _ in range(4))

    def forward(self, x: Tensor, edge_index: Tensor, edges: Tensor) -> Tensor:
        """Map edges (..., E, D) with nodes (..., N, D) over edge_index (2, E)."""
        source, target = edge_index
        ends = self.source(x)[..., source, :] + self.target(x)[..., target, :]
        return self.out(functional.silu(self.edge(edges) + ends))  # type: ignore[no-any-return]

    def ends(self, x: Tensor, bias: Tensor) -> Tensor:
        """Give what nodes and a bias add to an edge, at its target, and source: (..., N, 2 D)."""
        bias = bias + self.target.bias + self.source.bias
        return _at_ends(x, self.target.weight, self.source.weight, bias)


class GraphNorm(nn.Module):
    """Normalise each graph over all its nodes and channels, then scale and shift each channel.

    torch-geometric's ``LayerNorm`` of mode ``graph`` on static graphs:
    ``(x - mean) / (std + eps)``.

    Args:
        dim: Channels D.
        eps: Added to the standard deviation.
    """

    def __init__(self, dim: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., N, D)."""
        centred = x - x.mean((-2, -1), keepdim=True)
        count = x.shape[-2] * x.shape[-1]
        std = torch.linalg.vector_norm(centred, dim=(-2, -1), keepdim=True) / math.sqrt(count)
        return centred / (std + self.eps) * self.weight + self.bias  # type: ignore[no-any-return]


def _at_ends(x: Tensor, target: Tensor, source: Tensor, bias: Tensor) -> Tensor:
    biases = torch.cat([bias, torch.zeros_like(bias)])
    return functional.linear(x, torch.cat([target, source]), biases)
