"""Images in memory made such signals as a network's INRs were fitted to."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from lightning_dws.errors import DataError
from lightning_dws.inrs.signals.image_files import convert_image, read_image

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage


def prepare_images(
    images: Iterable[Any], size: tuple[int, int], colour: bool, keep_alpha: bool = False
) -> Tensor:
    """Make images the signals of INRs: one size, grey or RGB, values in [0, 1].

    Args:
        images: Each a file's path, a Pillow image, or an array or tensor, (height, width),
            (height, width, 1 to 4 channels) or (1 or 3 channels, height, width), of uint8 or of
            floating-point values in [0, 1].
        size: (height, width) wanted.
        colour: RGB, else grey.
        keep_alpha: See ``read_image``.

    Returns:
        (B, height * width, 3 or 1) float32, and a channel more with ``keep_alpha``.

    Raises:
        DataError: One is no image; it is named by its position.
    """
    values = []
    for number, image in enumerate(images):
        try:
            values.append(_prepare(image, size, colour, keep_alpha))
        except DataError as error:
            raise DataError(f"image {number}: {error}") from error
    if not values:
        raise DataError("no images were given")
    return torch.stack(values).flatten(1, 2)


def _prepare(image: Any, size: tuple[int, int], colour: bool, keep_alpha: bool) -> Tensor:
    """Give an image (height, width, channels) with values in [0, 1]."""
    from PIL import Image

    if isinstance(image, (str, Path)):
        return read_image(Path(image), size, colour, keep_alpha).float() / 255
    if isinstance(image, Image.Image):
        return _convert(image, size, colour, keep_alpha)
    array = _to_array(image)
    if array.dtype == np.uint8:
        return _convert(_to_pillow(array), size, colour, keep_alpha)
    if not np.issubdtype(array.dtype, np.floating):
        raise DataError(f"values of {array.dtype}, expected uint8 or floating point")
    if not (np.isfinite(array).all() and array.min() >= 0 and array.max() <= 1):
        raise DataError(f"values from {array.min():g} to {array.max():g}, expected some in [0, 1]")
    if array.shape == (
        *size,
        (3 if colour else 1) + keep_alpha,
    ):  # nothing to convert, so nothing is rounded
        return torch.from_numpy(np.ascontiguousarray(array)).float()
    pixels = np.rint(array * 255).astype(np.uint8)
    return _convert(_to_pillow(pixels), size, colour, keep_alpha)


def _convert(image: "PillowImage", size: tuple[int, int], colour: bool, keep_alpha: bool) -> Tensor:
    try:
        return convert_image(image, size, colour, keep_alpha).float() / 255
    except (OSError, ValueError, SyntaxError) as error:  # what Pillow raises when it decodes
        raise DataError(f"not a readable image ({error})") from error


def _to_array(image: Any) -> np.ndarray[Any, Any]:
    """Give an array (height, width, channels)."""
    if isinstance(image, Tensor):
        image = image.detach().cpu()
    try:
        array = np.asarray(image)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"not an image but a {type(image).__name__}") from error
    if array.dtype == object or array.ndim not in (2, 3) or not array.size:
        raise DataError(
            f"not an image but a {type(image).__name__} of shape {array.shape}; expected "
            "(height, width), (height, width, channels) or (channels, height, width)"
        )
    if array.ndim == 2:
        return array[..., None]
    if array.shape[2] in (1, 2, 3, 4):
        return array
    if array.shape[0] in (1, 3):
        return np.moveaxis(array, 0, 2)
    raise DataError(f"shape {array.shape} has neither its first nor its last axis for channels")


def _to_pillow(array: np.ndarray[Any, Any]) -> "PillowImage":
    from PIL import Image

    return Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)
