"""Sounds as signals: their splits and values, and INRs of them from the fit to the files."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.io import wavfile

from lightning_dws import INRArchitecture
from lightning_dws.cli import main
from lightning_dws.errors import DataError
from lightning_dws.inrs import (
    AudioFolder,
    INRDatasetSpec,
    INRStore,
    Recipe,
    SpokenDigits,
    Wanted,
    evaluate_inrs,
    prepare_store,
)
from lightning_dws.inrs.preparation.fitting_record import FittingRecord
from lightning_dws.inrs.sounds.spectrogram import spectrogram
from lightning_dws.inrs.sounds.wav_files import read_wav
from lightning_dws.inrs.store.index import write_index
from lightning_dws.inrs.store.verification import verify_store

ARCHITECTURE = INRArchitecture((1, 12, 10, 1), output_offset=0.0)
RECIPE = Recipe(steps=30, learning_rate=5e-3, first_layer_bound=3.0, points_per_step=64)
SOME = Wanted({"train": 8, "val": 2, "test": 2}, {})


@pytest.fixture
def folder(tmp_path):
    """Two classes of twelve tones of 0.05 s, the fourth of the low ones damaged."""
    for label, pitch in (("high", 800), ("low", 200)):
        (tmp_path / "tones" / label).mkdir(parents=True)
        for number in range(12):
            seconds = np.arange(400) / 8000
            tone = 0.1 * np.sin(2 * np.pi * (pitch + 10 * number) * seconds)
            path = tmp_path / "tones" / label / f"{number:02}.wav"
            wavfile.write(path, 8000, (32767 * tone).astype(np.int16))
    (tmp_path / "tones" / "low" / "03.wav").write_bytes(b"RIFF")
    (tmp_path / "tones" / "low" / "notes.txt").write_text("not a sound")
    return tmp_path / "tones"


def audio(folder, **changes):
    return AudioFolder(str(folder), **{"seconds": 0.05, **changes})


def test_a_folder_is_split_and_the_damaged_file_left_out(folder):
    data = audio(folder)
    assert data.classes == ("high", "low")
    ids = torch.cat([data.split(name).object_id for name in ("train", "val", "test")])
    assert sorted(ids.tolist()) == [number for number in range(24) if number != 15]
    reasons = data.skipped({"train": None, "val": None, "test": None})
    assert list(reasons) == ["low/03.wav"]
    assert "not a readable WAV file" in reasons["low/03.wav"]


def test_peaks_are_one_unless_they_are_to_stay(folder):
    ids = torch.tensor([0, 14])
    values = audio(folder).values(ids)
    assert values.shape == (2, 400, 1)
    torch.testing.assert_close(values.abs().amax(dim=1), torch.ones(2, 1))
    quiet = audio(folder, normalise=False).values(ids)
    assert 0.09 < quiet.abs().max() < 0.11


def test_other_options_or_files_have_another_name(folder):
    names = {
        audio(folder).name,
        audio(folder, rate=4000).name,
        audio(folder, seconds=0.04).name,
        audio(folder, normalise=False).name,
    }
    assert len(names) == 4
    (folder / "low" / "03.wav").write_bytes((folder / "low" / "02.wav").read_bytes())
    assert audio(folder).name not in names


@pytest.mark.parametrize("options", [{"seconds": 0}, {"rate": 0}, {"seconds": 1e6}])
def test_lengths_that_no_signal_has_are_refused(options):
    with pytest.raises(ValueError, match="seconds times rate must be from 1 to"):
        AudioFolder("sounds", **options)


def test_other_layouts_are_refused(tmp_path):
    with pytest.raises(DataError, match="no such folder; expected one with sounds by class"):
        audio(tmp_path / "nowhere").split("train")
    (tmp_path / "a" / "only.mp3").parent.mkdir()
    (tmp_path / "a" / "only.mp3").write_bytes(b"")
    with pytest.raises(DataError, match=r"a: no sounds in it; expected .*/a/SOUND"):
        audio(tmp_path).split("train")


def test_inrs_of_a_folder_are_fitted_verified_shown_and_heard(folder, tmp_path, capsys):
    main(
        ["inrs", "fit", "--config", "conf/inrs/audio_folder.yaml", "--signals.root", str(folder),
         "--signals.seconds", "0.05", "--recipe.steps", "30", "--root", str(tmp_path / "data"),
         "--architecture.widths", "[1,12,10,1]", "--num_train_objects", "8",
         "--num_val_objects", "2", "--num_test_objects", "2"]
    )  # fmt: skip
    captured = capsys.readouterr()
    store = INRStore(captured.out.split()[-1])
    assert verify_store(store.directory, audio(folder)).problems == []
    found = evaluate_inrs(store.split("test"), audio(folder).coordinates)
    signal = audio(folder).values(store.split("test").object_id).double()
    error = (found - signal).square().sum(dim=(1, 2))
    expected = 10 * torch.log10(signal.square().sum(dim=(1, 2)) / error)
    torch.testing.assert_close(store.measure("snr", "test").double(), expected, rtol=0, atol=0.01)

    words = ["inrs", "show", str(store.directory), "--sounds", str(tmp_path / "heard")]
    with pytest.raises(SystemExit):
        main(words)
    assert "does not know the rate of its sounds" in capsys.readouterr().err
    main([*words, "--rate", "4000", "--count", "2"])
    printed = capsys.readouterr().out
    assert "mean snr, train" in printed
    heard = sorted((tmp_path / "heard").iterdir())
    assert [path.name.split("-")[0] for path in heard] == ["high", "low"]
    assert wavfile.read(heard[0])[0] == 4000
    assert len(read_wav(heard[0], 4000, 400)) == 400
    main(["inrs", "browse", str(store.directory)])


def test_a_store_says_how_its_sounds_were_read(folder, tmp_path):
    """So a network trained on the store alone reads others alike; stores keep their names."""
    spec = INRDatasetSpec(audio(folder, rate=4000), ARCHITECTURE, RECIPE)
    store = prepare_store(tmp_path / "s", spec, SOME, show_progress=False)
    header = INRStore(store.directory).header
    record = FittingRecord.of_store(store.directory, header, None)
    assert record.preparation == {"kind": "sounds", "rate": 4000, "normalise": True}
    assert record.spec(folder, []).signals.rate == 4000
    unsaid = replace(header, preparation=None)
    assert (unsaid.fingerprint, unsaid) == (header.fingerprint, header)
    wanted = f"does not say .* such; run the 'inrs fit' that made {store.directory} once more"
    with pytest.raises(DataError, match=wanted):
        FittingRecord.of_store(store.directory, unsaid, None).check_fittable()


def test_a_store_of_an_earlier_version_is_told_how_its_sounds_were_read(folder, tmp_path):
    """What they were fitted with says it once more, and networks trained before can be used."""
    spec = INRDatasetSpec(audio(folder, rate=4000), ARCHITECTURE, RECIPE)
    store = prepare_store(tmp_path / "s", spec, SOME, show_progress=False)
    path = store.directory / "dataset.json"
    new = path.read_bytes()
    write_index(store.directory, replace(store.header, preparation=None), store.shards)
    assert "preparation" not in json.loads(path.read_bytes())
    header = INRStore(store.directory).header
    trained = FittingRecord.of_store(store.directory, header, None)
    assert trained.completed(store.directory) == trained
    assert trained.completed(tmp_path / "nowhere") == trained
    prepare_store(tmp_path / "s", spec, SOME, show_progress=False)
    assert path.read_bytes() == new
    assert trained.completed(store.directory).spec(folder, []).signals.rate == 4000
    other = replace(trained, header=replace(header, seed=1))
    assert other.completed(store.directory).preparation is None


def test_images_are_not_heard(tmp_path, capsys):
    from tiny import tiny_spec

    store = prepare_store(tmp_path / "s", tiny_spec(), SOME, show_progress=False)
    with pytest.raises(SystemExit):
        main(["inrs", "show", str(store.directory), "--sounds", str(tmp_path / "heard")])
    error = capsys.readouterr().err
    assert "sounds are for INRs of sounds" in error


def test_spoken_digits_are_the_same_whatever_is_asked_for_with_them():
    first = SpokenDigits().values(torch.tensor([7, 1203, 7]))
    again = SpokenDigits().values(torch.tensor([1203]))
    assert torch.equal(first[1:2], again)
    assert torch.equal(first[0], first[2])
    assert first.shape == (3, 3200, 1)
    assert first.isfinite().all()
    assert first.abs().amax(dim=1).min() > 0.7
    assert first.abs().max() <= 1


def test_spoken_digits_are_split_evenly_and_no_two_takes_are_alike():
    data = SpokenDigits()
    for name, count in (("train", 126), ("val", 18), ("test", 36)):
        order = data.split(name)
        assert torch.bincount(order.label).tolist() == [count] * 10
        assert torch.equal(order.label, order.object_id // 30 % 10)
    takes = data.values(torch.arange(4))[..., 0]
    distance = torch.cdist(takes, takes) + 100 * torch.eye(4)
    assert distance.min() > 1


def test_what_is_said_can_be_told_from_the_spectrograms():
    """By the nearest mean of three speakers' words, for words of the same three."""
    data = SpokenDigits()
    ids = torch.tensor([[300 * s + 30 * d for d in range(10)] for s in (0, 1, 2)]).flatten()

    def seen(ids):
        return torch.nn.functional.avg_pool2d(spectrogram(data.values(ids))[..., 0], 8).flatten(1)

    means = seen(ids).view(3, 10, -1).mean(dim=0)
    said = torch.cdist(seen(ids + 5), means).argmin(dim=1)
    assert (said == torch.arange(10).repeat(3)).float().mean() > 0.7


def test_a_spectrogram_shows_the_pitch():
    seconds = torch.arange(3200) / 8000
    lines = torch.sin(2 * torch.pi * torch.tensor([500.0, 3000.0])[:, None] * seconds)[..., None]
    images = spectrogram(lines)
    assert images.min() >= 0
    assert images.max() == 1
    height = images.shape[1] - 1
    for image, pitch in zip(images, (500, 3000), strict=True):
        row = int(image[:, 40, 0].argmax())
        assert abs((height - row) / height * 4000 - pitch) < 40
    assert spectrogram(torch.zeros(1, 40, 2)).isfinite().all()  # silence, and short


def test_the_same_fit_twice_has_the_same_bytes(tmp_path):
    spec = INRDatasetSpec(SpokenDigits(), ARCHITECTURE, RECIPE)
    few = Wanted({"train": 3}, {})
    stores = [
        prepare_store(tmp_path / name, spec, few, show_progress=False, chunk_size=size)
        for name, size in (("one", 2), ("two", 8))
    ]
    files = [
        {path.name: path.read_bytes() for path in sorted(store.directory.glob("*.safetensors"))}
        for store in stores
    ]
    assert files[0] == files[1]
