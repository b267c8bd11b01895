"""WAV files: read as one channel of one rate and length, and written to be listened to."""

import io
import math
import warnings
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_dws.errors import DataError
from lightning_dws.files import check_regular, make_directory, write_atomically

_RATES = range(1000, 400_001)
_MARGIN_SECONDS = 0.05  # that the resampling's filter sees behind the end


def is_wav_name(name: str) -> bool:
    """Tell by its extension whether a file is a WAV file."""
    return Path(name).suffix.lower() in (".wav", ".wave")


def read_wav(path: Path, rate: int, num_samples: int) -> Tensor:
    """Read the beginning of a WAV file: channels averaged, resampled, silence behind its end.

    Args:
        path: The file: PCM of 8 to 32 bits, or floating point.
        rate: Samples in a second that are wanted.
        num_samples: How many are wanted.

    Returns:
        (num_samples,) float32; a file's full scale is 1.

    Raises:
        DataError: The file is not a readable WAV file, cut short, or holds nothing.
    """
    return to_sound(*_read(path), rate, num_samples, str(path))


def to_sound(
    found_rate: int, samples: NDArray[np.generic], rate: int, num_samples: int, where: str
) -> Tensor:
    """Make samples (N,) or (N, channels) a sound as ``read_wav`` makes a file's.

    Raises:
        DataError: There are none, some are not finite, or it is no rate; ``where`` names them.
    """
    from scipy.signal import resample_poly

    if found_rate not in _RATES:
        raise DataError(
            f"{where}: {found_rate} samples in a second, expected {_RATES[0]} to {_RATES[-1]}"
        )
    seconds = num_samples / rate + _MARGIN_SECONDS
    channels = samples[: math.ceil(seconds * found_rate)]
    if not channels.size:
        raise DataError(f"{where}: no samples")
    mono = _to_unit_range(channels).reshape(len(channels), -1).mean(axis=1)
    if not np.isfinite(mono).all():
        raise DataError(f"{where}: not all samples are finite")
    if found_rate != rate:
        shared = math.gcd(rate, found_rate)
        mono = resample_poly(mono, rate // shared, found_rate // shared)
    signal = np.zeros(num_samples, np.float32)
    signal[: len(mono)] = mono[:num_samples]
    return torch.from_numpy(signal)


def read_sound(path: Path, rate: int, num_samples: int, normalise: bool) -> Tensor:
    """Read a file as ``read_wav`` does, and make its peak 1 where that is asked for.

    Raises:
        DataError: See ``read_wav``.
    """
    signal = read_wav(path, rate, num_samples)
    return to_peak_one(signal) if normalise else signal


def to_peak_one(sound: Tensor) -> Tensor:
    """Scale a sound so that its peak is 1; silence stays silence."""
    peak = sound.abs().max()
    return sound / peak if peak > 0 else sound


def _read(path: Path) -> tuple[int, NDArray[np.generic]]:
    from scipy.io import wavfile

    try:
        check_regular(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", wavfile.WavFileWarning)  # of unknown chunks
            warnings.filterwarnings("error", "Reached EOF", wavfile.WavFileWarning)
            rate, samples = wavfile.read(path)
    except DataError:
        raise
    except Exception as error:  # on damaged files SciPy's reader raises almost anything
        raise DataError(f"{path}: not a readable WAV file ({error})") from error
    return int(rate), samples


def _to_unit_range(samples: NDArray[np.generic]) -> NDArray[np.float64]:
    """Give samples in [-1, 1); SciPy has those of 24 bits in the upper bytes of 32."""
    if samples.dtype == np.uint8:
        return (samples.astype(np.float64) - 128) / 128
    if np.issubdtype(samples.dtype, np.integer):
        full_scale = 2.0 ** (8 * samples.dtype.itemsize - 1)
        return samples.astype(np.float64) / full_scale
    return samples.astype(np.float64)


def write_wav(path: Path, signal: Tensor, rate: int) -> None:
    """Write a signal (N,) as 16-bit PCM; what lies beyond ±1 is clipped.

    Raises:
        DataError: The file cannot be written.
    """
    from scipy.io import wavfile

    pcm = (32767 * signal.double().clamp(-1, 1)).round().to(torch.int16).numpy()
    buffer = io.BytesIO()
    wavfile.write(buffer, rate, pcm)
    make_directory(path.parent)
    write_atomically(path, buffer.getvalue())
