"""The neural graph of an architecture: neurons are nodes, weights edges, biases node features.

Kofinas et al. (2024), "Graph Neural Networks for Learning Equivariant Representations of Neural
Networks"; Zhang et al. (2023), "Neural Networks Are Graphs!".

All networks of an architecture have one graph, so it is built once: node features of a batch are
(B, N, D) and edge features (B, E, D) over one ``edge_index``, the static graphs of torch-geometric.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional
from torch_geometric.data import Data

from lightning_dws.models.architecture_check import check_architecture
from lightning_dws.models.index_tensors import IndexTensors
from lightning_dws.weight_space import Architecture, TensorSpec, WeightBatch


class Link(NamedTuple):
    """A weight tensor as edges: from each neuron of one layer to each of another.

    Attributes:
        source: Number of the layer that it maps from.
        target: Of the layer that it maps to.
        shape: (targets, sources).
        features: Entries of an edge: 1, or the positions of a kernel or a flattened feature map.
    """

    source: int
    target: int
    shape: tuple[int, int]
    features: int


class NeuralGraph(IndexTensors):
    """Nodes and edges of the neural graph, and the raw features that a network gives them.

    Nodes are the neurons, layer by layer, inputs first; a CNN's are its channels. Edges are the
    weights in the order of ``WeightBatch.parameters``, pointing the way the network computes; with
    ``reverse_edges`` the same edges follow once more, pointing back. An edge is there whatever its
    weight, zero too. A kernel is one edge of as many features, as are the weights of a channel's
    positions behind a flattened feature map, and where edges have fewer, zeros follow (Kofinas et
    al., 2024). So do biases, where some neurons have several.

    Args:
        architecture: Of the networks.
        reverse_edges: Whether every edge is also there the other way.

    Attributes:
        widths: Number of neurons of every layer: inputs, groups of hidden neurons, outputs.
        num_outputs: Of the network: so many are the last nodes.
        links: Every weight tensor as edges.
        weight_features: Features of a weight, K.
        bias_features: Features of a bias.
        edge_index: Source and target of each edge, as in torch-geometric.
        edge_layer: The weight tensor of each edge, from 0.
        is_reversed: Whether an edge points from outputs to inputs.
        node_layer: The layer of each neuron, from 0 (inputs).
        neuron_class: Which neurons may not be told apart: every input and every output neuron is
            a class of its own, the neurons of a hidden layer are one.
        in_degree: Number of edges that end in each node.

    Raises:
        ValueError: The networks have inputs or outputs of several sizes, or biases of neither
            hidden neurons nor outputs.
    """

    edge_index: Int64[Tensor, "2 edges"]
    edge_layer: Int64[Tensor, "edges"]
    is_reversed: Bool[Tensor, "edges"]
    node_layer: Int64[Tensor, "nodes"]
    neuron_class: Int64[Tensor, "nodes"]
    in_degree: Int64[Tensor, "nodes"]

    def __init__(self, architecture: Architecture, reverse_edges: bool = True) -> None:
        super().__init__()
        self.architecture, self.reverse_edges = architecture, reverse_edges
        self.directions = 2 if reverse_edges else 1
        weights = [spec for spec in architecture.tensors if spec.is_weight]
        inputs, self.num_outputs = (_fixed_width(weights, side) for side in (1, 0))
        self.widths = widths = (inputs, *architecture.groups.values(), self.num_outputs)
        self._layers = {group: layer for layer, group in enumerate(architecture.groups, start=1)}
        last = len(widths) - 1
        self.links = [
            Link(
                self._layers.get(spec.axes[1] or "", 0),
                self._layers.get(spec.axes[0] or "", last),
                (spec.shape[0], spec.shape[1]),
                math.prod(spec.shape[2:]),
            )
            for spec in weights
        ]
        self._biases: list[list[int]] = [[] for _ in widths]  # numbers of each layer's tensors
        for number, spec in enumerate(architecture.tensors):
            if not spec.is_weight:
                layer = self._layers.get(spec.axes[0] or "", last)
                if spec.shape[0] != widths[layer]:
                    raise ValueError(
                        f"tensor {spec.name!r} adds to {spec.shape[0]} neurons that are neither "
                        f"hidden ones nor the {self.num_outputs} outputs"
                    )
                self._biases[layer].append(number)
        self.weight_features = max(link.features for link in self.links)
        self.bias_features = max(1, *(len(numbers) for numbers in self._biases))

        sizes = torch.tensor(widths)
        self.starts = (sizes.cumsum(0) - sizes).tolist()
        self.num_nodes = sum(widths)
        self.num_neuron_classes = inputs + len(architecture.groups) + self.num_outputs
        self.set_index("node_layer", torch.arange(len(widths)).repeat_interleave(sizes))
        class_sizes = [1] * inputs + list(widths[1:-1]) + [1] * self.num_outputs
        self.set_index(
            "neuron_class",
            torch.arange(self.num_neuron_classes).repeat_interleave(torch.tensor(class_sizes)),
        )
        ends = []
        for link in self.links:
            n_out, n_in = link.shape
            targets = self.starts[link.target] + torch.arange(n_out).repeat_interleave(n_in)
            sources = self.starts[link.source] + torch.arange(n_in).repeat(n_out)
            ends.append(torch.stack([sources, targets]))
        forward_edges = torch.cat(ends, 1)
        self.link_sizes = [math.prod(link.shape) for link in self.links]
        edge_layer = torch.arange(len(ends)).repeat_interleave(torch.tensor(self.link_sizes))
        self.num_weights = len(edge_layer)
        self.set_index(
            "edge_index", torch.cat([forward_edges, forward_edges.flip(0)][: self.directions], 1)
        )
        self.set_index("edge_layer", edge_layer.repeat(self.directions))
        self.set_index(
            "is_reversed", torch.arange(self.directions).repeat_interleave(self.num_weights) == 1
        )
        self.set_index("in_degree", torch.bincount(self.edge_index[1], minlength=self.num_nodes))

    @property
    def num_edges(self) -> int:
        return self.edge_index.shape[1]

    def nodes_of(self, layer: int) -> slice:
        """Give the nodes of a layer."""
        return slice(self.starts[layer], self.starts[layer] + self.widths[layer])

    def weights(self, batch: WeightBatch) -> Float[Tensor, "batch weights features"]:
        """Give every weight once, in the order of the edges."""
        parts = [
            functional.pad(
                weight.reshape(len(batch), size, link.features),
                (0, self.weight_features - link.features),
            )
            for weight, link, size in zip(batch.weights, self.links, self.link_sizes, strict=True)
        ]
        return torch.cat(parts, 1)

    def biases(self, batch: WeightBatch) -> Float[Tensor, "batch nodes features"]:
        """Give the bias of every neuron; 0 for those without, such as the inputs."""
        tensors = batch.tensors
        none = batch.parameters.new_zeros(len(batch), max(self.widths), self.bias_features)
        parts = []
        for numbers, width in zip(self._biases, self.widths, strict=True):
            own = [tensors[number][..., None] for number in numbers]
            parts.append(torch.cat([*own, none[:, :width, len(own) :]], 2))
        return torch.cat(parts, 1)

    def edge_values(
        self, weights: Float[Tensor, "batch weights features"]
    ) -> Float[Tensor, "batch edges directed_features"]:
        """Give each edge's raw features: the weight.

        With reversed edges three times as many: the edge's own weight, that of the opposite edge,
        and their sum. One of the first two is 0.
        """
        if not self.reverse_edges:
            return weights
        zeros = torch.zeros_like(weights)
        forward = torch.cat([weights, zeros, weights], -1)
        backward = torch.cat([zeros, weights, weights], -1)
        return torch.cat([forward, backward], 1)

    def to_data(self, batch: WeightBatch) -> list[Data]:
        """Give every INR as a graph of torch-geometric, for a model of one's own.

        Returns:
            B ``Data`` of ``x`` (N, features) biases, ``edge_index`` (2, E), ``edge_attr`` as
            ``edge_values``, ``y`` (1,) the label, and the graph's ``edge_layer``, ``is_reversed``,
            ``node_layer`` and ``neuron_class``; ``object_id`` and ``view`` of the INR.

        Raises:
            ValueError: The INRs are of another architecture than the graph's.
        """
        check_architecture(self.architecture, batch)
        nodes, edges = self.biases(batch), self.edge_values(self.weights(batch))
        device = batch.device
        shared = {
            name: getattr(self, name).to(device)
            for name in ("edge_index", "edge_layer", "is_reversed", "node_layer", "neuron_class")
        }
        return [
            Data(
                x=nodes[index],
                edge_attr=edges[index],
                y=batch.label[index, None],
                object_id=batch.object_id[index, None],
                view=batch.view[index, None],
                **shared,
            )
            for index in range(len(batch))
        ]


def _fixed_width(weights: list[TensorSpec], side: int) -> int:
    """Count the inputs (side 1) or outputs (side 0): the fixed ends of weights."""
    found = {spec.shape[side] for spec in weights if spec.axes[side] is None}
    if len(found) != 1:
        ends = "inputs" if side else "outputs"
        raise ValueError(f"the networks must have {ends} of one size, got {sorted(found)}")
    return found.pop()


def to_data(batch: WeightBatch, reverse_edges: bool = True) -> list[Data]:
    """Give INRs as graphs of torch-geometric, which its ``DataLoader`` makes batches of.

    Args:
        batch: Of B INRs; ``to_data(batch[0])[0]`` is the graph of the first.
        reverse_edges: Whether every edge is also there the other way.

    Returns:
        B ``Data``, see ``NeuralGraph.to_data``.
    """
    return NeuralGraph(batch.architecture, reverse_edges).to(batch.device).to_data(batch)
