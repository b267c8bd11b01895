"""What INRs are fitted to: images and other labelled signals."""

from lightning_dws.inrs.signals.base import SignalDataset
from lightning_dws.inrs.signals.cifar import CIFAR10
from lightning_dws.inrs.signals.images import MNIST, Digits, FashionMNIST
from lightning_dws.inrs.signals.splits import SPLITS, SplitOrder, stratified_order

__all__ = [
    "CIFAR10",
    "MNIST",
    "SPLITS",
    "Digits",
    "FashionMNIST",
    "SignalDataset",
    "SplitOrder",
    "stratified_order",
]
