import dataclasses

import numpy as np
import pytest
import torch
import trimesh
from mesh_examples import make_folder, make_spec, write_meshes
from PIL import Image
from tiny import EVERYTHING

from lightning_dws import INRArchitecture, WeightBatch
from lightning_dws.cli import main
from lightning_dws.errors import DataError
from lightning_dws.inrs import INRStore, Recipe, Wanted, prepare_store
from lightning_dws.inrs.shapes.meshes import Mesh
from lightning_dws.inrs.shapes.rendering import (
    extract_surface,
    render_mesh,
    render_shapes,
    write_mesh,
)
from lightning_dws.inrs.shapes.samples import grid_points

BOX = trimesh.creation.box((1.0, 1.0, 1.0))
BOX_MESH = Mesh(np.asarray(BOX.vertices), np.asarray(BOX.faces))


def ball(size: int, radius: float = 0.6, centre=(0.0, 0.0, 0.0)) -> torch.Tensor:
    distance = (grid_points(size) - torch.tensor(centre)).norm(dim=1) - radius
    return distance.view(size, size, size)


def test_the_surface_of_a_ball():
    surface = extract_surface(ball(40, centre=(0.2, 0.0, -0.1)))
    distance = np.linalg.norm(surface.vertices - [0.2, 0, -0.1], axis=1)
    np.testing.assert_allclose(distance, 0.6, atol=2e-3)
    solid = trimesh.Trimesh(surface.vertices, surface.faces)
    assert solid.volume == pytest.approx(4 / 3 * np.pi * 0.6**3, rel=0.01)


@pytest.mark.parametrize("values", [torch.ones(5, 5, 5), -torch.ones(5, 5, 5)])
def test_no_surface(values):
    assert extract_surface(values) is None
    values[2, 2, 2] = float("nan")
    values[1, 1, 1] *= -1
    assert extract_surface(values) is None
    assert (render_mesh(None, 8) == 1).all()


def test_a_ball_is_drawn_as_a_disc_lit_from_above():
    picture = render_mesh(extract_surface(ball(48)), 96)
    assert picture.shape == (96, 96, 3)
    assert picture.min() >= 0
    assert picture.max() <= 1
    covered = (picture < 0.99).all(dim=2)
    assert covered.float().mean() == pytest.approx(np.pi * 0.6**2 / 4, rel=0.05)
    brightness = picture.mean(dim=2)
    assert brightness[25:45, 48].mean() > brightness[55:72, 48].mean() + 0.1


def test_the_nearest_surface_is_seen_without_holes():
    """A box hides what is behind it: three shades, of its three sides that face the viewer."""
    inner = Mesh(0.5 * BOX_MESH.vertices, BOX_MESH.faces)
    both = Mesh(
        np.concatenate([BOX_MESH.vertices, inner.vertices]),
        np.concatenate([BOX_MESH.faces, inner.faces + len(BOX_MESH.vertices)]),
    )
    picture = render_mesh(BOX_MESH, 64)
    assert torch.equal(render_mesh(both, 64), picture)
    rows = (picture < 0.99).all(dim=2)
    for row in rows[rows.any(dim=1)]:
        inside = row.nonzero()[:, 0]
        assert len(inside) == inside[-1] - inside[0] + 1
    _, counts = picture[..., 2].unique(return_counts=True)
    assert (counts > 100).sum() == 4  # white and three sides


def test_many_small_and_few_large_triangles_look_alike():
    fine = BOX.copy()
    for _ in range(4):
        fine = fine.subdivide()
    drawn = render_mesh(Mesh(np.asarray(fine.vertices), np.asarray(fine.faces)), 64)
    assert (drawn - render_mesh(BOX_MESH, 64)).abs().mean() < 0.01


def test_inrs_are_drawn_each_for_itself():
    architecture = INRArchitecture((3, 4, 1), output_offset=0.0)
    nothing = WeightBatch.from_parameters(architecture, torch.zeros(2, architecture.num_parameters))
    plane = nothing.parameters.clone()
    plane[1, :3] = torch.tensor([0.0, 0.0, 1 / 30])  # first neuron: sin(z)
    plane[1, 16] = 1.0
    batch = nothing.replace(parameters=plane)
    assert (batch.weights[1][1, 0, 0], batch.weights[0][1, 0, 2]) == (1.0, pytest.approx(1 / 30))
    white, half = render_shapes(batch, 8, 32)
    assert (white == 1).all()
    assert (half < 0.99).any()


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shown")
    data = make_folder(write_meshes(folder / "meshes", 4, 2), folder / "cache")
    wanted = Wanted(EVERYTHING, {})
    recipe = Recipe(steps=200, learning_rate=5e-3, schedule="cosine")
    spec = dataclasses.replace(make_spec(data), recipe=recipe)
    prepare_store(folder / "store", spec, wanted, show_progress=False)
    return folder, data


def test_show_draws_originals_and_reconstructions_and_exports(shown, capsys):
    folder, data = shown
    store, index = INRStore(folder / "store"), int(data.split("test").object_id[1])
    words = ["inrs", "show", str(folder / "store"), "--split", "test", "--count", "3"]
    signals = [
        *("--signals", "lightning_dws.inrs.MeshFolder"),
        *("--signals.root", str(folder / "meshes"), "--signals.val_share", "0.25"),
        *("--signals.sampling.num_points", "300", "--signals.sampling.grid_size", "12"),
        *("--signals.num_processes", "0", "--signals.cache", str(folder / "cache")),
    ]
    main([*words, "--output", str(folder / "without.png")])
    main([*words, "--output", str(folder / "with.png"), *signals])
    printed = capsys.readouterr().out
    assert f"mean iou, test: {float(store.measure('iou', 'test').nanmean()):.4f}" in printed
    with Image.open(folder / "without.png") as one_row, Image.open(folder / "with.png") as two_rows:
        assert two_rows.height > 1.5 * one_row.height
    out = folder / "meshes_out" / "shape.obj"
    main([*words, "--mesh", str(out), "--object", str(index)])
    original = data.normalised_mesh(index)
    rebuilt = trimesh.load_mesh(out)
    volume = trimesh.Trimesh(original.vertices, original.faces).volume
    assert rebuilt.volume == pytest.approx(volume, rel=0.4)
    with pytest.raises(SystemExit):
        main([*words, "--mesh", str(out), "--object", "999"])
    assert "no object_id 999 in split 'test'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*words, "--signals", "tiny.Blobs"])
    assert "the signals given are blobs" in capsys.readouterr().err
    main(["inrs", "verify", str(folder / "store"), "--sample", "2", *signals])
    assert "rendered" in capsys.readouterr().out
    augmented = ["--count", "1", "--output", str(folder / "augmented.png")]
    main(["inrs", "augment", str(folder / "store"), *augmented])
    with Image.open(folder / "augmented.png") as picture:
        assert picture.width > 5 * picture.height  # one INR, and a column for each augmentation


def test_a_reconstruction_is_written_in_several_formats(tmp_path):
    surface = extract_surface(ball(16))
    for suffix in (".obj", ".ply", ".stl", ".off"):
        path = tmp_path / "new" / f"ball{suffix}"
        write_mesh(surface, path)
        assert trimesh.load_mesh(path).volume == pytest.approx(0.9, rel=0.1)
    with pytest.raises(DataError, match=r"ball\.what: expected a name that ends in \.obj"):
        write_mesh(surface, tmp_path / "ball.what")
