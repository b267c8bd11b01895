"""Whether a network gives what its task needs."""

from typing import Any

from torch import Tensor, nn

from lightning_dws.errors import DataError


def check_output(
    output: Any,
    network: nn.Module,
    batch_size: int,
    num_outputs: int,
    meaning: str = "logits",
    column: str = "a class",
) -> None:
    """Refuse what is no tensor (B, K).

    Args:
        output: Of the network.
        network: For the message.
        batch_size: B.
        num_outputs: K.
        meaning: What the output is.
        column: What each of its columns is.

    Raises:
        DataError: It names the network's class, the shape found and the shape expected.
    """
    expected = (batch_size, num_outputs)
    if isinstance(output, Tensor) and output.shape == expected:
        return
    kind = type(output).__name__
    found = f"shape {tuple(output.shape)}" if isinstance(output, Tensor) else f"a {kind}"
    raise DataError(
        f"{type(network).__name__} gives {found}, expected {meaning} of shape {expected}: one row "
        f"an INR, one column {column}"
    )
