"""Every augmentation once, with an architecture it is for: what the common tests run over."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from hypothesis import strategies as st

from lightning_dws import INRArchitecture, WeightBatch
from lightning_dws.augmentations import (
    Affine,
    Augmentation,
    Compose,
    Flip,
    GaussianNoise,
    Intensity,
    OneOf,
    Permutation,
    QuantileDropout,
    RandomOrder,
    ReLUScaling,
    Rotation,
    Scaling,
    SirenBias,
    SirenNegation,
    Translation,
    WeightDropout,
)
from lightning_dws.fourier_encoding import FourierEncoding

IMAGE = INRArchitecture((2, 8, 7, 1))
SHAPE = INRArchitecture((3, 6, 6, 6, 1), output_offset=0.0)
RELU = INRArchitecture((2, 8, 7, 3), activation="relu")
ENCODED = INRArchitecture(
    (10, 8, 7, 1), activation="relu", encoding=FourierEncoding((0.5, 2.0), True)
)


@dataclass(frozen=True)
class Example:
    make: Callable[..., Augmentation]  # takes p
    architecture: INRArchitecture
    name: str


def _parts() -> list[Augmentation]:
    return [Translation(), GaussianNoise(p=0.5), SirenNegation()]


EXAMPLES = [
    *(
        Example(make, IMAGE, make.__name__)
        for make in (
            GaussianNoise,
            WeightDropout,
            QuantileDropout,
            SirenNegation,
            SirenBias,
            Permutation,
            Rotation,
            Translation,
            Scaling,
            Flip,
            Affine,
            Intensity,
        )
    ),
    Example(ReLUScaling, RELU, "ReLUScaling"),
    Example(Permutation, RELU, "Permutation-relu"),
    Example(Translation, ENCODED, "Translation-encoded"),
    Example(lambda p=1.0: Flip((1, 0), p=p), ENCODED, "Flip-encoded"),
    Example(Rotation, SHAPE, "Rotation-3d"),
    Example(lambda p=1.0: Rotation(180, axis="z", p=p), SHAPE, "Rotation-z"),
    Example(Affine, SHAPE, "Affine-3d"),
    Example(lambda p=1.0: Scaling(rescale_output=True, p=p), SHAPE, "Scaling-sdf"),
    Example(lambda p=1.0: Flip((0, 2), p=p), SHAPE, "Flip-3d"),
    Example(lambda p=1.0: Compose(_parts(), p=p), IMAGE, "Compose"),
    Example(lambda p=1.0: OneOf(_parts(), p=p), IMAGE, "OneOf"),
    Example(lambda p=1.0: RandomOrder(_parts(), p=p), IMAGE, "RandomOrder"),
    Example(lambda p=1.0: Compose([OneOf(_parts()), Flip(p=0.5)], p=p), IMAGE, "nested"),
]


def random_batch(
    architecture: INRArchitecture, size: int, seed: int = 0, dtype: torch.dtype = torch.float64
) -> WeightBatch:
    """Rows with a spread like that of fitted INRs, so that ``sin(w0 z)`` is far from linear."""
    numbers = torch.randn(
        size, architecture.num_parameters, generator=generator(seed), dtype=torch.float64
    )
    scale = 0.1 if architecture.activation == "sine" else 0.5
    return WeightBatch.from_parameters(architecture, (scale * numbers).to(dtype))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def points(architecture: INRArchitecture, count: int = 9) -> torch.Tensor:
    size = (count, architecture.in_features)
    return 2 * torch.rand(size, generator=generator(1), dtype=torch.float64) - 1


ENCODINGS = (None, FourierEncoding((0.5, 1, 3)), FourierEncoding((1, 2), include_input=True))


@st.composite
def architectures(
    draw: st.DrawFn,
    activations: tuple[str, ...] = ("sine", "relu"),
    inputs: tuple[int, ...] = (2, 3),
    encodings: tuple[FourierEncoding | None, ...] = (None,),
) -> INRArchitecture:
    """Two to five linear layers of any widths."""
    hidden = draw(st.lists(st.integers(1, 7), min_size=1, max_size=4))
    encoding = draw(st.sampled_from(encodings))
    features = draw(st.sampled_from(inputs)) * (encoding.features_per_input if encoding else 1)
    return INRArchitecture(
        (features, *hidden, draw(st.integers(1, 3))),
        activation=draw(st.sampled_from(activations)),
        w0=draw(st.sampled_from((1.0, 10.0, 30.0))),
        output_offset=draw(st.sampled_from((0.0, 0.5))),
        encoding=encoding,
    )
