"""Every INR aligned to one and the same reference."""

from lightning_dws.canonical.base import CanonicalForm, to_canonical
from lightning_dws.canonical.neurons import Signs, SortedNeurons
from lightning_dws.mixup.alignment import SYMMETRIES, Symmetry, align
from lightning_dws.weight_space import Architecture, WeightBatch


class Aligned(CanonicalForm):
    """Move the hidden neurons of every INR as close as possible to those of one reference.

    The function is kept exactly: by ``align``, for permutations of hidden neurons or, for SIRENs,
    signed ones. The search begins at the sorted neurons (of canonical signs), so that what it finds
    is the same for all orders (and signs) that an INR may come in. It does not know in which order
    INRs of a shared start came: they are closer to each other as they are.

    Args:
        symmetry: ``"permutation"``, for every activation, or ``"signed_permutation"``, for sine.

    Raises:
        ValueError: An unknown symmetry; at the first batch, signed permutations of INRs that are
            not sine networks, or no reference.
    """

    rank = 3
    needs_reference = True

    def __init__(self, symmetry: Symmetry = "permutation") -> None:
        if symmetry not in SYMMETRIES:
            raise ValueError(f"symmetry must be one of {SYMMETRIES}, got {symmetry!r}")
        self.symmetry: Symmetry = symmetry
        signed = symmetry == "signed_permutation"
        self._before = [Signs(), SortedNeurons()] if signed else [SortedNeurons()]

    def check_architecture(self, architecture: Architecture) -> None:
        for form in self._before:
            form.check_architecture(architecture)

    def __call__(self, batch: WeightBatch) -> WeightBatch:
        self.check_architecture(batch.architecture)
        if self.reference is None:
            raise ValueError(
                "Aligned needs its reference to be set: the parameters (P,) of one INR"
            )
        start = to_canonical(batch, self._before)
        reference = self.reference.to(start.parameters).expand_as(start.parameters)
        return align(start.replace(parameters=reference), start, self.symmetry).aligned
