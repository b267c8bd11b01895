import gc
import multiprocessing
import os
from importlib.util import find_spec

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run side by side, a core each
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # where there are more, they do not spin

gc.disable()  # until all tests are collected: nearly all that is made stays

import pytest
import torch

if not os.environ.get("TESTS_ON_GPU"):  # with it, pytest tests/device runs on a GPU
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # trainers would take one, and round as it does
if not torch.cuda.is_available():  # before anything imports Triton: its kernels run interpreted
    os.environ["TRITON_INTERPRET"] = "1"

from tiny import EVERYTHING, Blobs, tiny_spec

from lightning_dws.inrs import INRDatasetSpec, Wanted, prepare_store
from lightning_dws.inrs.signals.arrays import value_ranges

# Triton is there for Linux on x86-64 alone: what it compiles is tested there, interpreted.
collect_ignore = [] if find_spec("triton") else ["mixup/test_matching_triton.py", "device"]

# torch.compile's own processes, which import torch anew, cost more than they save here.
os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"
# Whatever first asks for a process, all are forked from one that has imported what they need.
multiprocessing.set_forkserver_preload(["numba", "lightning_dws.table.preloaded"])


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Look for garbage among what the tests make, not through all of the modules and tests."""
    result = yield
    gc.freeze()
    gc.enable()
    return result


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def no_ranges_in_the_users_cache(tmp_path_factory):
    folder = tmp_path_factory.getbasetemp() / "value_ranges"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(value_ranges, "cache_folder", lambda: folder)
        yield


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
