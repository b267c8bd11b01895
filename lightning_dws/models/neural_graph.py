"""The neural graph of an architecture: neurons are nodes, weights edges, biases node features.

Kofinas et al. (2024), "Graph Neural Networks for Learning Equivariant Representations of Neural
Networks"; Zhang et al. (2023), "Neural Networks Are Graphs!".

All INRs of an architecture have one graph, so it is built once: node features of a batch are
(B, N, D) and edge features (B, E, D) over one ``edge_index``, the static graphs of torch-geometric.
"""

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch_geometric.data import Data

from lightning_dws.models.architecture_check import check_architecture
from lightning_dws.models.index_tensors import IndexTensors
from lightning_dws.weight_space import INRArchitecture, WeightBatch


class NeuralGraph(IndexTensors):
    """Nodes and edges of the neural graph, and the raw features that an INR gives them.

    Nodes are the neurons, layer by layer, inputs first. Edges are the weights in the order of
    ``WeightBatch.parameters``, pointing the way the INR computes; with ``reverse_edges`` the same
    edges follow once more, pointing back. An edge is there whatever its weight, zero too.

    Args:
        architecture: Of the INRs.
        reverse_edges: Whether every edge is also there the other way.

    Attributes:
        edge_index: Source and target of each edge, as in torch-geometric.
        edge_layer: The weight matrix of each edge, from 0.
        is_reversed: Whether an edge points from outputs to inputs.
        node_layer: The layer of each neuron, from 0 (inputs).
        neuron_class: Which neurons may not be told apart: every input and every output neuron is
            a class of its own, the neurons of a hidden layer are one.
        in_degree: Number of edges that end in each node.
    """

    edge_index: Int64[Tensor, "2 edges"]
    edge_layer: Int64[Tensor, "edges"]
    is_reversed: Bool[Tensor, "edges"]
    node_layer: Int64[Tensor, "nodes"]
    neuron_class: Int64[Tensor, "nodes"]
    in_degree: Int64[Tensor, "nodes"]

    def __init__(self, architecture: INRArchitecture, reverse_edges: bool = True) -> None:
        super().__init__()
        self.architecture, self.reverse_edges = architecture, reverse_edges
        self.widths = widths = architecture.widths
        self.directions = 2 if reverse_edges else 1
        sizes = torch.tensor(widths)
        starts = (sizes.cumsum(0) - sizes).tolist()
        self.num_nodes = sum(widths)
        self.num_neuron_classes = widths[0] + architecture.num_layers - 1 + widths[-1]
        self.set_index("node_layer", torch.arange(len(widths)).repeat_interleave(sizes))
        class_sizes = [1] * widths[0] + list(widths[1:-1]) + [1] * widths[-1]
        self.set_index(
            "neuron_class",
            torch.arange(self.num_neuron_classes).repeat_interleave(torch.tensor(class_sizes)),
        )
        ends = []
        for layer, (n_out, n_in) in enumerate(architecture.weight_shapes):
            targets = starts[layer + 1] + torch.arange(n_out).repeat_interleave(n_in)
            sources = starts[layer] + torch.arange(n_in).repeat(n_out)
            ends.append(torch.stack([sources, targets]))
        forward_edges = torch.cat(ends, 1)
        weights_per_layer = torch.tensor([out * in_ for out, in_ in architecture.weight_shapes])
        edge_layer = torch.arange(architecture.num_layers).repeat_interleave(weights_per_layer)
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

    def weights(self, batch: WeightBatch) -> Float[Tensor, "batch weights"]:
        """Give every weight once, in the order of the edges."""
        slices = batch.architecture.weight_slices
        return torch.cat([batch.parameters[:, where] for where in slices], 1)

    def biases(self, batch: WeightBatch) -> Float[Tensor, "batch nodes"]:
        """Give the bias of every neuron; 0 for the inputs, which have none."""
        inputs = batch.parameters.new_zeros(len(batch), self.widths[0])
        return torch.cat([inputs, *batch.biases], 1)

    def edge_values(
        self, weights: Float[Tensor, "batch weights"]
    ) -> Float[Tensor, "batch edges features"]:
        """Give each edge's raw features: the weight.

        With reversed edges three: the edge's own weight, that of the opposite edge, and their sum.
        One of the first two is 0.
        """
        if not self.reverse_edges:
            return weights[..., None]
        zeros = torch.zeros_like(weights)
        forward = torch.stack([weights, zeros, weights], -1)
        backward = torch.stack([zeros, weights, weights], -1)
        return torch.cat([forward, backward], 1)

    def to_data(self, batch: WeightBatch) -> list[Data]:
        """Give every INR as a graph of torch-geometric, for a model of one's own.

        Returns:
            B ``Data`` of ``x`` (N, 1) biases, ``edge_index`` (2, E), ``edge_attr`` as
            ``edge_values``, ``y`` (1,) the label, and the graph's ``edge_layer``, ``is_reversed``,
            ``node_layer`` and ``neuron_class``; ``object_id`` and ``view`` of the INR.

        Raises:
            ValueError: The INRs are of another architecture than the graph's.
        """
        check_architecture(self.architecture, batch)
        nodes, edges = self.biases(batch)[..., None], self.edge_values(self.weights(batch))
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


def to_data(batch: WeightBatch, reverse_edges: bool = True) -> list[Data]:
    """Give INRs as graphs of torch-geometric, which its ``DataLoader`` makes batches of.

    Args:
        batch: Of B INRs; ``to_data(batch[0])[0]`` is the graph of the first.
        reverse_edges: Whether every edge is also there the other way.

    Returns:
        B ``Data``, see ``NeuralGraph.to_data``.
    """
    return NeuralGraph(batch.architecture, reverse_edges).to(batch.device).to_data(batch)
