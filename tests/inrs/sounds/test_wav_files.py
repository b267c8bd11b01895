"""WAV files of every kind: what is read of them, what is refused, and what is written."""

import os
import wave

import numpy as np
import pytest
import torch
from scipy.io import wavfile

from lightning_dws.errors import DataError
from lightning_dws.inrs.sounds.wav_files import is_wav_name, read_wav, write_wav

RATE = 8000
TONE = 0.5 * np.sin(2 * np.pi * 440 * np.arange(800) / RATE)


def write_24_bits(path, signal):
    values = np.round(signal * 2**23).astype("<i4")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(3)
        file.setframerate(RATE)
        file.writeframes(b"".join(value.tobytes()[:3] for value in values))


@pytest.mark.parametrize("kind", ["uint8", "int16", "24 bits", "int32", "float32", "float64"])
def test_full_scale_is_one_in_every_kind_of_file(tmp_path, kind):
    path = tmp_path / "tone.wav"
    if kind == "24 bits":
        write_24_bits(path, TONE)
    elif kind == "uint8":
        wavfile.write(path, RATE, np.round(128 + 128 * TONE).astype(np.uint8))
    else:
        scale = 1 if kind.startswith("float") else -np.iinfo(kind).min
        wavfile.write(path, RATE, (scale * TONE).astype(kind))
    found = read_wav(path, RATE, 800)
    assert found.dtype == torch.float32
    assert np.abs(found.numpy() - TONE).max() < (0.005 if kind == "uint8" else 1e-4)


def test_channels_are_averaged_and_lengths_are_made_equal(tmp_path):
    path = tmp_path / "stereo.wav"
    wavfile.write(path, RATE, np.stack([TONE, np.zeros(800)], axis=1).astype(np.float32))
    longer = read_wav(path, RATE, 1000).numpy()
    assert np.abs(longer[:800] - TONE / 2).max() < 1e-6
    assert not longer[800:].any()
    assert np.array_equal(read_wav(path, RATE, 300).numpy(), longer[:300])


@pytest.mark.parametrize("found_rate", [11025, 44100, 4000])
def test_other_rates_are_resampled(tmp_path, found_rate):
    seconds = np.arange(found_rate // 10) / found_rate
    path = tmp_path / "tone.wav"
    wavfile.write(path, found_rate, (0.5 * np.sin(2 * np.pi * 440 * seconds)).astype(np.float32))
    inside = slice(80, 600)  # the filter knows nothing beyond the ends
    assert np.abs(read_wav(path, RATE, 800).numpy() - TONE)[inside].max() < 0.02


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "new" / "tone.wav"
    write_wav(path, torch.from_numpy(3 * TONE), RATE)
    expected = np.clip(3 * TONE, -1, 1)
    assert np.abs(read_wav(path, RATE, 800).numpy() - expected).max() < 1e-4


def _cut(path):
    wavfile.write(path, RATE, TONE.astype(np.float32))
    path.write_bytes(path.read_bytes()[:1000])


def _not_finite(path):
    wavfile.write(path, RATE, np.full(100, np.nan, np.float32))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.write_bytes(b""), "not a readable WAV file"),
        (lambda path: path.write_bytes(b"RIFF\x24\x00\x00\x00WAVE"), "not a readable WAV file"),
        (lambda path: path.write_text("no sound"), "not a readable WAV file"),
        (_cut, "not a readable WAV file .*EOF"),
        (_not_finite, "not all samples are finite"),
        (lambda path: wavfile.write(path, RATE, np.zeros(0, np.float32)), "no samples"),
        (lambda path: wavfile.write(path, 10**8, TONE.astype(np.float32)), "100000000 samples in"),
        (os.mkfifo, "wave.wav"),
        (lambda path: None, "wave.wav"),
    ],
)
def test_damaged_files_are_refused_by_name(tmp_path, make, message):
    path = tmp_path / "wave.wav"
    make(path)
    with pytest.raises(DataError, match=message) as error:
        read_wav(path, RATE, 800)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_names_tell_wav_files():
    assert [is_wav_name(name) for name in ("a.wav", "b.WAVE", "c.mp3", "wav")] == [1, 1, 0, 0]
