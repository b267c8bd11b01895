"""Transparent images: on white as a rule, with their alpha where it is asked for."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from saved import save_checkpoint
from tiny import RECIPE, tiny_spec

from lightning_dws import INRArchitecture, load_checkpoint
from lightning_dws.cli import main
from lightning_dws.inrs import (
    ImageFolder,
    INRDatasetSpec,
    INRStore,
    Wanted,
    evaluate_inrs,
    prepare_store,
)
from lightning_dws.inrs.pictures import render_images
from lightning_dws.inrs.preparation.fitting_record import FittingRecord
from lightning_dws.inrs.signals.image_files import read_image
from lightning_dws.inrs.store.convention import ImageConvention

SOME = Wanted({"train": 4, "val": 2, "test": 2}, {})


@pytest.fixture
def folder(tmp_path):
    """Red images of 6x5 whose left half is transparent, and blue ones."""
    for label, colour in (("blue", (0, 0, 255)), ("red", (255, 0, 0))):
        (tmp_path / "images" / label).mkdir(parents=True)
        for number in range(12):
            pixels = np.zeros((6, 5, 4), np.uint8)
            pixels[..., :3], pixels[:, 2:, 3] = colour, 255 - number
            Image.fromarray(pixels).save(tmp_path / "images" / label / f"{number}.png")
    return tmp_path / "images"


def test_alpha_is_kept_where_it_is_asked_for_alone(folder):
    red = torch.tensor([12])
    on_white = ImageFolder(str(folder), mode="colour").values(red).view(6, 5, 3)
    assert on_white[0, 0].tolist() == [1, 1, 1]
    assert on_white[0, 4].tolist() == [1, 0, 0]
    kept = ImageFolder(str(folder), mode="colour_alpha").values(red).view(6, 5, 4)
    assert kept[0, 0].tolist() == [1, 1, 1, 0]
    assert kept[0, 4].tolist() == [1, 0, 0, 1]
    grey = ImageFolder(str(folder), mode="grey_alpha").values(red).view(6, 5, 2)
    assert torch.equal(grey[..., 1], kept[..., 3])
    assert grey[0, 0].tolist() == [1, 0]


def test_colours_do_not_bleed_from_transparent_pixels(tmp_path):
    pixels = np.zeros((4, 4, 4), np.uint8)
    pixels[:, :2] = (0, 255, 0, 0)  # green that nobody sees
    pixels[:, 2:] = (255, 0, 0, 255)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    small = read_image(tmp_path / "a.png", (1, 1), colour=True, keep_alpha=True)
    assert small.flatten().tolist() == [255, 0, 0, 128]


def test_what_is_transparent_shows_a_checkerboard():
    convention = ImageConvention(has_alpha=True)
    images = torch.rand(2, 16, 16, 4, generator=torch.Generator().manual_seed(0))
    images[0, ..., 3], images[1, ..., 3] = 1, 0
    opaque, transparent = convention.to_visible(images)
    torch.testing.assert_close(opaque, images[0, ..., :3])
    assert len(transparent.unique()) == 2
    assert torch.equal(ImageConvention().to_visible(images), images)


def test_a_store_knows_its_alpha(folder, tmp_path, capsys):
    signals = ImageFolder(str(folder), mode="colour_alpha")
    spec = INRDatasetSpec(signals, INRArchitecture((2, 6, 4), w0=8.0), RECIPE)
    store = prepare_store(tmp_path / "s", spec, SOME, show_progress=False)
    again = INRStore(store.directory)
    assert again.header.convention == ImageConvention(has_alpha=True)
    inrs = again.split("test")
    assert render_images(inrs, (6, 5), again.header.convention).shape == (2, 6, 5, 3)
    words = ("--signals.root", str(folder), "--signals.mode", "colour_alpha")
    main(["inrs", "show", str(store.directory), "--signals=lightning_dws.inrs.ImageFolder", *words])
    assert (store.directory / "inrs.png").stat().st_size > 3000
    record = FittingRecord.of_store(store.directory, again.header, signals)
    record.check_fittable()
    assert (record.has_alpha, record.is_colour) == (True, True)


@pytest.mark.parametrize(("mode", "channels"), [("colour_alpha", 4), ("grey_alpha", 2)])
def test_files_with_alpha_are_predicted_by_a_network_that_reads_it(
    folder, tmp_path, monkeypatch, capsys, mode, channels
):
    monkeypatch.chdir(tmp_path)
    signals = ImageFolder(str(folder), mode=mode)
    architecture = INRArchitecture((2, 6, channels), w0=8.0)
    path = save_checkpoint(tmp_path / "n.ckpt", signals, architecture=architecture, recipe=RECIPE)
    network = load_checkpoint(path)
    new = tmp_path / "new"
    new.mkdir()
    for number in (0, 13):
        shutil.copy(signals._listing.paths[number], new)
    found = network.predict(new)
    [store] = (tmp_path / "data" / "inrs").iterdir()
    notes = " ".join(found.notes)
    assert ("images are made grey" in notes, "alpha" in notes) == (channels == 2, False)
    assert INRStore(store).header.convention == ImageConvention(has_alpha=True)
    assert found.names == ["0.png", "1.png"]
    rows = evaluate_inrs(found.inrs, signals.coordinates)
    errors = (rows - signals.values(torch.tensor([0, 13]))).square().mean(dim=(1, 2))
    torch.testing.assert_close(-10 * torch.log10(errors), found.psnr, atol=0.01, rtol=0)
    pixels = signals.values(torch.tensor([0, 13])).view(2, 6, 5, channels)
    if channels == 4:
        in_memory = network.predict([pixels[0].numpy(), pixels[1].numpy()])
        files = network.predict([Image.open(signals._listing.paths[n]) for n in (0, 13)])
        assert torch.equal(in_memory.probabilities, files.probabilities)
    Image.new("RGB", (5, 6)).save(new / "opaque.png")
    network.predict(new)
    assert (
        "1 image has no alpha, which the network reads, and is taken as opaque, such as "
        "opaque.png" in capsys.readouterr().err
    )


def test_alpha_that_a_network_does_not_read_is_told(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = save_checkpoint(tmp_path / "n.ckpt", recipe=RECIPE)
    load_checkpoint(path).predict(folder / "red")
    said = capsys.readouterr().err
    assert "12 images with alpha are put on white, as the network reads none, such as 0.png" in said


def test_other_stores_do_not_speak_of_alpha(tmp_path):
    store = prepare_store(tmp_path / "s", tiny_spec(), SOME, show_progress=False)
    text = (store.directory / "dataset.json").read_text()
    assert "alpha" not in text
    assert "value_range" not in json.loads(text)
