import numpy as np
import pytest
import torch
import trimesh

from lightning_dws.inrs import Sampling, Solids
from lightning_dws.inrs.shapes.solid_classes import BUILDERS

SAMPLING = Sampling(num_points=200, grid_size=8)


@pytest.fixture
def data(tmp_path):
    return Solids(28, 14, 14, sampling=SAMPLING, cache=str(tmp_path), num_processes=0)


@pytest.mark.parametrize("name", BUILDERS)
def test_every_solid_is_closed_and_unlike_the_next(name):
    volumes = []
    for seed in range(8):
        solid = BUILDERS[name](np.random.default_rng(seed))
        assert solid.is_watertight
        assert solid.is_winding_consistent
        volumes.append(solid.volume)
        assert solid.volume > 0
    assert len(np.unique(np.round(volumes, 6))) == 8


def test_splits_hold_every_class_equally(data):
    assert len(data.classes) >= 10
    ids = []
    for name, count in (("train", 28), ("val", 14), ("test", 14)):
        split = data.split(name)
        assert torch.equal(torch.bincount(split.label), torch.full((14,), count // 14))
        ids += split.object_id.tolist()
    assert sorted(ids) == list(range(56))
    assert not data.skipped({"train": None, "val": None, "test": None})


def test_an_object_depends_on_seed_split_and_place(data, tmp_path):
    larger = Solids(42, 14, 14, sampling=SAMPLING, cache=str(tmp_path))
    assert np.array_equal(data.load_mesh(5).vertices, larger.load_mesh(5).vertices)
    assert np.array_equal(data.load_mesh(28).vertices, larger.load_mesh(42).vertices)
    assert data.describe(28) == larger.describe(42) == "val object 0 (bed)"
    other = Solids(28, 14, 14, seed=1, sampling=SAMPLING)
    assert data.load_mesh(5).vertices.shape != other.load_mesh(5).vertices.shape or not np.allclose(
        data.load_mesh(5).vertices, other.load_mesh(5).vertices
    )
    assert not np.allclose(data.load_mesh(0).vertices[:8], data.load_mesh(14).vertices[:8])
    names = {data.name, larger.name, other.name, Solids(28, 14, 14, max_tilt_degrees=0).name}
    assert len(names) == 4


def test_objects_stand_upright_up_to_the_tilt():
    """A tilted table's top has its normal within the tilt of z."""
    data = Solids(28, 14, 14, max_tilt_degrees=5, sampling=SAMPLING)
    mesh = data.load_mesh(data.classes.index("shelf"))
    solid = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    most = solid.face_normals[:, 2].max()
    assert np.cos(np.deg2rad(5)) <= most <= 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_val": 3}, "num_val must be at least 14, one of each class, got 3"),
        ({"max_tilt_degrees": -1}, "max_tilt_degrees must be in"),
    ],
)
def test_arguments_out_of_their_range_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        Solids(**options)
    with pytest.raises(ValueError, match="object_id must be in"):
        Solids().load_mesh(10**6)
