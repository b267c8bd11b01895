"""The modules of an INR as an ``nn.Sequential``, beside its linear layers."""

import torch
from torch import Tensor, nn

from lightning_dws.fourier_encoding import FourierEncoding


class Encode(nn.Module):
    """The encoding of coordinates (N, d), as features (N, F) of the first layer."""

    def __init__(self, encoding: FourierEncoding) -> None:
        super().__init__()
        self.encoding = encoding

    def forward(self, coordinates: Tensor) -> Tensor:
        return self.encoding.encode(coordinates)

    def extra_repr(self) -> str:
        return str(self.encoding)


class Sine(nn.Module):
    """The SIREN activation ``sin(w0 z)``."""

    def __init__(self, w0: float) -> None:
        super().__init__()
        self.w0 = w0

    def forward(self, z: Tensor) -> Tensor:
        return torch.sin(self.w0 * z)

    def extra_repr(self) -> str:
        return f"w0={self.w0}"


class OutputOffset(nn.Module):
    """Add the architecture's constant output offset."""

    def __init__(self, offset: float) -> None:
        super().__init__()
        self.offset = offset

    def forward(self, y: Tensor) -> Tensor:
        return y + self.offset

    def extra_repr(self) -> str:
        return f"{self.offset}"


def find_conflict(
    network: nn.Module,
    activation: str,
    w0: float,
    output_offset: float,
    encoding: FourierEncoding | None = None,
) -> str | None:
    """Tell where a network's own modules say that it computes something else; None if nowhere.

    Modules of other classes than ours and ``nn.ReLU`` say nothing.
    """
    for module in network.modules():
        if isinstance(module, (Sine, nn.ReLU)):
            found = "sine" if isinstance(module, Sine) else "relu"
            if found != activation:
                return f"activation {found}, expected {activation}"
        if isinstance(module, Sine) and module.w0 != w0:
            return f"w0 {module.w0:g}, expected {w0:g}"
        if isinstance(module, OutputOffset) and module.offset != output_offset:
            return f"output offset {module.offset:g}, expected {output_offset:g}"
        if isinstance(module, Encode) and module.encoding != encoding:
            return f"{module.encoding}, expected {encoding or 'no encoding'}"
    return None
