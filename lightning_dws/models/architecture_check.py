"""Whether a batch is of the networks that a model was made for."""

from lightning_dws.weight_space import Architecture, INRArchitecture, WeightBatch


def check_architecture(expected: Architecture, batch: WeightBatch) -> None:
    """Refuse networks of another architecture, of which the same weights are other functions.

    Raises:
        ValueError: Other widths, another activation, w0 or encoding, or other tensors; it names
            both.
    """
    found = batch.architecture
    if found is expected:
        return
    if not (isinstance(found, INRArchitecture) and isinstance(expected, INRArchitecture)):
        if found != expected:
            raise ValueError(f"batch must hold {_describe(expected)}, got {_describe(found)}")
        return
    for name in ("widths", "activation", "w0", "encoding"):
        theirs, ours = getattr(found, name), getattr(expected, name)
        if theirs != ours:
            raise ValueError(f"batch must hold INRs of {name} {ours}, got {theirs}")


def _describe(architecture: Architecture) -> str:
    kind = "INRs of " if isinstance(architecture, INRArchitecture) else ""
    functions = {group: architecture.functions_of(group) for group in architecture.groups}
    return f"{kind}{architecture.summary} with {functions}"
