"""What an INR is edited to: images, and what is to become of them."""

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float, Int64
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor
from torch.nn import functional

from lightning_dws.augmentations import (
    Affine,
    Augmentation,
    Flip,
    Intensity,
    Rotation,
    Scaling,
    Translation,
)
from lightning_dws.errors import DataError
from lightning_dws.inrs.known_signals import find_originals
from lightning_dws.inrs.siren import evaluate_inrs
from lightning_dws.weight_space import INRArchitecture, WeightBatch

EditName = Literal["dilate", "contrast"]
SourceName = Literal["auto", "originals", "reconstructions"]
Images = Float[Tensor, "batch height width channels"]
Edit = Callable[..., Images]  # of images, and whether they have alpha: has_alpha

_LEAST_ALPHA = torch.finfo(torch.float32).tiny
_MOVING = (Affine, Flip, Intensity, Rotation, Scaling, Translation)


def dilate(images: Images, radius: int, has_alpha: bool = False) -> Images:
    """Dilate images: each pixel becomes the brightest within so many pixels of it, in a square.

    With alpha, what is seen is dilated: a pixel counts as bright as it is on black, so that a
    transparent one counts nothing, and alpha grows as what is seen does.
    """
    size = 2 * radius + 1
    seen = _on_black(images) if has_alpha else images
    dilated = functional.max_pool2d(seen.movedim(-1, 1), size, 1, radius).movedim(1, -1)
    return _off_black(dilated) if has_alpha else dilated


def raise_contrast(images: Images, factor: float, has_alpha: bool = False) -> Images:
    """Multiply each pixel's distance from its image's mean, within [0, 1].

    With alpha, the mean is that of what is seen, and alpha stays as it is.
    """
    if not has_alpha:
        return _away_from(images.mean(dim=(1, 2), keepdim=True), images, factor)
    colours, alpha = images[..., :-1], images[..., -1:]
    total = alpha.sum(dim=(1, 2), keepdim=True).clamp_min(torch.finfo(alpha.dtype).tiny)
    mean = (colours * alpha).sum(dim=(1, 2), keepdim=True) / total
    edited = torch.where(alpha > 0, _away_from(mean, colours, factor), colours)
    return torch.cat([edited, alpha], dim=-1)


def _away_from(mean: Images, colours: Images, factor: float) -> Images:
    return (mean + factor * (colours - mean)).clamp(0, 1)


def _on_black(images: Images) -> Images:
    """Give images with alpha (the last channel) with their colours as they are seen on black."""
    return torch.cat([images[..., :-1] * images[..., -1:], images[..., -1:]], dim=-1)


def _off_black(images: Images) -> Images:
    """Undo ``_on_black``; where nothing is seen, the colour is white, as in files."""
    seen, alpha = images[..., :-1], images[..., -1:]
    colours = torch.where(alpha > 0, (seen / alpha.clamp_min(_LEAST_ALPHA)).clamp(0, 1), 1.0)
    return torch.cat([colours, alpha], dim=-1)


class EditTargets:
    """Images of the INRs of a datamodule, edited on the device.

    Args:
        data: The datamodule, with the tables of its stage; of 2-D INRs.
        edit: What becomes of an image.
        source: Where images are from: ``originals``, that the INRs were fitted to, or their own
            ``reconstructions``; ``auto`` is the former where they are at hand. It is said which.
        device: Where originals are kept.

    Raises:
        DataError: The INRs are of no images, or there are no originals.
    """

    def __init__(
        self, data: Any, edit: Edit, source: SourceName, device: torch.device | str
    ) -> None:
        self.grid_shape: tuple[int, ...] = tuple(data.grid_shape)
        if not isinstance(data.architecture, INRArchitecture) or len(self.grid_shape) != 2:
            raise DataError(
                f"{data.directory}: editing is of INRs of images, with two inputs; these are "
                f"{data.architecture.summary}"
            )
        self._edit = edit
        self._has_alpha: bool = data.store.header.convention.has_alpha
        self._low, self._high = data.store.header.convention.value_range
        self._coordinates = data.store.header.convention.coordinates(*self.grid_shape).to(device)
        self._ids: Int64[Tensor, objects] | None = None
        self._originals: Images | None = None
        if source != "reconstructions":
            self._find_originals(data, source, device)
        self.source = "reconstructions" if self._originals is None else "originals"
        name = data.store.header.signals
        of = "the INRs' own reconstructions" if self._originals is None else f"originals of {name}"
        rank_zero_only(sys.stderr.write)(f"targets of the editing: made of {of}\n")

    def _find_originals(self, data: Any, source: SourceName, device: torch.device | str) -> None:
        ids = _object_ids(data.tables)
        try:
            signals = data.dataset.signals if data.dataset else None
            signals = signals or find_originals(data.directory, data.store.header)
            if signals is not None:
                images = signals.values(ids).unflatten(1, self.grid_shape)
                self._ids, self._originals = ids.to(device), images.float().to(device)
        except DataError as error:
            if source == "originals":
                raise
            rank_zero_only(sys.stderr.write)(f"without originals: {error}\n")
        if self._originals is None and source == "originals":
            raise DataError(
                f"{data.directory}: what its INRs were fitted to is not known; "
                "--model.source reconstructions makes targets of the INRs themselves"
            )

    def render(self, inrs: WeightBatch) -> Images:
        """Evaluate INRs at the pixels: 0 is black and 1 white, unclipped and differentiable."""
        values = evaluate_inrs(inrs, self._coordinates.to(inrs.parameters))
        images: Images = (values - self._low) / (self._high - self._low)
        return images.unflatten(1, self.grid_shape)  # type: ignore[no-any-return]

    def of(self, inrs: WeightBatch) -> Images:
        """Give the images that INRs are to compute."""
        if self._originals is None or self._ids is None:
            with torch.no_grad():
                images = self.render(inrs).clamp(0, 1)
        else:
            images = self._originals[torch.searchsorted(self._ids, inrs.object_id)]
        return self._edit(images, has_alpha=self._has_alpha)


def check_function_kept(augmentations: Sequence[Augmentation]) -> None:
    """Refuse augmentations after which an INR does not encode its original any more.

    Raises:
        DataError: It names the first.
    """
    for augmentation in augmentations:
        check_function_kept(getattr(augmentation, "augmentations", ()))  # of a combination
        if isinstance(augmentation, _MOVING):
            raise DataError(
                f"{type(augmentation).__name__} changes what an INR encodes, and the task editing "
                "compares it with its original: leave it out, or take --model.source "
                "reconstructions"
            )


def _object_ids(tables: Mapping[str, Any]) -> Int64[Tensor, "objects"]:
    """Give the ids of all objects that are loaded, sorted, on the CPU."""
    ids = [part.object_id.cpu() for table in tables.values() for part in table.chunks()]
    distinct: Tensor = torch.cat(ids).unique()
    return distinct
