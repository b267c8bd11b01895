"""Small CNNs that are no INRs, as rows of weights and as what they compute."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call

from lightning_dws import NetworkArchitecture, TensorSpec, WeightBatch


class Residual(nn.Module):
    """Two blocks whose shortcuts add to the same channels: one of two convolutions, one of one."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.first = nn.Conv2d(4, 5, 3, padding=1)
        self.second = nn.Conv2d(5, 4, 1, bias=False)
        self.single = nn.Conv2d(4, 4, 3, padding=1)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        x = torch.relu(x + self.second(torch.relu(self.first(x))))
        x = torch.relu(x + self.single(x))
        return self.head(x.mean((2, 3)))


RESIDUAL = NetworkArchitecture(
    [
        TensorSpec("stem.weight", (4, 1, 3, 3), ("a", None, None, None)),
        TensorSpec("stem.bias", (4,), ("a",)),
        TensorSpec("first.weight", (5, 4, 3, 3), ("b", "a", None, None)),
        TensorSpec("first.bias", (5,), ("b",)),
        TensorSpec("second.weight", (4, 5, 1, 1), ("a", "b", None, None)),
        TensorSpec("single.weight", (4, 4, 3, 3), ("a", "a", None, None)),
        TensorSpec("single.bias", (4,), ("a",)),
        TensorSpec("head.weight", (3, 4), (None, "a")),
        TensorSpec("head.bias", (3,), (None,)),
    ],
    {"a": ("relu", "avg_pool"), "b": ("relu",)},
)


def pool_and_flatten() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(4 * 9, 5),
        nn.ReLU(),
        nn.Dropout(0.1),
        nn.Linear(5, 3),
    ).eval()


def small_kernels() -> nn.Module:
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(2, 4, 3, stride=2), nn.Tanh()),
        nn.Conv2d(4, 5, 1),
        nn.Tanh(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(5, 3),
    )


def no_bias() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 3, 3, bias=False),
        nn.LeakyReLU(0.1),
        nn.Conv2d(3, 4, 3, padding=1, bias=False),
        nn.Flatten(),
        nn.Linear(4 * 36, 3, bias=False),
    )


CNNS: dict[str, Callable[[], nn.Module]] = {
    "pool_and_flatten": pool_and_flatten,
    "small_kernels": small_kernels,
    "no_bias": no_bias,
    "residual": Residual,
}


def architecture_of(name: str) -> NetworkArchitecture:
    if name == "residual":
        return RESIDUAL
    return NetworkArchitecture.from_module(CNNS[name](), (2, 8, 8))


def cnn_batch(name: str, size: int = 4, dtype: torch.dtype = torch.float64) -> WeightBatch:
    """Give random CNNs, no two neurons of which are alike."""
    architecture = architecture_of(name)
    generator = torch.Generator().manual_seed(0)
    parameters = torch.randn(size, architecture.num_parameters, generator=generator, dtype=dtype)
    return WeightBatch.from_parameters(architecture, parameters * 0.3)


def logits(name: str, batch: WeightBatch) -> Tensor:
    """Give what every CNN computes of the same 6 images: (B, 6, 3)."""
    module = CNNS[name]()
    generator = torch.Generator().manual_seed(1)
    channels = next(module.parameters()).shape[1]
    images = torch.randn(6, channels, 8, 8, generator=generator, dtype=batch.parameters.dtype)

    def compute(parameters: dict[str, Tensor]) -> Tensor:
        return functional_call(module, parameters, (images,))

    return torch.vmap(compute)(batch.named_parameters(module))
