"""Whether a batch is of the INRs that a network was made for."""

from lightning_dws.weight_space import INRArchitecture, WeightBatch


def check_architecture(expected: INRArchitecture, batch: WeightBatch) -> None:
    """Refuse INRs of another architecture, of which the same weights are other functions.

    Raises:
        ValueError: Other widths, another activation, w0 or encoding; it names both.
    """
    found = batch.architecture
    if found is expected:
        return
    for name in ("widths", "activation", "w0", "encoding"):
        theirs, ours = getattr(found, name), getattr(expected, name)
        if theirs != ours:
            raise ValueError(f"batch must hold INRs of {name} {ours}, got {theirs}")
