"""Images that nobody sorted by class, prepared as those that a network was trained on."""

from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from lightning_dws.counting import counted
from lightning_dws.errors import DataError
from lightning_dws.inrs.signals.base import pixel_coordinates
from lightning_dws.inrs.signals.file_listing import name_dataset
from lightning_dws.inrs.signals.image_files import read_image, read_properties
from lightning_dws.inrs.signals.unsorted_files import UnsortedFiles, UnsortedSignals


class UnsortedImages(UnsortedSignals):
    """Image files without classes, all of them in the split ``test``.

    They are decoded as those of an ``ImageFolder``: turned upright, put on white where they are
    transparent unless that is kept, made grey or RGB, and stretched to one size.

    Args:
        root: What the files' names are relative to; it names the dataset.
        paths: The files.
        size: (height, width) of the signals.
        colour: Whether they have three values, red, green and blue, or one.
        keep_alpha: Whether they have one more, how opaque a pixel is.
    """

    def __init__(
        self,
        root: str | Path,
        paths: Sequence[Path],
        size: tuple[int, int],
        colour: bool,
        keep_alpha: bool = False,
    ) -> None:
        height, width = size
        self.grid_shape = (height, width)
        self.colour = colour
        self.has_alpha = keep_alpha
        preparation = {"kind": "image", "size": [height, width], "colour": colour}
        if keep_alpha:  # other ids are as they were before it was kept
            preparation["alpha"] = True
        self.files = UnsortedFiles(Path(root), paths, preparation)

    @cached_property
    def name(self) -> str:  # type: ignore[override]
        return name_dataset(None, self.files.root, "images", self.files.identity)

    @property
    def coordinates(self) -> Tensor:
        height, width = self.grid_shape
        return pixel_coordinates(height, width)

    def values(self, object_id: Tensor) -> Tensor:
        images = [self._read(index) for index in object_id.tolist()]
        if not images:
            channels = (3 if self.colour else 1) + self.has_alpha
            return torch.empty(0, len(self.coordinates), channels)
        return (torch.stack(images) / 255).flatten(1, 2)

    def describe_changes(self) -> list[str]:
        """Tell which images had other proportions or other channels, a line each."""
        height, width = self.grid_shape
        stretched: list[str] = []
        greyed: list[str] = []
        on_white: list[str] = []
        opaque: list[str] = []
        for path in self.files.by_id.values():
            with suppress(DataError):  # it is skipped, and told as such
                found = read_properties(path)
                if found.size[0] * width != found.size[1] * height:
                    stretched.append(f"{path.name} of {found.size[0]}x{found.size[1]}")
                if found.is_colour and not self.colour:
                    greyed.append(path.name)
                if found.has_alpha != self.has_alpha:
                    (on_white if found.has_alpha else opaque).append(path.name)
        changes = []
        if stretched:
            changes.append(
                f"{counted(len(stretched), 'image is', 'images are')} stretched to "
                f"{height}x{width}, such as {stretched[0]}"
            )
        if greyed:
            made = counted(len(greyed), "image is", "images are")
            changes.append(f"{made} made grey, such as {greyed[0]}")
        if on_white:
            changes.append(
                f"{counted(len(on_white), 'image with alpha is', 'images with alpha are')} put on "
                f"white, as the network reads none, such as {on_white[0]}"
            )
        if opaque:
            are = "is" if len(opaque) == 1 else "are"
            changes.append(
                f"{counted(len(opaque), 'image has', 'images have')} no alpha, which the network "
                f"reads, and {are} taken as opaque, such as {opaque[0]}"
            )
        return changes

    def _read_file(self, path: Path) -> Tensor:
        height, width = self.grid_shape
        return read_image(path, (height, width), self.colour, self.has_alpha)
