"""What decides the CNNs of a zoo."""

from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from lightning_dws.counting import counted
from lightning_dws.errors import DataError
from lightning_dws.inrs.signals import SPLITS, SignalDataset
from lightning_dws.inrs.store import StoreHeader
from lightning_dws.weight_space import NetworkArchitecture
from lightning_dws.zoo.cnn_shape import CNNShape
from lightning_dws.zoo.cnn_training import MEASURES, ZooImages
from lightning_dws.zoo.zoo_recipe import ZooRecipe


@dataclass(frozen=True)
class ZooSpec:
    """What decides the CNNs of a zoo: equal specs give equal CNNs.

    Attributes:
        signals: The images, with classes. CNNs are trained on those for training, and tested on
            those for validation and test.
        channels: Outputs of every convolution.
        kernel_size: Of every convolution.
        stride: Likewise.
        training: How they are trained, and what is drawn for each.
        seed: Of all that is drawn.

    Raises:
        ValueError: The signals are no images, or a CNN is to be trained on more classes than they
            have.
    """

    signals: SignalDataset
    channels: tuple[int, ...] = (8, 8, 8)
    kernel_size: int = 3
    stride: int = 1
    training: ZooRecipe = field(default_factory=ZooRecipe)
    seed: int = 0

    def __post_init__(self) -> None:
        if len(self.signals.grid_shape) != 2:
            raise ValueError(f"CNNs are trained on images, and {self.signals.name} has none")
        most, there_are = self.training.num_classes[1], len(self.signals.classes)
        if most > there_are:
            raise ValueError(
                f"num_classes is up to {most}, and {self.signals.name} has "
                f"{counted(there_are, 'class', 'classes')}"
            )

    @cached_property
    def images(self) -> ZooImages:
        """All images, loaded when they are first asked for.

        Raises:
            DataError: There are none for training, or none to test on.
        """
        self.signals.prepare(dict.fromkeys(SPLITS), show_progress=False)
        parts = {}
        for split in SPLITS:
            order = self.signals.first(split, None)
            values = self.signals.values(order.object_id)
            images = values.mT.unflatten(2, self._image_size)
            parts[split] = (images, order.label)
        test = [torch.cat(both) for both in zip(parts["val"], parts["test"], strict=True)]
        if not len(parts["train"][0]) or not len(test[0]):
            raise DataError(f"{self.signals.name}: images for training and for test are needed")
        return ZooImages(*parts["train"], *test)

    @cached_property
    def shape(self) -> CNNShape:
        """The layers of every CNN."""
        in_channels = self.images.images.shape[1]
        classes = len(self.signals.classes)
        return CNNShape(
            self._image_size, in_channels, self.channels, self.kernel_size, self.stride, classes
        )

    @property
    def _image_size(self) -> tuple[int, int]:
        height, width = self.signals.grid_shape
        return height, width

    @cached_property
    def header(self) -> StoreHeader:
        """Of the zoo's store: its CNNs have no classes, and the measures are what is known."""
        input_shape = (self.shape.in_channels, *self._image_size)
        settings = {
            "cnns_of": self.signals.name,
            "stride": self.stride,
            "training": self.training.settings,
        }
        return StoreHeader(
            architecture=NetworkArchitecture.from_module(self.shape.to_sequential(), input_shape),
            classes=(),
            signals=f"cnns_of_{self.signals.name}",
            grid_shape=(),
            recipe=settings,
            seed=self.seed,
            measures=MEASURES,
        )

    @property
    def store_name(self) -> str:
        """A folder name that differs wherever the CNNs would: readable, then a hash."""
        channels = "-".join(map(str, self.channels))
        return f"zoo_{self.signals.name}_{channels}_{self.header.fingerprint[:8]}"


def split_indices(split: str, num_networks: int) -> Tensor:
    """Give the indices of a split's CNNs, of ten 8 for ``train``, 1 for ``val`` and ``test``.

    A larger zoo begins with the CNNs of a smaller one, in the same splits.

    Example:
        >>> split_indices("val", 30)
        tensor([ 8, 18, 28])
    """
    index = torch.arange(num_networks)
    place = index % 10
    return index[{"train": place < 8, "val": place == 8, "test": place == 9}[split]]
