"""From signals to weights: INR datasets, fitted, stored and evaluated."""

from lightning_dws.inrs.fitting import RECIPES, Recipe, fit_inrs
from lightning_dws.inrs.formats import export_inrs, import_inrs
from lightning_dws.inrs.preparation import INRDatasetSpec, Wanted, prepare_store
from lightning_dws.inrs.shapes import (
    MeshFolder,
    ModelNet10,
    ModelNet40,
    Sampling,
    ShapeSignals,
    Solids,
)
from lightning_dws.inrs.signals import (
    CIFAR10,
    MNIST,
    Digits,
    FashionMNIST,
    ImageFolder,
    ImageSignals,
    SignalDataset,
)
from lightning_dws.inrs.siren import evaluate_inrs
from lightning_dws.inrs.store import INRStore

__all__ = [
    "CIFAR10",
    "MNIST",
    "RECIPES",
    "Digits",
    "FashionMNIST",
    "INRDatasetSpec",
    "INRStore",
    "ImageFolder",
    "ImageSignals",
    "MeshFolder",
    "ModelNet10",
    "ModelNet40",
    "Recipe",
    "Sampling",
    "ShapeSignals",
    "SignalDataset",
    "Solids",
    "Wanted",
    "evaluate_inrs",
    "export_inrs",
    "fit_inrs",
    "import_inrs",
    "prepare_store",
]
