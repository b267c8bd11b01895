"""Classify INRs and other networks by their neural graph with the PNA backbone."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from lightning_dws.models.architecture_check import check_architecture
from lightning_dws.models.dense_edges import takes_kernels
from lightning_dws.models.dense_pna import (
    compose,
    flatten,
    make_rounds,
    pass_messages,
    unflatten,
)
from lightning_dws.models.graph_features import (
    FourierFeatures,
    ProbeFeatures,
    check_features,
    read_out,
    without_autocast,
)
from lightning_dws.models.in_chunks import in_chunks
from lightning_dws.models.multilayer_head import multilayer_head
from lightning_dws.models.neural_graph import NeuralGraph
from lightning_dws.models.options import check_options
from lightning_dws.models.parameter_readout import ParameterReadout
from lightning_dws.models.pna import EdgeUpdate, GraphNorm, PNAConv
from lightning_dws.models.pna_lanes import fill_lanes, pass_in_lanes
from lightning_dws.models.recorded import recorded
from lightning_dws.models.standardize import Standardize
from lightning_dws.models.weight_encoding import encode_features, interpolate, tabulate
from lightning_dws.weight_space import Architecture, INRArchitecture, WeightBatch

_CHUNK_BYTES = 2 * 2**20  # of the edges of the INRs that a thread works on at a time


@recorded
class NeuralGraphGNN(nn.Module):
    """Classify INRs by their neural graph (Kofinas et al., 2024; Zhang et al., 2023), PNA backbone.

    ``Standardize``; Fourier features of weights and biases, a learned position for every class of
    neurons, and probe features make edges and nodes; then ``num_layers`` of ``PNAConv``, with
    ``GraphNorm``, silu, dropout and ``EdgeUpdate`` between them; then a readout and three linear
    maps with relu between. Equal to the published model, save that an INR's logits do not depend on
    the others of its batch (but for rounding and interpolation).

    Messages are passed layer by layer between complete layers (``dense_edges``, and on CPUs with an
    INR in each lane of a vector ``pna_lanes``). With ``message_passing=True`` they take
    torch-geometric's way over ``graph.edge_index``: the same numbers from the same parameters, many
    times slower. Only that way calls the submodules of a round of messages, with hooks and adapters
    on them; elsewhere their parameters are used.

    Args:
        architecture: Of the INRs: any number of layers from two, any widths; or of other networks.
        num_classes: Number of logits.
        hidden_dim: Channels of nodes and edges.
        num_layers: Rounds of messages.
        num_probes: Learned inputs of the INR, whose activations are node features; 0 for none.
        reverse_edges: Whether messages also go from the INR's outputs to its inputs.
        fourier_features: Frequencies of the encoding of weights and biases.
        fourier_scale: Their standard deviation, on standardised weights.
        readout: ``"outputs"`` concatenates the output neurons' nodes; ``"mean"`` and ``"max"`` are
            over all nodes.
        dropout: Probability of dropping a node's feature between layers, in [0, 1).
        message_passing: Whether to pass messages with torch-geometric.

    Raises:
        ValueError: An option is out of its range.
    """

    def __init__(
        self,
        architecture: Architecture,
        num_classes: int,
        hidden_dim: int = 32,
        num_layers: int = 4,
        num_probes: int = 0,
        reverse_edges: bool = True,
        fourier_features: int = 128,
        fourier_scale: float = 3.0,
        readout: str = "outputs",
        dropout: float = 0.0,
        message_passing: bool = False,
    ) -> None:
        super().__init__()
        check_options(
            dropout,
            num_classes=num_classes,
            hidden_dim=hidden_dim,
            num_layers=num_layers,
            fourier_features=fourier_features,
        )
        check_features(num_probes, fourier_scale, readout)
        self.standardize = Standardize(architecture)
        self.architecture, self.readout = architecture, readout
        self.message_passing = message_passing
        self.graph = NeuralGraph(architecture, reverse_edges)
        edge_channels = self.graph.weight_features * (3 if reverse_edges else 1)
        self.weight_features = FourierFeatures(edge_channels, fourier_features, fourier_scale)
        bias_channels = self.graph.bias_features
        self.bias_features = FourierFeatures(bias_channels, fourier_features, fourier_scale)
        self.encode_weight = nn.Linear(2 * fourier_features, hidden_dim)
        self.encode_bias = nn.Linear(2 * fourier_features, hidden_dim)
        self.node_in = nn.Linear(hidden_dim, hidden_dim)
        self.edge_in = nn.Linear(hidden_dim, hidden_dim)
        self.positions = nn.Parameter(torch.randn(self.graph.num_neuron_classes, hidden_dim))
        self.probes = ProbeFeatures(architecture, num_probes, hidden_dim) if num_probes else None
        degree = self.graph.in_degree
        self.convs: Sequence[PNAConv] = nn.ModuleList(  # type: ignore[assignment]
            PNAConv(hidden_dim, degree) for _ in range(num_layers)
        )
        self.norms: Sequence[GraphNorm] = nn.ModuleList(  # type: ignore[assignment]
            GraphNorm(hidden_dim) for _ in range(num_layers - 1)
        )
        self.edge_updates: Sequence[EdgeUpdate] = nn.ModuleList(  # type: ignore[assignment]
            EdgeUpdate(hidden_dim) for _ in range(num_layers - 1)
        )
        self.dropout = dropout
        self.parameter_channels = ParameterReadout.channels(hidden_dim)
        self.parameter_readout: ParameterReadout | None = None
        if isinstance(architecture, INRArchitecture):
            self.parameter_readout = ParameterReadout(architecture)
        out_nodes = self.graph.num_outputs if readout == "outputs" else 1
        self.head = multilayer_head([out_nodes * hidden_dim, hidden_dim, hidden_dim, num_classes])

    def forward(self, batch: WeightBatch) -> Float[Tensor, "batch classes"]:
        """Give logits."""
        return self.head(self.embed(batch))  # type: ignore[no-any-return]

    def embed(self, batch: WeightBatch) -> Float[Tensor, "batch features"]:
        """Give invariant features: what the head takes."""
        check_architecture(self.architecture, batch)
        with without_autocast(batch.parameters):
            outputs = self.graph.num_outputs
            num_wanted = outputs if self.readout == "outputs" else self.graph.num_nodes
            return read_out(self._last_nodes(batch, num_wanted), self.readout, outputs)

    def parameter_features(self, batch: WeightBatch) -> Float[Tensor, "batch parameters channels"]:
        """Give features of every parameter, in row order: permuted as the INR's neurons are.

        Raises:
            ValueError: The networks are no INRs.
        """
        if self.parameter_readout is None:
            raise ValueError("features of single parameters are of INRs alone, not of CNNs")
        check_architecture(self.architecture, batch)
        with without_autocast(batch.parameters):
            nodes = functional.layer_norm(
                self._last_nodes(batch, self.graph.num_nodes), (self.node_in.out_features,)
            )
            return self.parameter_readout(nodes, self.standardize(batch.parameters))  # type: ignore[no-any-return]

    def _last_nodes(self, batch: WeightBatch, num_wanted: int) -> Tensor:
        """Give the last nodes behind all rounds, at least as many as are wanted."""
        standardized = batch.replace(parameters=self.standardize(batch.parameters))
        biases = self.graph.biases(standardized)
        nodes = self.encode_bias(self.bias_features(biases))
        if self.probes is not None:
            nodes = nodes + self.probes(batch)
        nodes = self.node_in(nodes) + self.positions[self.graph.neuron_class]
        weights, kept = self.graph.weights(standardized), self._draw_dropout(nodes)
        if self.message_passing:
            return self._pass_on_graph(nodes, weights, kept)
        return self._pass_between_layers(nodes, weights, kept, num_wanted)

    def _draw_dropout(self, x: Tensor) -> Tensor:
        """Give what multiplies the nodes between layers, (B, num_layers - 1, N, D) or ones."""
        if self.dropout == 0 or not self.training:
            return x.new_ones(len(x), len(self.norms), 1, 1)
        ones = x.new_ones(len(x), len(self.norms), *x.shape[1:])
        return functional.dropout(ones, self.dropout)

    def _pass_on_graph(self, x: Tensor, weights: Tensor, kept: Tensor) -> Tensor:
        """Give the last nodes (B, N, D) from the first, and from the weights (B, W, K)."""
        edge_index = self.graph.edge_index
        values = self.graph.edge_values(weights)
        edges = self.edge_in(self.encode_weight(self.weight_features(values)))
        for number, (norm, update) in enumerate(zip(self.norms, self.edge_updates, strict=True)):
            x = self.convs[number](x, edge_index, edges)
            x = functional.silu(norm(x)) * kept[:, number]
            edges = update(x, edge_index, edges)
        return self.convs[-1](x, edge_index, edges)  # type: ignore[no-any-return]

    def _pass_between_layers(
        self, x: Tensor, weights: Tensor, kept: Tensor, num_wanted: int
    ) -> Tensor:
        """Give the same; with compiled kernels on a CPU, a few INRs at a time on each thread."""
        graph, encoding = self.graph, self._edge_encoding()
        rounds = make_rounds(self.convs, self.norms, self.edge_updates, graph.in_degree)
        if not takes_kernels(x):
            return pass_messages(x, encode_features(weights, *encoding), kept, rounds, graph)
        tabulated = None
        one_number = graph.weight_features == 1
        if one_number and weights.dtype == torch.float32 and not weights.requires_grad:
            frequencies, *linear = encoding
            tabulated = tabulate(weights[..., 0], frequencies[..., 0], *linear)
            if tabulated is not None and fill_lanes(*tabulated):
                return pass_in_lanes(x, *tabulated, kept, rounds, graph, num_wanted)
        shared: Sequence[Tensor]
        encode: Callable[..., Tensor]
        if tabulated is None:
            encode, values, shared = encode_features, weights, encoding
        else:
            table, values = tabulated
            encode, shared = interpolate, [table]

        def pass_chunk(x: Tensor, kept: Tensor, values: Tensor, *shared: Tensor) -> Tensor:
            edges = encode(values, *shared[:num_encoding])
            return pass_messages(x, edges, kept, unflatten(shared[num_encoding:]), graph)

        num_encoding = len(shared)
        edge_bytes = graph.num_edges * self.node_in.out_features * x.element_size()
        size = max(1, _CHUNK_BYTES // edge_bytes)
        return in_chunks(pass_chunk, [x, kept, values], [*shared, *flatten(rounds)], size)

    def _edge_encoding(self) -> tuple[Tensor, Tensor, Tensor]:
        """Give frequencies (directions, F, K), weight and bias of an edge's first features."""
        frequencies = self.weight_features.frequencies[None]
        if self.graph.reverse_edges:  # channels: own weight, opposite weight, their sum
            own, opposite, both = frequencies.chunk(3, -1)
            frequencies = torch.cat([own + both, opposite + both])
        return frequencies, *compose(self.edge_in, self.encode_weight)
