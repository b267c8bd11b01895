"""Every INR aligned to one and the same reference."""

import torch

from lightning_dws.canonical.base import CanonicalForm, to_canonical
from lightning_dws.canonical.neurons import Signs, SortedNeurons
from lightning_dws.inrs.siren import initialise_inrs
from lightning_dws.mixup.alignment import SYMMETRIES, Symmetry, align
from lightning_dws.weight_space import INRArchitecture, WeightBatch


class Aligned(CanonicalForm):
    """Move the hidden neurons of every INR as close as possible to those of one reference.

    The function is kept exactly: by ``align``, for permutations of hidden neurons or, for SIRENs,
    signed ones. The search begins at the sorted neurons (of canonical signs), so that what it finds
    is the same for all orders (and signs) that an INR may come in.

    The reference is the start that all objects of view 0 have in common where INRs are fitted with
    ``init: shared`` and the same seed. It depends on nothing but the architecture and the seed: one
    checkpoint reads every store of the architecture.

    Args:
        symmetry: ``"permutation"``, for every activation, or ``"signed_permutation"``, for sine.
        seed: Of the reference.

    Raises:
        ValueError: An unknown symmetry; at the first batch, signed permutations of INRs that are
            not sine networks.
    """

    rank = 3

    def __init__(self, symmetry: Symmetry = "permutation", seed: int = 0) -> None:
        if symmetry not in SYMMETRIES:
            raise ValueError(f"symmetry must be one of {SYMMETRIES}, got {symmetry!r}")
        self.symmetry: Symmetry = symmetry
        self.seed = seed
        signed = symmetry == "signed_permutation"
        self._before = [Signs(), SortedNeurons()] if signed else [SortedNeurons()]

    def check_architecture(self, architecture: INRArchitecture) -> None:
        for form in self._before:
            form.check_architecture(architecture)

    def __call__(self, batch: WeightBatch) -> WeightBatch:
        start = to_canonical(batch, self._before)
        zeros = torch.zeros_like(batch.view)
        reference = initialise_inrs(
            batch.architecture, seed=self.seed, object_id=zeros, view=zeros, shared=1.0
        ).to(batch.parameters.dtype)
        return align(reference, start, self.symmetry).aligned
