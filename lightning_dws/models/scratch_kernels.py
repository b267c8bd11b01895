"""Memory for entries, compiled by Numba."""

# mypy: disable-error-code="no-untyped-def"

import numpy as np

from lightning_dws.models.lanes import LANES, kernel


@kernel
def make_room(entries):
    """Give memory where no entry lies in two lines of the cache."""
    room = np.empty(entries * LANES + 16, np.float32)
    start = -room.ctypes.data % 64 // 4
    return room[start : start + entries * LANES]
