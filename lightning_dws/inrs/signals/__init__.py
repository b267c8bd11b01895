"""What INRs are fitted to: images and other labelled signals."""

from lightning_dws.inrs.signals.base import SPLITS, ImageSignals, SignalDataset, SplitOrder
from lightning_dws.inrs.signals.cifar import CIFAR10
from lightning_dws.inrs.signals.image_folder import ImageFolder
from lightning_dws.inrs.signals.images import MNIST, Digits, FashionMNIST

__all__ = [
    "CIFAR10",
    "MNIST",
    "SPLITS",
    "Digits",
    "FashionMNIST",
    "ImageFolder",
    "ImageSignals",
    "SignalDataset",
    "SplitOrder",
]
