"""Checks of a network's options, which name the first that is out of its range."""

from collections.abc import Sequence


def check_options(dropout: float, **at_least_one: int) -> None:
    """Raise ``ValueError`` unless ``dropout`` is in [0, 1) and every count is at least 1."""
    for name, value in at_least_one.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must be in [0, 1), got {dropout}")


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Raise ``ValueError`` unless an option is one of its choices."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {choices}, got {value!r}")


def check_heads(num_heads: int, channels_name: str, channels: int) -> None:
    """Raise ``ValueError`` unless the number of heads divides the channels."""
    if channels % num_heads != 0:
        raise ValueError(
            f"num_heads must divide {channels_name}, got {num_heads} heads for {channels} channels"
        )
