"""Single files of arrays: what is read of them, what is refused, and how they change their size."""

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_dws.errors import DataError
from lightning_dws.inrs.signals.arrays import array_files
from lightning_dws.inrs.signals.arrays.array_files import read_array, read_array_properties
from lightning_dws.inrs.signals.arrays.resampling import resample
from lightning_dws.inrs.signals.arrays.volume_slices import draw_slices
from lightning_dws.inrs.signals.base import grid_coordinates, pixel_coordinates


def saved(tmp_path, values, **options):
    np.save(tmp_path / "a.npy", values, **options)
    return tmp_path / "a.npy"


def write_tiff(path, pages):
    first, *others = [Image.fromarray(page) for page in pages]
    first.save(path, save_all=True, append_images=others)
    return path


@pytest.mark.parametrize("kind", ["?", "u1", "i2", ">i4", "u8", "f2", "<f4", ">f8"])
def test_numbers_of_any_type_and_order_are_read(tmp_path, kind):
    values = (np.arange(24).reshape(2, 3, 4) % 2).astype(kind)
    path = saved(tmp_path, np.asfortranarray(values))
    assert np.array_equal(read_array(path, 3)[..., 0], values.astype(float))
    assert read_array(path, 2).shape == (2, 3, 4)  # the last axis is that of the channels
    properties = read_array_properties(path, 2)
    assert (properties.size, properties.channels) == ((2, 3), 4)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int32, np.float32])
def test_pages_of_a_tiff_file_are_the_first_axis(tmp_path, kind):
    values = (np.arange(60).reshape(3, 4, 5) * 4).astype(kind)
    path = write_tiff(tmp_path / "a.tif", values)
    assert np.array_equal(read_array(path, 3)[..., 0], values)
    assert read_array_properties(path, 3).size == (3, 4, 5)
    one = write_tiff(tmp_path / "b.tiff", values[:1])
    assert np.array_equal(read_array(one, 2)[..., 0], values[0])


def test_colours_of_pages_are_channels(tmp_path):
    values = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)
    path = write_tiff(tmp_path / "a.tif", values)
    assert np.array_equal(read_array(path, 3), values)


def npy(shape, padding=0):
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * padding
    return b"\x93NUMPY\x02\x00" + len(header).to_bytes(4, "little") + header + b"\0" * 80


VOLUME = np.zeros((2, 3, 4))
BAD_ARRAYS = {
    "flat": (VOLUME[0], r"shape \(3, 4\), expected 3 axes"),
    "deep": (VOLUME[None, None], r"shape \(1, 1, 2, 3, 4\), expected 3 axes"),
    "nothing": (VOLUME[:0], r"shape \(0, 3, 4\)|empty"),
    "nan": (VOLUME * np.nan, "24 of 24 values are not finite"),
    "inf": (np.where(np.arange(4) > 2, np.inf, VOLUME), "6 of 24 values are not finite"),
    "complex": (VOLUME * 1j, "values of complex128; expected real and imaginary parts as two"),
    "text": (np.full((1, 1, 1), "a"), "values of <U1, expected numbers"),
    "dates": (np.zeros((1, 1, 1), "M8[s]"), r"values of datetime64\[s\], expected numbers"),
    "pickled": (np.array([[[{}]]], object), "Python objects, which can run code and are never"),
}


@pytest.mark.parametrize("name", BAD_ARRAYS)
def test_what_is_no_array_of_finite_numbers_is_refused(tmp_path, name):
    values, reason = BAD_ARRAYS[name]
    with pytest.raises(DataError, match=rf"a\.npy: .*{reason}") as caught:
        read_array(saved(tmp_path, values, allow_pickle=True), 3)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "EOF"),
        (b"no array", "magic string"),
        (npy((10**5, 10**5, 10**4)), "greater than file size"),
        (npy((10**12,) * 3), "not a readable .npy file"),
        (npy((1, 1, 1), padding=20_000), "Header info length"),
        (npy("(1, 1, -1)"), "not a readable|shape"),
        (npy("__import__('os')"), "not a readable .npy file"),
    ],
)
def test_damaged_files_are_one_line_and_take_no_memory(tmp_path, content, reason):
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(DataError, match=reason) as caught:
        read_array(tmp_path / "a.npy", 3)
    assert "\n" not in str(caught.value)


def test_bad_tiff_files_are_refused(tmp_path, monkeypatch):
    pages = np.zeros((2, 4, 5), np.uint8)
    path = write_tiff(tmp_path / "a.tif", pages)
    with pytest.raises(DataError, match="2 pages, expected one for 2 axes"):
        read_array(path, 2)
    (tmp_path / "cut.tif").write_bytes(path.read_bytes()[:-40])
    (tmp_path / "text.tif").write_bytes(b"text")
    Image.fromarray(pages[0]).save(tmp_path / "png.tif", format="png")
    Image.fromarray(pages[0]).convert("P").save(tmp_path / "palette.tif")
    write_tiff(tmp_path / "mixed.tif", [pages[0], pages[0, :2]])
    for name, reason in {
        "cut": "not a readable image",
        "text": "not a readable image",
        "png": "PNG under the name of a TIFF file",
        "palette": "pages of Pillow's mode P, expected numbers",
        "mixed": "page 1 has 2x5 pixels of mode L, the first 4x5 of L",
    }.items():
        with pytest.raises(DataError, match=rf"{name}\.tif: {reason}"):
            read_array(tmp_path / f"{name}.tif", 3)
    monkeypatch.setattr(array_files, "_MOST_VALUES", 39)
    with pytest.raises(DataError, match="40 values, expected at most 39"):
        read_array(path, 3)


def test_an_axis_that_shrinks_is_averaged_and_one_that_grows_interpolated():
    values = np.arange(12.0).reshape(1, 4, 3, 1)
    assert np.array_equal(resample(values, (1, 2, 3)), values.reshape(1, 2, 2, 3, 1).mean(axis=2))
    parts = resample(np.array([[0.0], [3.0], [9.0]]), (2,))
    assert np.allclose(parts[:, 0], [(0 + 0.5 * 3) / 1.5, (0.5 * 3 + 9) / 1.5])
    grown = resample(np.array([[0.0], [1.0]]), (4,))
    assert np.allclose(grown[:, 0], [0, 0.25, 0.75, 1])
    generator = np.random.default_rng(0)
    for old, new in ((7, 3), (3, 7), (1, 4), (5, 1), (100, 33)):
        values = generator.uniform(size=(old, 2, 2))
        found = resample(values, (new, 2))
        assert found.shape == (new, 2, 2)
        assert values.min() <= found.min()
        assert found.max() <= values.max() + 1e-12
        assert np.allclose(resample(np.ones((old, 2, 2)), (new, 3)), 1)


def test_coordinates_of_images_are_those_of_grids():
    assert torch.equal(pixel_coordinates(3, 4), grid_coordinates((3, 4)))
    points = grid_coordinates((2, 3, 4)).view(2, 3, 4, 3)
    assert points[1, 0, 0].tolist() == [-1, -1, 1]  # z is that of the first axis
    assert points[0, 0, 3].tolist() == [1, -1, -1]


def test_slices_show_the_middle_and_the_maximum():
    volumes = torch.zeros(1, 4, 6, 6, 1)
    volumes[0, 2], volumes[0, :, 3], volumes[0, :, :, 3] = 0.1, 0.2, 0.3
    volumes[0, 0, 1, 1] = 0.9
    image = draw_slices(volumes)[0, ..., 0]
    assert image.shape == (13, 13)
    assert torch.equal(image[:6, :6], volumes[0, 2, ..., 0])
    assert torch.equal(image[:6, 8:12], volumes[0, :, :, 3, 0].T)
    assert torch.equal(image[8:12, :6], volumes[0, :, 3, :, 0])
    assert image[8, 8] == 0.9
    assert (image[:, 6] == 1).all()
