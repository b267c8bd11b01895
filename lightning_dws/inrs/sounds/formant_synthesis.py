"""Words spoken by a small formant synthesiser: harmonics and noise under moving resonances.

A sound of speech is voice, breath or both, shaped by the resonances (formants) of the mouth;
between sounds the formants glide. Voice is the sum of the harmonics of a falling pitch, each as
strong as the glottis (12 dB an octave down, 6 up for radiation) and the formants make it; breath is
noise in a band. It sounds like a machine, and tells the words apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_Array = NDArray[np.float64]

_BANDWIDTHS = np.array([70.0, 100.0, 140.0])  # Hz, of the formants
_GLIDE_SECONDS = 0.02  # from one sound to the next


@dataclass(frozen=True)
class Phone:
    """A sound of speech.

    Attributes:
        formants: Their frequencies in Hz, of a man.
        voice: How loud the voice is.
        breath: How loud the noise is.
        band: Middle and width of the noise in Hz.
        length: Of the sound, relative to the others of the word.
    """

    formants: tuple[float, float, float]
    voice: float = 1.0
    breath: float = 0.0
    band: tuple[float, float] = (2500.0, 800.0)
    length: float = 1.0


@dataclass(frozen=True)
class Speaker:
    """Who speaks.

    Attributes:
        pitch: Of the voice in Hz.
        formant_scale: Of a shorter vocal tract the formants are higher.
        breathiness: How loud their noise is.
    """

    pitch: float
    formant_scale: float
    breathiness: float


def synthesise(
    phones: Sequence[Phone],
    speaker: Speaker,
    *,
    start: float,
    duration: float,
    num_samples: int,
    rate: int,
    phases: _Array,
) -> _Array:
    """Speak a word.

    Args:
        phones: Its sounds.
        speaker: Who speaks it.
        start: When, in seconds.
        duration: Of the word, in seconds.
        num_samples: Of the whole.
        rate: Samples in a second.
        phases: (n,) in [0, 1), random: of the n sines that the noise is made of.

    Returns:
        (num_samples,) with a peak of 1.
    """
    seconds = np.arange(num_samples) / rate
    share = (seconds - start) / duration  # of the word that is spoken
    lengths = np.array([phone.length for phone in phones])
    edges = np.concatenate([[0.0], np.cumsum(lengths) / lengths.sum()])
    weights = _glide(share, edges, _GLIDE_SECONDS / duration)  # (phones, samples)

    def track(values: Sequence[float]) -> _Array:
        return np.asarray(values) @ weights

    formants = speaker.formant_scale * np.stack(
        [track([phone.formants[k] for phone in phones]) for k in range(3)]
    )
    loudness = track([phone.voice for phone in phones])
    pitch = speaker.pitch * (1.1 - 0.3 * np.clip(share, 0, 1))
    sound = loudness * _voice(pitch, formants, rate)
    for phone, weight in zip(phones, weights, strict=True):
        if phone.breath:
            breath = phone.breath * speaker.breathiness * weight
            sound = sound + breath * _noise(seconds, phone.band, rate, phases)
    return _with_peak_one(sound)


def _glide(share: _Array, edges: _Array, width: float) -> _Array:
    """Give the weight of every sound at every sample; all are 0 outside of the word."""
    steps = 1 / (1 + np.exp(-4 * (share[None] - edges[:, None]) / width))
    weights: _Array = steps[:-1] - steps[1:]
    return weights


def _voice(pitch: _Array, formants: _Array, rate: int) -> _Array:
    """Add up the harmonics that lie below the Nyquist frequency, with a peak of about 1."""
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    harmonics = np.arange(1, int(rate / 2 / pitch.min()) + 1)[:, None]
    frequency = harmonics * pitch
    strength = np.where(frequency < 0.48 * rate, 1 / harmonics, 0.0)
    for formant, bandwidth in zip(formants, _BANDWIDTHS, strict=True):
        strength = strength * _resonance(frequency, formant, bandwidth)
    voice: _Array = (strength * np.sin(harmonics * phase)).sum(axis=0)
    return _with_peak_one(voice)


def _resonance(frequency: _Array, formant: _Array, bandwidth: float) -> _Array:
    """Give the gain of a second-order resonance, 1 at frequency 0."""
    ratio = frequency / formant
    gain: _Array = 1 / np.sqrt((1 - ratio**2) ** 2 + (ratio * bandwidth / formant) ** 2)
    return gain


def _noise(seconds: _Array, band: tuple[float, float], rate: int, phases: _Array) -> _Array:
    """Add up sines of random phases and frequencies in a band, with a peak of about 1."""
    middle, width = band
    frequency = middle + width * (np.linspace(-1, 1, len(phases)) + 0.1 * (phases[::-1] - 0.5))
    frequency = np.clip(frequency, 50, 0.48 * rate)
    angle = 2 * np.pi * (frequency[:, None] * seconds + phases[:, None])
    noise: _Array = np.sin(angle).sum(axis=0)
    return _with_peak_one(noise)


def _with_peak_one(sound: _Array) -> _Array:
    scaled: _Array = sound / np.abs(sound).max()
    return scaled
