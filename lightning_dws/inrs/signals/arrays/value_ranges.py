"""The smallest and the greatest value of many files of arrays, found once and kept."""

import json
import math
from contextlib import suppress
from pathlib import Path

from lightning_dws.errors import DataError
from lightning_dws.files import check_regular, json_sha256, make_directory, write_atomically
from lightning_dws.inrs.signals.arrays.base import ValueRange
from lightning_dws.inrs.signals.file_listing import FileListing


def cache_folder() -> Path:
    """Give the folder in the user's cache under which ranges are kept."""
    import pooch

    return Path(pooch.os_cache("lightning_dws")) / "value_ranges"


def range_key(listing: FileListing, num_axes: int) -> str:
    """Name the range of a folder's files: it is another once a file was changed.

    Beside what names the dataset, sizes and both ends of the files, it is when they were changed.
    """
    times = []
    for path in listing.paths:
        try:
            times.append(path.stat().st_mtime_ns)
        except OSError:  # it will be skipped
            times.append(-1)
    return json_sha256([listing.fingerprint, num_axes, times])


def recall_range(key: str) -> ValueRange | None:
    """Give the range that was kept under a key; None where there is none."""
    path = _path(key)
    with suppress(DataError, OSError, ValueError, TypeError, RecursionError):  # it is found anew
        check_regular(path)
        low, high = json.loads(path.read_bytes())
        if isinstance(low, float) and isinstance(high, float) and 0 < high - low < math.inf:
            return low, high
    return None


def keep_range(key: str, value_range: ValueRange) -> None:
    """Keep a range, if there is a place for it."""
    with suppress(DataError):  # it is only a help
        make_directory(cache_folder())
        write_atomically(_path(key), json.dumps(value_range).encode())


def _path(key: str) -> Path:
    return cache_folder() / f"{key}.json"
