"""How the CNNs of a zoo are trained, and the ranges of what is drawn for each."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from lightning_dws.randomness import hashed_uniform, stream_seed

_LOGARITHMIC = ("learning_rate", "weight_decay", "init_gain", "train_share", "steps")
_WHOLE = ("num_classes", "steps")
DRAWN = (
    "learning_rate",
    "weight_decay",
    "init_gain",
    "dropout",
    "train_share",
    "num_classes",
    "steps",
)


@dataclass(frozen=True)
class ZooRecipe:
    """How CNNs are trained, by AdamW (Loshchilov and Hutter, 2019), and what is drawn for each.

    Each range is (lowest, highest); with both the same, all CNNs have that value.

    Attributes:
        batch_size: Images per step, drawn with replacement: a multiple of 16.
        learning_rate: Of AdamW, drawn uniformly on a logarithmic scale.
        weight_decay: Of AdamW, of all parameters; likewise.
        init_gain: Factor on He's uniform initialisation of the weights; likewise. Biases start at
            zero.
        dropout: Probability with which a channel of an image is dropped behind every ReLU, drawn
            uniformly.
        train_share: Share of the training images of its classes that a CNN sees, drawn uniformly
            on a logarithmic scale.
        num_classes: How many of the classes a CNN is trained on, drawn uniformly; which, too.
        steps: Of training, drawn uniformly on a logarithmic scale.

    Raises:
        ValueError: A range is empty or out of what makes sense.
    """

    batch_size: int = 32
    learning_rate: tuple[float, float] = (1e-3, 3e-2)
    weight_decay: tuple[float, float] = (1e-3, 1.0)
    init_gain: tuple[float, float] = (0.5, 2.0)
    dropout: tuple[float, float] = (0.0, 0.3)
    train_share: tuple[float, float] = (0.1, 1.0)
    num_classes: tuple[int, int] = (6, 10)
    steps: tuple[int, int] = (50, 1500)

    def __post_init__(self) -> None:
        if self.batch_size < 16 or self.batch_size % 16:
            raise ValueError(f"batch_size must be a multiple of 16, got {self.batch_size}")
        limits: dict[str, tuple[float, float]] = {"dropout": (0, 0.99), "train_share": (1e-6, 1)}
        limits |= dict.fromkeys(_WHOLE, (1, 1_000_000))
        for name in DRAWN:
            low, high = getattr(self, name)
            least, most = limits.get(name, (1e-12, 1e12))
            if not least <= low <= high <= most:
                raise ValueError(
                    f"{name} must be (lowest, highest) within [{least:g}, {most:g}], "
                    f"got {(low, high)}"
                )

    @property
    def settings(self) -> dict[str, Any]:
        """Give plain data."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }

    def draw(self, seed: int, index: Tensor) -> dict[str, Tensor]:
        """Draw the hyperparameters of CNNs, of (seed, index) alone.

        Args:
            seed: The zoo's.
            index: (B,) int64, which CNNs.

        Returns:
            (B,) float32 by name, those of ``DRAWN``.
        """
        uniform = hashed_uniform(stream_seed(seed, "hyperparameters"), (index,), len(DRAWN))
        return {
            name: _scale(name, own.double(), *getattr(self, name))
            for name, own in zip(DRAWN, uniform.T, strict=True)
        }


def _scale(name: str, uniform: Tensor, low: float, high: float) -> Tensor:
    """Bring numbers in [0, 1) to a range, in float64, where rounding plays no part."""
    high = high + 1 if name in _WHOLE else high
    if name in _LOGARITHMIC:
        value = low * torch.exp(uniform * math.log(high / low))
    else:
        value = low + uniform * (high - low)
    return (value.floor().clamp_max(high - 1) if name in _WHOLE else value).float()
