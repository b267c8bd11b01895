"""Architectures from plain data, as stores and checkpoints hold them."""

from collections.abc import Mapping
from typing import Any

from lightning_dws.weight_space.inr_architecture import INRArchitecture
from lightning_dws.weight_space.network_architecture import NetworkArchitecture
from lightning_dws.weight_space.tensor_specs import Architecture


def to_plain(architecture: Architecture) -> dict[str, Any]:
    """Give an architecture as plain data, for JSON and checkpoints."""
    return architecture.to_dict()


def read_architecture(plain: Mapping[str, Any]) -> Architecture:
    """Read what ``to_dict`` of an architecture gave; INRs have no ``kind``.

    Raises:
        KeyError, TypeError, ValueError: It is no architecture.
    """
    if "kind" in plain:
        return NetworkArchitecture.from_dict(plain)
    if "widths" not in plain:
        raise ValueError(f"an architecture of INRs must have widths, got {dict(plain)}")
    return INRArchitecture(**plain)
