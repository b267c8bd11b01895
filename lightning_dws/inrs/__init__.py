"""From signals to weights: INR datasets, fitted, stored and evaluated."""

from lightning_dws.inrs.cifar import CIFAR10
from lightning_dws.inrs.fitting import fit_inrs
from lightning_dws.inrs.formats import export_inrs, import_inrs
from lightning_dws.inrs.image_folder import ImageFolder
from lightning_dws.inrs.images import MNIST, Digits, FashionMNIST
from lightning_dws.inrs.modelnet import ModelNet10, ModelNet40
from lightning_dws.inrs.preparation import INRDatasetSpec, Wanted, prepare_store
from lightning_dws.inrs.recipes import RECIPES, Recipe
from lightning_dws.inrs.shape_samples import Sampling
from lightning_dws.inrs.shapes import MeshFolder, ShapeSignals
from lightning_dws.inrs.signals import ImageSignals, SignalDataset
from lightning_dws.inrs.siren import evaluate_inrs
from lightning_dws.inrs.solids import Solids
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
