"""Networks that take the weights of INRs as input."""

from lightning_dws.models.dwsnet import DWSNet
from lightning_dws.models.flat_mlp import FlatMLP
from lightning_dws.models.neural_functional import NFN
from lightning_dws.models.neural_graph import NeuralGraph, to_data
from lightning_dws.models.neural_graph_gnn import NeuralGraphGNN
from lightning_dws.models.neural_graph_transformer import NeuralGraphTransformer
from lightning_dws.models.probe_gen import ProbeGen
from lightning_dws.models.recorded import recorded
from lightning_dws.models.standardize import Standardize

__all__ = [
    "NFN",
    "DWSNet",
    "FlatMLP",
    "NeuralGraph",
    "NeuralGraphGNN",
    "NeuralGraphTransformer",
    "ProbeGen",
    "Standardize",
    "recorded",
    "to_data",
]
