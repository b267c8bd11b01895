"""Whether a batch is of the networks that a network was made for."""

from lightning_dws.weight_space import Architecture, INRArchitecture, WeightBatch


def check_architecture(expected: Architecture, batch: WeightBatch) -> None:
    """Refuse networks of another architecture, of which the same weights are other functions.

    Raises:
        ValueError: INRs of other widths, another activation or w0, or other tensors; it names both.
    """
    found = batch.architecture
    if found is expected or found == expected:
        return
    if isinstance(found, INRArchitecture) and isinstance(expected, INRArchitecture):
        for name in ("widths", "activation", "w0"):
            theirs, ours = getattr(found, name), getattr(expected, name)
            if theirs != ours:
                raise ValueError(f"batch must hold INRs of {name} {ours}, got {theirs}")
    elif found.tensors != expected.tensors:
        raise ValueError(f"batch must hold {expected.summary}, got {found.summary}")
