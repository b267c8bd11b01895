"""Principal neighbourhood aggregation with edges that modulate messages and are updated.

Corso et al. (2020), with the edges of Zhang et al. (2023). These are torch-geometric's message
passing, on any graph: static ones with nodes (B, N, D) and edges (B, E, D), or one graph without B.
"""

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional
from torch_geometric.nn import MessagePassing
from torch_geometric.nn.aggr import MultiAggregation
from torch_geometric.utils import degree

Nodes = Float[Tensor, "*batch nodes channels"]
Edges = Float[Tensor, "*batch edges channels"]

_NORM_EPS = 1e-5


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
        in_degree = degree(edge_index[1], x.shape[-2])
        scaled = aggregates * self.scaler(in_degree, x.dtype)
        return self.out(self.post(torch.cat([x, aggregates, scaled], -1)))  # type: ignore[no-any-return]

    def message(self, x_i: Tensor, x_j: Tensor, edges: Tensor) -> Tensor:
        scale, shift = self.edge(edges).chunk(2, -1)
        return scale * self.pre(torch.cat([x_i, x_j], -1)) + shift  # type: ignore[no-any-return]

    def ends_map(self) -> tuple[Tensor, Tensor]:
        """Give weight (2 D, D) and bias of what a node adds within ``pre`` at a message's ends."""
        target, source = self.pre.weight.chunk(2, 1)
        return _ends_map(target, source, self.pre.bias)

    def scaler(self, in_degree: Tensor, dtype: torch.dtype) -> Tensor:
        """Give what multiplies the aggregates of each node for the second time, (N, 1)."""
        return ((in_degree + 1).to(dtype).log() / self.mean_log_degree)[:, None]


class EdgeUpdate(nn.Module):
    """Make an edge from itself and its ends: ``out(silu(edge(e) + source(x_s) + target(x_t)))``."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.edge, self.source, self.target, self.out = (nn.Linear(dim, dim) for _ in range(4))

    def forward(self, x: Nodes, edge_index: Int64[Tensor, "2 edges"], edges: Edges) -> Edges:
        source, target = edge_index
        ends = self.source(x)[..., source, :] + self.target(x)[..., target, :]
        return self.out(functional.silu(self.edge(edges) + ends))  # type: ignore[no-any-return]

    def ends_map(
        self, bias: Float[Tensor, "channels"]
    ) -> tuple[Float[Tensor, "2*channels channels"], Float[Tensor, "2*channels"]]:
        """Give weight and bias of what a node adds at an edge's ends, with a bias more."""
        bias = bias + self.target.bias + self.source.bias
        return _ends_map(self.target.weight, self.source.weight, bias)


class GraphNorm(nn.Module):
    """Normalise each graph over all its nodes and channels, then scale and shift each channel.

    torch-geometric's ``LayerNorm`` of mode ``graph`` on static graphs:
    ``(x - mean) / (std + eps)``.
    """

    def __init__(self, dim: int, eps: float = _NORM_EPS) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Nodes) -> Nodes:
        return graph_norm(x, self.weight, self.bias, self.eps)


def graph_norm(
    x: Nodes,
    weight: Float[Tensor, "channels"],
    bias: Float[Tensor, "channels"],
    eps: float = _NORM_EPS,
) -> Nodes:
    """Compute ``GraphNorm`` with a weight and a bias."""
    centred = x - x.mean((-2, -1), keepdim=True)
    count = x.shape[-2] * x.shape[-1]
    std = torch.linalg.vector_norm(centred, dim=(-2, -1), keepdim=True) / math.sqrt(count)
    return centred / (std + eps) * weight + bias  # type: ignore[no-any-return]


def _ends_map(target: Tensor, source: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    return torch.cat([target, source]), torch.cat([bias, torch.zeros_like(bias)])
