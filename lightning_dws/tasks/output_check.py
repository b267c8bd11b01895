"""Whether a network gives what a classifier must."""

from typing import Any

from torch import Tensor, nn

from lightning_dws.errors import DataError


def check_logits(logits: Any, network: nn.Module, batch_size: int, num_classes: int) -> None:
    """Refuse what is no tensor of logits (B, K).

    Raises:
        DataError: It names the network's class, the shape found and the shape expected.
    """
    expected = (batch_size, num_classes)
    if isinstance(logits, Tensor) and logits.shape == expected:
        return
    kind = type(logits).__name__
    found = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else f"a {kind}"
    raise DataError(
        f"{type(network).__name__} gives {found}, expected logits of shape {expected}: one row an "
        "INR, one column a class"
    )
