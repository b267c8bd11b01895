import pytest
import torch
from tiny import EVERYTHING, Blobs, tiny_spec

from lightning_dws.inrs import INRDatasetSpec, Wanted, prepare_store


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def spec() -> INRDatasetSpec:
    return tiny_spec()


@pytest.fixture
def store(tmp_path, spec):
    """A finished store: 3 classes, 24 / 6 / 6 objects, two views for training."""
    directory = tmp_path / "stores" / spec.store_name
    return prepare_store(directory, spec, Wanted(EVERYTHING, {"train": 2}), show_progress=False)


@pytest.fixture
def signals() -> Blobs:
    return Blobs()
