"""From signals to weights: INR datasets, fitted, stored and evaluated."""

from lightning_dws.inrs.fitting import RECIPES, Recipe, fit_inrs
from lightning_dws.inrs.formats import export_inrs, import_inrs
from lightning_dws.inrs.preparation import INRDatasetSpec, Wanted, prepare_store
from lightning_dws.inrs.shapes import ShapeSignals, Solids
from lightning_dws.inrs.shapes.mesh_folder import MeshFolder
from lightning_dws.inrs.shapes.modelnet import ModelNet10, ModelNet40
from lightning_dws.inrs.shapes.samples import Sampling
from lightning_dws.inrs.signals import CIFAR10, MNIST, Digits, FashionMNIST, SignalDataset
from lightning_dws.inrs.signals.arrays import ArrayFolder
from lightning_dws.inrs.signals.base import ImageSignals
from lightning_dws.inrs.signals.image_folder import ImageFolder
from lightning_dws.inrs.siren import evaluate_inrs
from lightning_dws.inrs.sounds import AudioFolder, SoundSignals, SpokenDigits
from lightning_dws.inrs.store import INRStore

__all__ = [
    "CIFAR10",
    "MNIST",
    "RECIPES",
    "ArrayFolder",
    "AudioFolder",
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
    "SoundSignals",
    "SpokenDigits",
    "Wanted",
    "evaluate_inrs",
    "export_inrs",
    "fit_inrs",
    "import_inrs",
    "prepare_store",
]
