"""Arrays and sounds in Python: predicted as their files are, or named."""

import numpy as np
import pytest
import torch
from saved import save_checkpoint
from tiny import RECIPE

from lightning_dws import INRArchitecture, load_checkpoint
from lightning_dws.errors import DataError
from lightning_dws.inrs import ArrayFolder, Solids, SpokenDigits
from lightning_dws.inrs.sounds.wav_files import write_wav


def load(path, signals, widths):
    architecture = INRArchitecture(widths, output_offset=0.0)
    return load_checkpoint(save_checkpoint(path, signals, architecture=architecture, recipe=RECIPE))


@pytest.fixture
def volumes(tmp_path, rng):
    """Arrays of 3 axes and two channels as files, and a network trained on such."""
    for number in range(4):
        path = tmp_path / "volumes" / "ab"[number % 2] / f"{number}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, rng.normal(size=(3, 4, 5, 2)))
    folder = ArrayFolder(str(tmp_path / "volumes"), value_range=(-4, 4))
    return sorted(tmp_path.rglob("*.npy")), load(tmp_path / "net.ckpt", folder, (3, 6, 2))


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_an_array_is_the_same_one_however_it_is_given(volumes):
    paths, classifier = volumes
    arrays = [np.load(path) for path in paths]
    expected = classifier.predict(paths)
    assert expected.psnr.isfinite().all()
    for given in (arrays, np.stack(arrays), [torch.from_numpy(array) for array in arrays]):
        found = classifier.predict(given)
        assert torch.equal(found.inrs.parameters, expected.inrs.parameters)
        assert torch.equal(found.probabilities, expected.probabilities)
    larger = [array.repeat(2, axis=0) for array in arrays]  # shrinks to the mean of equal values
    again = classifier.predict(larger).inrs.parameters
    assert torch.equal(again, expected.inrs.parameters)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda a: a[..., :1], "array 1: number of channels 1, expected 2"),
        (lambda a: a[0, 0], r"array 1: an array of shape \(5, 2\), expected 3 axes"),
        (lambda a: a * np.nan, "array 1: 120 of 120 values are not finite"),
        (lambda a: a * 1j, "array 1: values of complex128"),
        (lambda a: object(), "array 1: values of object, expected numbers"),
    ],
)
def test_what_is_no_such_array_is_named(volumes, change, named):
    array = np.load(volumes[0][0])
    with pytest.raises(DataError, match=named):
        volumes[1].predict([array, change(array)])


@pytest.fixture
def speech(tmp_path):
    spoken = SpokenDigits()
    return spoken, load(tmp_path / "net.ckpt", spoken, (1, 6, 1))


def test_a_sound_is_the_same_one_however_it_is_given(speech, tmp_path):
    spoken, classifier = speech
    path, rate = tmp_path / "one.wav", spoken.rate
    write_wav(path, spoken.values(torch.tensor([0]))[0, :, 0], rate)
    from scipy.io import wavfile

    _, samples = wavfile.read(path)
    expected = classifier.predict([path])
    for given in (
        (rate, samples),
        samples,
        torch.from_numpy(samples / 2**15),
        (rate, np.stack([samples, samples], axis=1)),
    ):
        found = classifier.predict([given])
        assert torch.equal(found.inrs.parameters, expected.inrs.parameters)
    slower = classifier.predict([(rate // 2, samples[::2])])
    assert slower.inrs.parameters.shape == expected.inrs.parameters.shape


@pytest.mark.parametrize(
    ("sound", "named"),
    [
        (np.zeros((2, 2, 2)), r"sound 0: float64 of shape \(2, 2, 2\), expected samples"),
        (np.zeros(9, "M8[s]"), "sound 0: datetime64"),
        ((3, np.zeros(9)), "sound 0: 3 samples in a second"),
        (np.full(9, np.inf), "sound 0: not all samples are finite"),
        (np.zeros(0), "sound 0: no samples"),
    ],
)
def test_what_is_no_sound_is_named(speech, sound, named):
    with pytest.raises(DataError, match=named):
        speech[1].predict([sound])


def test_nothing_and_meshes_in_memory_are_refused(speech, tmp_path):
    with pytest.raises(DataError, match="no sounds were given"):
        speech[1].predict([])
    shapes = load(tmp_path / "shapes.ckpt", Solids(), (3, 5, 1))
    with pytest.raises(DataError, match="trained on INRs of meshes, which are read from files"):
        shapes.predict([np.zeros((3, 3))])
