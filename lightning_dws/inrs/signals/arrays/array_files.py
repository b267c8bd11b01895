"""Single files of arrays: ``.npy``, of which nothing is unpickled, and TIFF of one page or more."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from lightning_dws.errors import DataError
from lightning_dws.files import check_regular
from lightning_dws.inrs.signals.image_files import opened_image

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

Array = NDArray[np.float64]
Found = TypeVar("Found")

_TIFF_SUFFIXES = (".tif", ".tiff")
_MOST_VALUES = 2**27  # of a file: 512 along three axes
_NUMBERS = "biuf"  # kinds of NumPy's types: bool, integers, floating point
_PAGE_MODES = ("1", "L", "LA", "RGB", "RGBA", "I", "I;16", "I;16B", "F")  # of Pillow
_BITS, _SAMPLE_FORMAT, _UNSIGNED = 258, 339, 1  # tags of TIFF


@dataclass(frozen=True)
class ArrayProperties:
    """What an array's header says.

    Attributes:
        size: Along each axis of its grid.
        channels: Values at each of the grid's points.
    """

    size: tuple[int, ...]
    channels: int


def is_array_name(name: str) -> bool:
    """Tell by its extension whether a file holds an array."""
    return Path(name).suffix.lower() in (".npy", *_TIFF_SUFFIXES)


def read_array_properties(path: Path, num_axes: int) -> ArrayProperties:
    """Read an array's shape without its values.

    Args:
        path: The file.
        num_axes: Of its grid. An axis behind them is that of the channels.

    Raises:
        DataError: See ``read_array``; but values that are not finite are not noticed.
    """
    if _is_tiff(path):
        return _read_pages(path, num_axes, lambda shape, pages: _split(path, shape, num_axes))
    return _split(path, _map(path).shape, num_axes)


def read_array(path: Path, num_axes: int) -> Array:
    """Read an array: (*size, channels).

    Args:
        path: An ``.npy`` file, or a TIFF file, whose pages are the first of three axes; of fewer
            axes it has one page.
        num_axes: Of its grid. An axis behind them is that of the channels; without one there is
            one channel.

    Raises:
        DataError: The file cannot be read, holds something else than finite numbers, has other
            axes or is too large. Pickled objects are never opened.
    """
    if _is_tiff(path):
        return _read_pages(path, num_axes, lambda shape, pages: _stack(path, shape, pages))
    return check_array(_map(path), num_axes, str(path))


def check_array(array: NDArray[Any], num_axes: int, where: str) -> Array:
    """Give an array in memory as ``read_array`` gives a file's; ``where`` names it in errors.

    Raises:
        DataError: See ``read_array``.
    """
    _check_numbers(where, array)
    properties = _split(where, array.shape, num_axes)
    values = np.array(array, np.float64).reshape(*properties.size, properties.channels)
    return _checked(where, values)


def _is_tiff(path: Path) -> bool:
    return path.suffix.lower() in _TIFF_SUFFIXES


def _map(path: Path) -> NDArray[Any]:
    """Map an ``.npy`` file into memory: whatever its header claims, no more than there is."""
    check_regular(path)
    try:
        mapped = np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # on damaged headers NumPy's parser raises almost anything
        reason = " ".join(str(error).split()).partition(". ")[0]
        if "Python objects" in reason:
            reason = "it holds Python objects, which can run code and are never opened"
        raise DataError(f"{path}: not a readable .npy file ({reason})") from error
    _check_numbers(path, mapped)
    return mapped


def _check_numbers(where: str | Path, array: NDArray[Any]) -> None:
    if array.dtype.kind == "c":
        raise DataError(
            f"{where}: values of {array.dtype}; expected real and imaginary parts as two channels"
        )
    if array.dtype.kind not in _NUMBERS:
        raise DataError(f"{where}: values of {array.dtype}, expected numbers")


def _split(where: str | Path, shape: tuple[int, ...], num_axes: int) -> ArrayProperties:
    """Tell the axes of the grid from that of the channels."""
    if len(shape) not in (num_axes, num_axes + 1) or not all(shape):
        raise DataError(
            f"{where}: an array of shape {shape}, expected {num_axes} axes, and perhaps one of the "
            "channels behind them"
        )
    count = int(np.prod(shape, dtype=object))
    if count > _MOST_VALUES:
        raise DataError(f"{where}: {count} values, expected at most {_MOST_VALUES}")
    return ArrayProperties(tuple(shape[:num_axes]), shape[-1] if len(shape) > num_axes else 1)


def _checked(where: str | Path, values: Array) -> Array:
    if not np.isfinite(values).all():
        count = int((~np.isfinite(values)).sum())
        raise DataError(f"{where}: {count} of {values.size} values are not finite")
    return values


def _read_pages(
    path: Path, num_axes: int, read: Callable[[tuple[int, ...], "PillowImage"], Found]
) -> Found:
    """Open a TIFF file, and read it once the shape of what it holds is known."""
    with opened_image(path) as pages:
        if pages.format != "TIFF":
            raise DataError(f"{path}: {pages.format} under the name of a TIFF file")
        if pages.mode not in _PAGE_MODES:
            raise DataError(f"{path}: pages of Pillow's mode {pages.mode}, expected numbers")
        count = int(getattr(pages, "n_frames", 1))
        if num_axes < 3 and count > 1:
            raise DataError(f"{path}: {count} pages, expected one for {num_axes} axes")
        channels = len(pages.getbands())
        shape: tuple[int, ...] = (pages.height, pages.width)
        if num_axes == 3:
            shape = (count, *shape)
        elif num_axes == 1:
            raise DataError(f"{path}: a TIFF file has pages, expected .npy for one axis")
        shape = shape if channels == 1 else (*shape, channels)
        _split(path, shape, num_axes)
        return read(shape, pages)


def _stack(path: Path, shape: tuple[int, ...], pages: "PillowImage") -> Array:
    """Give all pages of a TIFF file as one array."""
    channels = len(pages.getbands())
    stacked = np.empty((getattr(pages, "n_frames", 1), pages.height, pages.width, channels))
    mode = pages.mode
    for number in range(len(stacked)):
        pages.seek(number)
        if (pages.mode, pages.height, pages.width) != (mode, *stacked.shape[1:3]):
            raise DataError(
                f"{path}: page {number} has {pages.height}x{pages.width} pixels of mode "
                f"{pages.mode}, the first {stacked.shape[1]}x{stacked.shape[2]} of {mode}"
            )
        stacked[number] = _page_values(pages).reshape(stacked.shape[1:])
    size = shape if channels == 1 else shape[:-1]
    return _checked(path, stacked.reshape(*size, channels))


def _page_values(page: Any) -> NDArray[Any]:
    """Give a page's values; Pillow has 32 bits without a sign as some with one."""
    values = np.asarray(page)
    tags = page.tag_v2
    unsigned = tags.get(_SAMPLE_FORMAT, (_UNSIGNED,))[0] == _UNSIGNED
    if page.mode == "I" and tags.get(_BITS, (1,))[0] == 32 and unsigned:
        return values.view(np.uint32)
    return values
