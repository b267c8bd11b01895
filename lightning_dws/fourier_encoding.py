"""A positional encoding in front of an INR: sines and cosines of its coordinates."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class FourierEncoding:
    """Sines and cosines of every coordinate x, of which an INR's first layer takes linear maps.

    With frequencies f1, f2, ... a point becomes ``[x, sin(pi f1 x), cos(pi f1 x), sin(pi f2 x),
    ...]``, each for all coordinates before the next, and x itself only where it is asked for. It is
    the encoding of NeRF (Mildenhall et al., 2020, equation 4) for frequencies 1, 2, 4, 8, ..., in
    the order of the authors' code. With whole numbers alone the encoding has the period 2: in
    [-1, 1] opposite edges of a signal are the same point. A lowest frequency of 0.5 (or
    ``include_input``) tells them apart.

    Attributes:
        frequencies: In half turns per unit of a coordinate.
        include_input: Whether the coordinates themselves come first.

    Raises:
        ValueError: No frequency, or one that is not positive and finite or is there twice.
    """

    frequencies: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0)
    include_input: bool = False

    def __post_init__(self) -> None:
        frequencies = tuple(float(frequency) for frequency in self.frequencies)
        object.__setattr__(self, "frequencies", frequencies)
        if not frequencies or not all(0 < value < math.inf for value in frequencies):
            raise ValueError(
                f"frequencies must be positive and finite, got {list(self.frequencies)}"
            )
        if len(set(frequencies)) < len(frequencies):
            raise ValueError(f"frequencies must be different, got {list(self.frequencies)}")
        if not isinstance(self.include_input, bool):
            raise ValueError(f"include_input must be true or false, got {self.include_input!r}")

    @property
    def features_per_input(self) -> int:
        """How many features every coordinate becomes."""
        return 2 * len(self.frequencies) + self.include_input

    def count_inputs(self, num_features: int) -> int:
        """Give the number of coordinates that become so many features.

        Example:
            >>> FourierEncoding((1, 2, 4)).count_inputs(12)
            2

        Raises:
            ValueError: No number of coordinates does.
        """
        inputs, rest = divmod(num_features, self.features_per_input)
        if rest or not inputs:
            raise ValueError(
                f"widths must begin with a multiple of {self.features_per_input}, the features of "
                f"each coordinate behind an encoding of {len(self.frequencies)} frequencies, got "
                f"{num_features}"
            )
        return inputs

    def encode(self, coordinates: Float[Tensor, "*shape"], dim: int = -1) -> Float[Tensor, "..."]:
        """Encode points whose coordinates lie along an axis: it becomes that of the features."""
        parts = [coordinates] if self.include_input else []
        for frequency in self.frequencies:
            angle = math.pi * frequency * coordinates
            parts += [angle.sin(), angle.cos()]
        return torch.cat(parts, dim)

    def flip(
        self, weight: Float[Tensor, "batch out features"], signs: Float[Tensor, "batch inputs"]
    ) -> Float[Tensor, "batch out features"]:
        """Give the first layer's weight behind which -x is what x was, where a sign is -1.

        Sines are odd and cosines even, so it is exact.
        """
        ones = torch.ones_like(signs)
        of_blocks = [signs] if self.include_input else []
        of_blocks += [signs, ones] * len(self.frequencies)
        return weight * torch.cat(of_blocks, dim=1)[:, None, :]

    def translate(
        self, weight: Float[Tensor, "batch out features"], shift: Float[Tensor, "batch inputs"]
    ) -> tuple[Float[Tensor, "batch out features"], Float[Tensor, "batch out"]]:
        """Give the first layer's weight behind which x + shift is what x was.

        Each sine and its cosine turn by the shift's angle, so it is exact.

        Returns:
            The weight, and what comes to the bias.
        """
        inputs = shift.shape[1]
        to_bias = torch.zeros_like(weight[:, :, 0])
        blocks = list(weight.split(inputs, dim=2))
        moved = []
        if self.include_input:
            own = blocks.pop(0)
            to_bias = (own @ shift[:, :, None])[:, :, 0]
            moved.append(own)
        for frequency, sine, cosine in zip(
            self.frequencies, blocks[::2], blocks[1::2], strict=True
        ):
            angle = math.pi * frequency * shift[:, None, :]
            moved.append(sine * angle.cos() - cosine * angle.sin())
            moved.append(sine * angle.sin() + cosine * angle.cos())
        return torch.cat(moved, dim=2), to_bias

    def to_dict(self) -> dict[str, Any]:
        """Give plain data; ``FourierEncoding(**d)`` reads it."""
        return {**asdict(self), "frequencies": list(self.frequencies)}

    def __str__(self) -> str:
        frequencies = " ".join(f"{frequency:g}" for frequency in self.frequencies)
        return f"Fourier encoding {frequencies}" + (" and the input" if self.include_input else "")
