"""Any folder of images by class as signals."""

from collections import Counter
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from lightning_dws.errors import DataError
from lightning_dws.inrs.signals.base import pixel_coordinates
from lightning_dws.inrs.signals.class_folders import FileKind
from lightning_dws.inrs.signals.files_by_class import FilesByClass
from lightning_dws.inrs.signals.image_files import (
    ImageProperties,
    is_image_name,
    read_image,
    read_properties,
)

_MODES = ("auto", "grey", "colour", "grey_alpha", "colour_alpha")


class ImageFolder(FilesByClass):
    """Images in ``root/CLASS/*``, or in ``root/{train,test[,val|valid]}/CLASS/*``, or of a table.

    Without folders of splits, the images are one pool, split by a stratified seeded order. With
    them, the splits are as given; validation is cut from training where it is not given. Classes
    are sorted by name, files by class and name; an image's place in that order (training before
    validation before test where they are given) is its object id.

    Any format counts that Pillow decodes itself, by the file's extension; other files and hidden
    ones are left out. Images are turned upright by their EXIF orientation, put on white where they
    are transparent, made grey or RGB, and stretched to one size, by averaging areas where they
    shrink. They are decoded when they are asked for, and kept up to 512 MiB. One that cannot be
    read or decoded is left out of its split, told and noted; its id stays unused.

    Args:
        root: The folder. Links that leave it are refused.
        size: (height, width) of the signals. Default: the most common size of the files.
        mode: ``"grey"`` (one output), ``"colour"`` (three), or ``"auto"``: grey if all files are.
            With ``"grey_alpha"`` (two) and ``"colour_alpha"`` (four) the last is how opaque a pixel
            is, and nothing is put on white.
        val_share: Share for validation: of the pool, or of training where validation is not given.
        test_share: Share of the pool for test; of no effect where splits are given.
        name: The readable part of the dataset's name, letters, digits, ``-`` and ``_``. Default:
            the folder's. Behind it comes a hash of the options and of the files (their places,
            sizes, and first and last 32 KiB), so that other options or files get another store.
        labels: A CSV with a line for each file, ``FILE,CLASS``, or ``FILE,CLASS,SPLIT`` with
            ``train``, ``val`` or ``test``; names are relative to ``root``, with or without their
            extension. A first line may name its columns (``file``, ``class``, ``split``) among
            others. Default: folders are the classes.

    Raises:
        ValueError: An argument out of its range.
        DataError: Not from the constructor, but once data is asked for: the folder has another
            layout, no file can be read, or a class has too few images for the split.
    """

    kind = FileKind("image", is_image_name)

    def __init__(
        self,
        root: str,
        size: tuple[int, int] | None = None,
        mode: Literal["auto", "grey", "colour", "grey_alpha", "colour_alpha"] = "auto",
        val_share: float = 0.1,
        test_share: float = 0.1,
        name: str | None = None,
        labels: str | None = None,
    ) -> None:
        if size is not None and (len(size) != 2 or min(size) < 1):
            raise ValueError(f"size must be (height, width) of at least 1, got {size}")
        if mode not in _MODES:
            raise ValueError(f"mode must be one of {_MODES}, got {mode!r}")
        super().__init__(root, val_share, test_share, name, labels)
        self.size = size
        self.mode = mode
        self.has_alpha = mode.endswith("_alpha")

    @property
    def _options(self) -> dict[str, Any]:
        return {"grid_shape": self.grid_shape, "channels": self.channels}

    @cached_property
    def grid_shape(self) -> tuple[int, int]:  # type: ignore[override]
        if self.size is not None:
            height, width = self.size
            return height, width
        counts = Counter(properties.size for properties in self._properties)
        common = max(counts, key=lambda size: (counts[size], size))
        if counts[common] == 1 < len(counts):
            raise DataError(f"{self.root}: no two images have the same size; give the size")
        return common

    @cached_property
    def channels(self) -> int:
        """1 for grey, 3 for RGB, one more with alpha: the outputs of an INR."""
        return (3 if self._is_colour else 1) + self.has_alpha

    @property
    def _is_colour(self) -> bool:
        if self.mode == "auto":
            return any(properties.is_colour for properties in self._properties)
        return self.mode.startswith("colour")

    @property
    def preparation(self) -> dict[str, Any]:
        return {"kind": "images"}

    @property
    def coordinates(self) -> Tensor:
        return pixel_coordinates(*self.grid_shape)

    def values(self, object_id: Tensor) -> Tensor:
        images = torch.empty(len(object_id), *self.grid_shape, self.channels)
        for row, index in enumerate(object_id.tolist()):
            images[row] = self._read(index)
        return (images / 255).flatten(1, 2)

    def _read_file(self, path: Path) -> Tensor:
        return read_image(path, self.grid_shape, self._is_colour, self.has_alpha)

    @cached_property
    def _properties(self) -> list[ImageProperties]:
        """What the headers of the files say that have readable ones."""
        found, unreadable = [], []
        for path in self._listing.paths:
            try:
                found.append(read_properties(path))
            except DataError as error:
                unreadable.append(str(error))
        if not found:
            raise DataError(f"{self.root}: no image can be read, first {unreadable[0]}")
        return found
