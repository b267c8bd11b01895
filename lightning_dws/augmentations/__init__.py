"""Augmentations in weight space: batched, on the batch's device, exact where they say so."""

from lightning_dws.augmentations.base import Augmentation
from lightning_dws.augmentations.compose import Compose, OneOf, RandomOrder
from lightning_dws.augmentations.generic import GaussianNoise, QuantileDropout, WeightDropout
from lightning_dws.augmentations.input_space import Affine, Flip, Rotation, Scaling, Translation
from lightning_dws.augmentations.output_space import Intensity
from lightning_dws.augmentations.symmetry import (
    Permutation,
    ReLUScaling,
    SirenBias,
    SirenNegation,
)

__all__ = [
    "Affine",
    "Augmentation",
    "Compose",
    "Flip",
    "GaussianNoise",
    "Intensity",
    "OneOf",
    "Permutation",
    "QuantileDropout",
    "RandomOrder",
    "ReLUScaling",
    "Rotation",
    "Scaling",
    "SirenBias",
    "SirenNegation",
    "Translation",
    "WeightDropout",
]
