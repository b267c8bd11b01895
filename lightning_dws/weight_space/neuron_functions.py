"""What is applied to hidden neurons, and which symmetries of their weights that leaves."""

from lightning_dws.weight_space.inr_architecture import ACTIVATIONS, INRArchitecture
from lightning_dws.weight_space.tensor_specs import Architecture

ODD = frozenset({"sine", "tanh", "softsign", "identity", "avg_pool"})  # f(-z) = -f(z)
HOMOGENEOUS = frozenset({"relu", "leakyrelu", "identity", "max_pool", "avg_pool"})  # c > 0


def require_functions(
    name: str, allowed: frozenset[str], why: str, architecture: Architecture
) -> None:
    """Refuse networks that do anything else to their hidden neurons, or do not say what they do.

    Args:
        name: What is for such networks alone.
        allowed: ``ODD`` or ``HOMOGENEOUS``.
        why: What it needs, or would need.
        architecture: Of the networks.

    Raises:
        ValueError: It names what was found.
    """
    for group in architecture.groups:
        found = architecture.functions_of(group)
        if found and allowed.issuperset(found):
            continue
        if isinstance(architecture, INRArchitecture):
            wanted = ", ".join(activation for activation in ACTIVATIONS if activation in allowed)
            raise ValueError(
                f"{name} is for {wanted} INRs alone ({why}), "
                f"got activation {architecture.activation!r}"
            )
        raise ValueError(
            f"{name} is for networks alone that do nothing with hidden neurons but "
            f"{', '.join(sorted(allowed))} ({why}), got {', '.join(found) or 'nothing said'} "
            f"for group {group!r}"
        )
