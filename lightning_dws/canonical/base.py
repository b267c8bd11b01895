"""What every canonical form shares."""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from lightning_dws.errors import DataError
from lightning_dws.weight_space import Architecture, WeightBatch


class CanonicalForm(ABC):
    """Moves INRs by a symmetry of their function to one of the INRs that it makes equal.

    What comes out computes the same function, depends on no other INR of the batch, is the same
    whichever of the equal INRs came in, and is not moved by a second call. An augmentation of the
    same symmetry is the other way to tell a network what does not matter.

    A subclass writes ``__call__``, and may refuse architectures that it is wrong for.

    Attributes:
        rank: Of forms that follow one another those of lower rank come first, where they are not to
            undo each other; None: anywhere.
        needs_reference: Whether the form compares INRs with one of them, ``reference``.
        reference: (P,) that INR's parameters; a datamodule gives its first one for training, and
            keeps it in checkpoints.
    """

    rank: ClassVar[int | None] = None
    needs_reference: ClassVar[bool] = False
    reference: Tensor | None = None

    @abstractmethod
    def __call__(self, batch: WeightBatch) -> WeightBatch:
        """Give the canonical INRs of a batch, in new memory."""

    def check_architecture(self, architecture: Architecture) -> None:  # noqa: B027  a choice
        """Raise ``ValueError`` where this form is wrong for the architecture."""


def check_forms(forms: Sequence[CanonicalForm], architecture: Architecture) -> None:
    """Make sure that canonical forms are right for the INRs, and in an order that lasts.

    Raises:
        DataError: A form has no meaning for the architecture, or would undo an earlier one.
    """
    for form in forms:
        try:
            form.check_architecture(architecture)
        except ValueError as error:
            raise DataError(f"canonical: {error}") from error
    ranked = [form for form in forms if form.rank is not None]
    for first, second in itertools.pairwise(ranked):
        if (first.rank or 0) >= (second.rank or 0):
            names = [type(form).__name__ for form in ranked]
            raise DataError(
                f"canonical: {names[ranked.index(second)]} must not stand behind "
                f"{names[ranked.index(first)]}, whose work it would undo; the order is Phases, "
                f"Signs, SortedNeurons, Aligned, each once, got {', '.join(names)}"
            )


def needs_reference(forms: Sequence[CanonicalForm]) -> bool:
    """Whether one of the forms compares INRs with a reference."""
    return any(form.needs_reference for form in forms)


def reference_of(forms: Sequence[CanonicalForm]) -> Tensor | None:
    """Give the reference (P,) of forms that have one."""
    return next((form.reference for form in forms if form.reference is not None), None)


def set_reference(forms: Sequence[CanonicalForm], reference: Tensor | None) -> None:
    """Let forms compare INRs with one, of parameters (P,)."""
    for form in forms:
        form.reference = reference


def to_canonical(batch: WeightBatch, forms: Sequence[CanonicalForm]) -> WeightBatch:
    """Bring a batch into canonical forms, one after another; labels and ids stay its own.

    Args:
        batch: B INRs; not changed.
        forms: In an order that ``check_forms`` accepts.

    Raises:
        DataError: A form gives something else than as many INRs of the same architecture.
    """
    for form in forms:
        found = form(batch).parameters
        if found.shape != batch.parameters.shape:
            raise DataError(
                f"canonical: {type(form).__name__} gives parameters of shape "
                f"{tuple(found.shape)}, expected {tuple(batch.parameters.shape)}"
            )
        batch = batch.replace(parameters=found)
    return batch
