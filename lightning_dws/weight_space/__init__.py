"""What moves between the rooms: rows of weights, and what kind of network each of them is."""

from lightning_dws.weight_space.batch import WeightBatch, cat
from lightning_dws.weight_space.inr_architecture import (
    ACTIVATIONS,
    INRArchitecture,
    require_inrs,
)
from lightning_dws.weight_space.network_architecture import NetworkArchitecture
from lightning_dws.weight_space.neuron_functions import HOMOGENEOUS, ODD, require_functions
from lightning_dws.weight_space.plain_data import read_architecture, to_plain
from lightning_dws.weight_space.tensor_specs import Architecture, TensorSpec

__all__ = [
    "ACTIVATIONS",
    "HOMOGENEOUS",
    "ODD",
    "Architecture",
    "INRArchitecture",
    "NetworkArchitecture",
    "TensorSpec",
    "WeightBatch",
    "cat",
    "read_architecture",
    "require_functions",
    "require_inrs",
    "to_plain",
]
