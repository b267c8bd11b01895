"""Signals in memory made such as a network's INRs were fitted to."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_dws.errors import DataError
from lightning_dws.inrs.preparation.fitting_record import ARRAYS, IMAGES, SOUNDS, FittingRecord
from lightning_dws.inrs.signals.arrays.array_files import check_array, read_array
from lightning_dws.inrs.signals.arrays.base import to_signal
from lightning_dws.inrs.sounds.wav_files import read_sound, to_peak_one, to_sound
from lightning_dws.prediction.image_values import prepare_images


def prepare_signals(signals: Sequence[Any] | Tensor, record: FittingRecord) -> Tensor:
    """Make images, arrays or sounds, as the record says, the signals of INRs.

    Args:
        signals: Images: see ``prepare_images``. Arrays: each a file's path, or an array or tensor
            of the grid, with an axis behind for the channels. Sounds: each a file's path; samples
            (N,) or (N, channels) of the trained rate; or a pair of a rate and such samples, as
            SciPy reads them. Integers are PCM, floating-point samples have a full scale of 1.
        record: How the network's INRs were fitted.

    Returns:
        (B, N, C) float32 at the N points of the record's grid.

    Raises:
        DataError: There are none, one is of another kind and named by its position, or the
            network was trained on INRs of something else.
    """
    if not len(signals):
        raise DataError(f"no {record.kind} were given")
    if record.kind == IMAGES:
        return prepare_images(signals, record.size, record.is_colour, record.has_alpha)
    if record.kind == ARRAYS:
        values = [_array(one, record, f"array {number}") for number, one in enumerate(signals)]
        return torch.stack(values).flatten(1, -2)
    if record.kind == SOUNDS:
        sounds = [_sound(one, record, f"sound {number}") for number, one in enumerate(signals)]
        return torch.stack(sounds)[..., None]
    raise DataError(
        f"the network was trained on INRs of {record.kind}, which are read from files alone"
    )


def identify(values: Tensor) -> Tensor:
    """Give object ids (B,) of signals (B, N, C) that are hashes of their values."""
    digests = [hashlib.sha256(one.numpy().tobytes()).digest()[:8] for one in values.contiguous()]
    return torch.tensor([int.from_bytes(digest, "little") >> 1 for digest in digests])


def _array(given: Any, record: FittingRecord, where: str) -> Tensor:
    """Give a signal (*grid, channels)."""
    size = record.header.grid_shape
    if isinstance(given, (str, Path)):
        found = read_array(Path(given), len(size))
    else:
        found = check_array(_to_numpy(given, where), len(size), where)
    return to_signal(found, size, record.channels, record.value_range, where)


def _sound(given: Any, record: FittingRecord, where: str) -> Tensor:
    """Give a signal (N,)."""
    (num_samples,) = record.header.grid_shape
    rate, normalise = record.sound
    if isinstance(given, (str, Path)):
        return read_sound(Path(given), rate, num_samples, normalise)
    found_rate, samples = given if isinstance(given, tuple) and len(given) == 2 else (rate, given)
    array = _to_numpy(samples, where)
    if array.ndim not in (1, 2) or array.dtype.kind not in "iuf":
        raise DataError(
            f"{where}: {array.dtype} of shape {array.shape}, expected samples (N,) or "
            "(N, channels), or a pair of a rate and such samples"
        )
    sound = to_sound(int(found_rate), array, rate, num_samples, where)
    return to_peak_one(sound) if normalise else sound


def _to_numpy(given: Any, where: str) -> NDArray[Any]:
    if isinstance(given, Tensor):
        given = given.detach().cpu()
    try:
        return np.asarray(given)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"{where}: not an array but a {type(given).__name__}") from error
