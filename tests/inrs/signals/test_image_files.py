import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_dws.errors import DataError
from lightning_dws.inrs.signals.image_files import is_image_name, read_image, read_properties

QUARTER_TURNED = 6  # shown after a turn of 90 degrees clockwise


def gradient(height=4, width=6) -> np.ndarray:
    return np.arange(height * width, dtype=np.uint8).reshape(height, width) * 10


@pytest.mark.parametrize("name", ["a.png", "B.JPG", "c.jpeg", "d.bmp", "e.gif", "f.tiff", "g.webp"])
def test_images_are_known_by_their_extension(name):
    assert is_image_name(name)


@pytest.mark.parametrize("name", ["a.txt", "png", "labels.csv", "b.eps", "c.h5", "d.pdf", "e.npy"])
def test_other_files_are_not_images(name):
    assert not is_image_name(name)


@pytest.mark.parametrize("extension", ["png", "bmp", "gif", "tiff", "pgm", "webp"])
def test_lossless_formats_keep_their_pixels(tmp_path, extension):
    path = tmp_path / f"image.{extension}"
    options = {"lossless": True} if extension == "webp" else {}
    Image.fromarray(gradient()).save(path, **options)
    assert torch.equal(read_image(path, (4, 6), colour=False)[..., 0], torch.tensor(gradient()))
    assert read_properties(path).size == (4, 6)


def test_colour_and_grey(tmp_path):
    colours = np.zeros((2, 3, 3), np.uint8)
    colours[:, :, 0] = 255
    Image.fromarray(colours).save(tmp_path / "red.png")
    Image.fromarray(gradient()).save(tmp_path / "grey.png")
    assert torch.equal(read_image(tmp_path / "red.png", (2, 3), colour=True), torch.tensor(colours))
    luma = read_image(tmp_path / "red.png", (2, 3), colour=False)
    assert luma.shape == (2, 3, 1)
    assert luma.unique().tolist() == [76]  # 0.299 of 255
    rgb = read_image(tmp_path / "grey.png", (4, 6), colour=True)
    assert torch.equal(rgb, torch.tensor(gradient())[..., None].expand(-1, -1, 3))
    assert read_properties(tmp_path / "red.png").is_colour
    assert not read_properties(tmp_path / "grey.png").is_colour


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (7, 4), (10, 20), (13, 64), (40, 7)])
@pytest.mark.parametrize("colour", [False, True])
def test_a_constant_image_stays_constant(tmp_path, size, colour):
    Image.new("RGB", (20, 10), (37, 37, 37)).save(tmp_path / "image.png")
    image = read_image(tmp_path / "image.png", size, colour)
    assert image.shape == (*size, 3 if colour else 1)
    assert image.unique().tolist() == [37]


def test_shrinking_averages_areas(tmp_path):
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (12, 20), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    found = read_image(tmp_path / "image.png", (3, 5), colour=False)[..., 0]
    expected = torch.tensor(pixels).double().unflatten(0, (3, 4)).unflatten(2, (5, 4)).mean((1, 3))
    assert (found - expected).abs().max() <= 1


@pytest.mark.parametrize(
    ("extension", "options"),
    [
        ("jpg", {}),
        ("png", {}),
        ("webp", {}),
        ("tiff", {}),
        ("tiff", {"compression": "tiff_lzw"}),
    ],
)
def test_images_are_turned_upright(tmp_path, extension, options):
    """The camera was turned: the file's left edge is the top of what was seen."""
    path = tmp_path / f"image.{extension}"
    pixels = np.full((16, 32), 20, np.uint8)
    pixels[:, :16] = 230
    exif = Image.Exif()
    exif[0x0112] = QUARTER_TURNED
    Image.fromarray(pixels).save(path, exif=exif, **options)
    assert read_properties(path).size == (32, 16)
    image = read_image(path, (32, 16), colour=False)[..., 0].double()
    assert image[:15].mean() > 220
    assert image[17:].mean() < 30


def test_transparent_parts_are_white(tmp_path):
    layers = np.zeros((2, 2, 4), np.uint8)
    layers[0, 0] = (10, 20, 30, 255)
    layers[0, 1] = (0, 0, 0, 128)
    Image.fromarray(layers).save(tmp_path / "alpha.png")
    image = read_image(tmp_path / "alpha.png", (2, 2), colour=True)
    assert image[0, 0].tolist() == [10, 20, 30]
    assert image[0, 1].tolist() == [127, 127, 127]
    assert image[1].unique().tolist() == [255]
    palette = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    palette.putpalette([5, 5, 5, 9, 9, 9])
    palette.save(tmp_path / "palette.png", transparency=1)
    assert read_image(tmp_path / "palette.png", (1, 2), colour=False).flatten().tolist() == [5, 255]


@pytest.mark.parametrize("extension", ["png", "tiff", "pgm"])
def test_sixteen_bits_keep_their_range(tmp_path, extension):
    path = tmp_path / f"image.{extension}"
    Image.fromarray(np.array([[0, 257 * 100, 65535]], np.uint16)).save(path)
    assert read_image(path, (1, 3), colour=False).flatten().tolist() == [0, 100, 255]
    assert not read_properties(path).is_colour


def test_pixels_without_a_range_are_refused(tmp_path):
    for values in (np.zeros((2, 2), np.float32), np.full((2, 2), 70_000, np.int32)):
        Image.fromarray(values).save(tmp_path / "image.tiff")
        with pytest.raises(DataError, match=r"image\.tiff: .* no range of their own"):
            read_image(tmp_path / "image.tiff", (2, 2), colour=False)


@pytest.mark.parametrize("extension", ["png", "jpg", "gif", "bmp", "tiff", "webp"])
@pytest.mark.parametrize("damage", ["empty", "text", "cut", "header"])
def test_a_damaged_file_is_named(tmp_path, extension, damage):
    path = tmp_path / f"image.{extension}"
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    content = path.read_bytes()
    damaged = {
        "empty": b"",
        "text": b"no image at all",
        "cut": content[: len(content) // 2],
        "header": content[:12],
    }
    path.write_bytes(damaged[damage])
    with pytest.raises(DataError, match=rf"image\.{extension}: not a readable image") as error:
        read_image(path, (40, 40), colour=True)
    assert "\n" not in str(error.value)


def test_decompression_bombs_are_refused(tmp_path):
    """A header that promises more pixels than Pillow trusts is enough, and is all that is read."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    for side in (10_000, 60_000):  # a warning of Pillow's, and an error
        header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
        path = tmp_path / "bomb.png"
        path.write_bytes(
            b"\x89PNG\r\n\x1a\n"
            + chunk(b"IHDR", header)
            + chunk(b"IDAT", zlib.compress(b"\0"))
            + chunk(b"IEND", b"")
        )
        for read in (read_properties, lambda path: read_image(path, (2, 2), colour=False)):
            with pytest.raises(DataError, match=r"bomb\.png: .*decompression bomb"):
                read(path)
