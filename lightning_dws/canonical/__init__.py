"""Canonical forms: of all weights that make the same function, the same ones for everybody."""

from lightning_dws.canonical.aligned import Aligned
from lightning_dws.canonical.base import (
    CanonicalForm,
    check_forms,
    needs_reference,
    reference_of,
    set_reference,
    to_canonical,
)
from lightning_dws.canonical.neurons import Phases, Signs, SortedNeurons
from lightning_dws.canonical.record import describe_forms, make_forms

__all__ = [
    "Aligned",
    "CanonicalForm",
    "Phases",
    "Signs",
    "SortedNeurons",
    "check_forms",
    "describe_forms",
    "make_forms",
    "needs_reference",
    "reference_of",
    "set_reference",
    "to_canonical",
]
