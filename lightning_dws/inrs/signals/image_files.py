"""Single image files of any format that Pillow decodes itself."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from lightning_dws.errors import DataError
from lightning_dws.files import check_regular

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

# Pillow only recognises these, or hands them to another program.
_UNDECODED_FORMATS = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}
_EXIF_ORIENTATION = 0x0112
_QUARTER_TURNS = range(5, 9)  # the orientations that swap height and width


@dataclass(frozen=True)
class ImageProperties:
    """What an image file's header says.

    Attributes:
        size: (height, width) of the upright image.
        is_colour: False for files that can hold shades of grey alone. A palette counts as colour.
        has_alpha: Whether it says how opaque pixels are.
    """

    size: tuple[int, int]
    is_colour: bool
    has_alpha: bool


def is_image_name(name: str) -> bool:
    """Tell by its extension whether a file is an image."""
    return Path(name).suffix.lower() in _extensions()


def read_properties(path: Path) -> ImageProperties:
    """Read an image file's header, without decoding its pixels.

    Raises:
        DataError: The file is not a readable image, or so large that it could be an attack.
    """
    with opened_image(path) as image:
        width, height = image.size
        # asking some formats for a tag that their header lacks would decode them
        tags = image.getexif() if "exif" in image.info else {}
        if tags.get(_EXIF_ORIENTATION) in _QUARTER_TURNS:
            height, width = width, height
        grey = image.mode in ("1", "L", "LA", "F") or image.mode.startswith("I")
        return ImageProperties((height, width), not grey, image.has_transparency_data)


def read_image(path: Path, size: tuple[int, int], colour: bool, keep_alpha: bool = False) -> Tensor:
    """Decode an image file: upright, on white where it is transparent, in a given size.

    An image of another size is stretched to it: by averaging areas where neither side grows, else
    by (antialiased) linear interpolation. Of an animation it is the first frame.

    Args:
        path: The file.
        size: (height, width) wanted.
        colour: RGB, else grey (the luma of ITU-R 601-2, as Pillow).
        keep_alpha: Keep how opaque a pixel is as the last channel, instead of a white background.
            Where nothing is seen, the colour is white.

    Returns:
        (height, width, 3 or 1) uint8, and a channel more with ``keep_alpha``.

    Raises:
        DataError: The file is not a readable image, or so large that it could be an attack.
    """
    with opened_image(path) as opened:
        return convert_image(opened, size, colour, keep_alpha)


def convert_image(
    image: "PillowImage", size: tuple[int, int], colour: bool, keep_alpha: bool = False
) -> Tensor:
    """Give a Pillow image's pixels as ``read_image`` does those of a file.

    Raises:
        ValueError: Its pixels have no range of their own.
    """
    from PIL import Image, ImageOps

    height, width = size
    upright = _in_eight_bits(ImageOps.exif_transpose(image))
    if keep_alpha:
        upright = upright.convert("RGBA").convert("RGBA" if colour else "LA")
    else:
        upright = _on_white(upright).convert("RGB" if colour else "L")
    if upright.size != (width, height):
        shrinks = width <= upright.width and height <= upright.height
        resampling = Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR
        upright = upright.resize((width, height), resampling)
    pixels = torch.from_numpy(np.array(upright, dtype=np.uint8)).reshape(height, width, -1)
    if keep_alpha:
        pixels[..., :-1][pixels[..., -1] == 0] = 255
    return pixels


@contextmanager
def opened_image(path: Path) -> Iterator["PillowImage"]:
    """Open an image file; what is read of it inside of the block may fail as well.

    Raises:
        DataError: It is not a readable image, or so large that it could be an attack.
    """
    from PIL import Image

    check_regular(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of tags: what matters fails as well
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            # By its name Pillow 13 would map an uncompressed TIFF and turn it upright twice.
            with open(path, "rb") as file, Image.open(file, formats=_formats()) as image:
                yield image
    except DataError:
        raise
    except Exception as error:  # on damaged files Pillow's decoders raise almost anything
        reason = str(error).partition(" <")[0]  # Pillow adds its file object
        raise DataError(f"{path}: not a readable image ({reason})") from error


@cache
def _formats() -> list[str]:
    from PIL import Image

    Image.init()
    return [name for name in Image.OPEN if name not in _UNDECODED_FORMATS]


@cache
def _extensions() -> frozenset[str]:
    from PIL import Image

    known = Image.registered_extensions()
    return frozenset(extension for extension in known if known[extension] in _formats())


def _in_eight_bits(image: "PillowImage") -> "PillowImage":
    """Bring pixels of 16 bits to 8; Pillow's own conversion would clip some kinds."""
    from PIL import Image

    if image.mode == "F":
        raise ValueError("floating-point pixels have no range of their own")
    if not image.mode.startswith("I"):
        return image
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError("pixels of more than 16 bits have no range of their own")
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))


def _on_white(image: "PillowImage") -> "PillowImage":
    from PIL import Image

    if not image.has_transparency_data:
        return image
    layer = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
