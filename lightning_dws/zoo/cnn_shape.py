"""The layers of the CNNs of a zoo."""

from dataclasses import dataclass
from itertools import pairwise

from torch import nn


@dataclass(frozen=True)
class CNNShape:
    """The layers of a small CNN: convolutions with ReLU, the mean over all positions, a linear one.

    Convolutions have no padding, so an image must be large enough for all of them.

    Attributes:
        image_size: (height, width).
        in_channels: Of an image.
        channels: Outputs of every convolution.
        kernel_size: Of every convolution.
        stride: Likewise.
        num_classes: Outputs of the linear layer.

    Raises:
        ValueError: A number below 1, no convolution, or an image too small.
    """

    image_size: tuple[int, int]
    in_channels: int
    channels: tuple[int, ...]
    kernel_size: int
    stride: int
    num_classes: int

    def __post_init__(self) -> None:
        numbers = (*self.image_size, self.in_channels, *self.channels, self.kernel_size)
        numbers += (self.stride,)
        if not self.channels or min(numbers) < 1:
            raise ValueError(
                "channels (one for each convolution), kernel_size and stride must be positive "
                f"numbers, got {self.channels}, {self.kernel_size} and {self.stride}"
            )
        if min(self.sizes[-1]) < 1:
            raise ValueError(
                f"{len(self.channels)} convolutions of kernel_size {self.kernel_size} leave "
                f"nothing of an image of {self.image_size[0]}x{self.image_size[1]}"
            )

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """(height, width) of the image and behind every convolution."""
        sizes = [self.image_size]
        for _ in self.channels:
            height, width = ((size - self.kernel_size) // self.stride + 1 for size in sizes[-1])
            sizes.append((height, width))
        return sizes

    @property
    def fan_ins(self) -> list[int]:
        """Inputs of a neuron of every layer, the linear one last."""
        widths = (self.in_channels, *self.channels[:-1])
        return [*(width * self.kernel_size**2 for width in widths), self.channels[-1]]

    @property
    def fan_outs(self) -> list[int]:
        """Neurons of every layer: channels, and classes last."""
        return [*self.channels, self.num_classes]

    @property
    def num_parameters(self) -> int:
        layers = zip(self.fan_ins, self.fan_outs, strict=True)
        return sum((fan_in + 1) * out for fan_in, out in layers)

    def to_sequential(self) -> nn.Sequential:
        """Give such a CNN, for images (N, channels, height, width), as torch initialises it."""
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise((self.in_channels, *self.channels)):
            layers += [nn.Conv2d(n_in, n_out, self.kernel_size, self.stride), nn.ReLU()]
        linear = nn.Linear(self.channels[-1], self.num_classes)
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear)
