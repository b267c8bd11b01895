"""Canonical forms: of all weights that make the same function, the same ones for everybody."""

from lightning_dws.canonical.aligned import Aligned
from lightning_dws.canonical.base import CanonicalForm, check_forms, to_canonical
from lightning_dws.canonical.neurons import Phases, Signs, SortedNeurons

__all__ = [
    "Aligned",
    "CanonicalForm",
    "Phases",
    "Signs",
    "SortedNeurons",
    "check_forms",
    "to_canonical",
]
