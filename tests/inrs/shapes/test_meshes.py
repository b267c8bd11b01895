import numpy as np
import pytest
import trimesh

from lightning_dws.errors import DataError
from lightning_dws.inrs.shapes.mesh_files import MESH_SUFFIXES
from lightning_dws.inrs.shapes.meshes import Mesh, clean, normalise, orient, read_mesh
from lightning_dws.inrs.shapes.signed_distance import SignedDistance


def mesh_of(solid: trimesh.Trimesh) -> Mesh:
    return Mesh(np.asarray(solid.vertices, np.float64), np.asarray(solid.faces, np.int64))


def sphere(subdivisions: int = 3, centre=(0, 0, 0), radius: float = 1.0) -> Mesh:
    solid = trimesh.creation.icosphere(subdivisions=subdivisions, radius=radius)
    return mesh_of(solid.apply_translation(centre))


def join(*meshes: Mesh) -> Mesh:
    starts = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes)])
    faces = [mesh.faces + start for mesh, start in zip(meshes, starts, strict=False)]
    return Mesh(np.concatenate([m.vertices for m in meshes]), np.concatenate(faces))


def turned(mesh: Mesh, chosen=slice(None)) -> Mesh:
    faces = mesh.faces.copy()
    faces[chosen] = faces[chosen][:, ::-1]
    return Mesh(mesh.vertices, faces)


def without(mesh: Mesh, removed: np.ndarray) -> Mesh:
    return Mesh(mesh.vertices, mesh.faces[~removed])


POINTS = np.random.default_rng(0).uniform(-1.5, 1.5, (4000, 3))
RADIUS = np.linalg.norm(POINTS, axis=1)
INSIDE, OUTSIDE = RADIUS < 0.98, RADIUS > 1.02


def assert_is_the_unit_sphere(mesh: Mesh, tolerance: float = 0.02) -> None:
    found = SignedDistance(mesh)(POINTS)
    away = INSIDE | OUTSIDE
    np.testing.assert_allclose(found[away], (RADIUS - 1)[away], atol=tolerance)


def test_signed_distances_of_a_sphere():
    assert_is_the_unit_sphere(sphere(4), 3e-3)


def test_doubled_faces_change_nothing():
    """The winding number is 2 inside; distances scaled by it would be twice too large."""
    doubled = join(sphere(), sphere())
    assert SignedDistance(doubled).winding_number(np.zeros((1, 3))) == pytest.approx(2, abs=0.01)
    np.testing.assert_array_equal(
        SignedDistance(doubled)(POINTS)[INSIDE | OUTSIDE],
        SignedDistance(sphere())(POINTS)[INSIDE | OUTSIDE],
    )
    assert_is_the_unit_sphere(doubled)


def test_faces_doubled_back_to_back_count_once():
    both_sides = join(sphere(), turned(sphere()))
    assert not SignedDistance(both_sides).is_inside(POINTS).any()
    assert len(clean(both_sides).faces) == len(sphere().faces)
    assert_is_the_unit_sphere(orient(clean(both_sides)))


def test_an_open_mesh_has_plain_distances():
    """Inside, the winding number is below 1: distances scaled by it would be too small."""
    whole = sphere()
    opened = without(whole, whole.corners.mean(axis=1)[:, 2] > 0.8)
    function = SignedDistance(opened)
    low = INSIDE & (POINTS[:, 2] < 0)
    winding = function.winding_number(POINTS[low])
    assert winding.min() > 0.5
    assert winding.max() < 0.98
    np.testing.assert_allclose(function(POINTS[low]), RADIUS[low] - 1, atol=0.02)
    assert (function(POINTS[OUTSIDE]) > 0).all()


def test_several_parts_and_overlaps_are_one_inside():
    parts = [sphere(centre=(x, 0, 0), radius=0.4) for x in (-0.3, 0.3, 1.2)]
    inside = SignedDistance(orient(clean(join(*parts)))).is_inside(POINTS)
    distances = [np.linalg.norm(POINTS - [x, 0, 0], axis=1) for x in (-0.3, 0.3, 1.2)]
    nearest = np.min(distances, axis=0)
    assert inside[nearest < 0.39].all()
    assert not inside[nearest > 0.41].any()


@pytest.mark.parametrize("subdivisions", [1, 3])
def test_a_mesh_inside_out_is_turned(subdivisions):
    flipped = turned(sphere(subdivisions))
    assert not SignedDistance(flipped).is_inside(POINTS).any()
    fixed = orient(clean(flipped))
    assert SignedDistance(fixed).winding_number(np.zeros((1, 3))) == pytest.approx(1, abs=0.01)


def test_triangles_that_disagree_are_turned():
    chosen = np.random.default_rng(0).random(len(sphere().faces)) < 0.4
    mixed = turned(sphere(), chosen)
    assert abs(SignedDistance(mixed).winding_number(np.zeros((1, 3)))[0]) < 0.5
    assert_is_the_unit_sphere(orient(clean(mixed)))


def test_parts_are_turned_one_by_one():
    parts = (sphere(), turned(sphere(centre=(3, 0, 0))), sphere(centre=(-3, 0, 0)))
    winding = SignedDistance(orient(clean(join(*parts)))).winding_number(
        np.array([[0.0, 0, 0], [3, 0, 0], [-3, 0, 0]])
    )
    np.testing.assert_allclose(winding, 1, atol=1e-2)


def test_a_sound_mesh_is_left_alone():
    pot = mesh_of(trimesh.creation.annulus(0.3, 0.6, 1.0))
    cleaned = clean(pot)
    np.testing.assert_array_equal(orient(cleaned).faces, cleaned.faces)


def test_clean_merges_and_drops():
    mesh = sphere(1)
    soup = Mesh(mesh.corners.reshape(-1, 3), np.arange(3 * len(mesh.faces)).reshape(-1, 3))
    flat = Mesh(np.array([[0.0, 0, 0], [1, 0, 0], [0.5, 0, 0]]), np.array([[0, 1, 2], [0, 0, 1]]))
    cleaned = clean(join(soup, flat))
    assert len(cleaned.faces) == len(mesh.faces)
    assert len(np.unique(cleaned.faces)) == len(mesh.vertices)


NAN = Mesh(np.array([[0.0, 0, 0], [1, 0, np.nan], [0, 1, 0]]), np.array([[0, 1, 2]]))


@pytest.mark.parametrize(
    ("mesh", "reason"),
    [
        (NAN, "1 vertices are not finite"),
        (Mesh(np.zeros((3, 3)), np.array([[0, 1, 2]])), "all triangles are degenerate"),
        (Mesh(np.eye(3), np.array([[0, 1, 5]])), "a triangle of vertex 5, there are 3"),
        (Mesh(np.eye(3), np.empty((0, 3), np.int64)), "no triangles"),
        (Mesh(np.eye(3) * 1e200, np.array([[0, 1, 2]])), "too far away"),
    ],
)
def test_clean_says_what_is_wrong(mesh, reason):
    with pytest.raises(DataError, match=reason):
        clean(mesh)


def test_vertices_that_no_triangle_has_do_not_count():
    extra = np.array([[np.nan, 0, 0], [1e200, 0, 0]])
    stray = Mesh(np.concatenate([sphere(1).vertices, extra]), sphere(1).faces)
    assert np.abs(normalise(clean(stray), 0.1).vertices).max() < 1


def test_normalise_fits_the_sphere_with_its_margin():
    box = mesh_of(trimesh.creation.box((3, 1, 2)).apply_translation((5, 6, 7)))
    fitted = normalise(clean(box), 0.1).vertices
    assert np.linalg.norm(fitted, axis=1).max() == pytest.approx(0.9)
    np.testing.assert_allclose(fitted.max(axis=0) + fitted.min(axis=0), 0, atol=1e-12)


def test_long_triangles_are_cut_without_changing_anything():
    beam = mesh_of(trimesh.creation.box((1.8, 0.1, 0.1)))
    points = POINTS[:500] / 1.6
    half = np.array([0.9, 0.05, 0.05])
    expected = (np.abs(points) < half).all(axis=1)
    np.testing.assert_array_equal(SignedDistance(beam).is_inside(points), expected)
    outside = ~expected
    exact = np.linalg.norm(np.maximum(np.abs(points) - half, 0), axis=1)
    np.testing.assert_allclose(SignedDistance(beam)(points)[outside], exact[outside], atol=1e-9)


@pytest.mark.parametrize("suffix", [".off", ".obj", ".ply", ".stl", ".glb"])
def test_formats(tmp_path, suffix):
    assert suffix in MESH_SUFFIXES
    path = tmp_path / f"ball{suffix}"
    trimesh.creation.icosphere(subdivisions=2).export(path)
    cleaned = clean(read_mesh(path))
    assert len(cleaned.faces) == 320
    assert len(np.unique(cleaned.faces)) == 162


@pytest.mark.parametrize("header", ["OFF4 4 0", "OFF 4 4 0", "OFF\n4 4 0", "OFF\n\n# note\n4 4 0"])
def test_headers_of_modelnet(tmp_path, header):
    path = tmp_path / "mesh.off"
    corners = "0 0 0\n1 0 0\n0 1 0\n0 0 1\n"
    path.write_text(f"{header}\n{corners}3 0 2 1\n3 0 1 3\n3 1 2 3\n3 0 3 2\n")
    mesh = read_mesh(path)
    assert mesh.faces.shape == (4, 3)
    assert mesh.vertices.shape == (4, 3)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.off", b"", "an empty file"),
        ("a.obj", b"", "an empty file"),
        ("a.off", b"OFF\n8 12 0\n0 0 0\n", "not a readable mesh"),
        ("a.off", b"\x00\xff" * 50, "not a readable mesh"),
        ("a.ply", b"ply\nnothing", "not a readable mesh|no triangles"),
        ("a.obj", b"v 0 0 0\nv 1 0 0\n", "not a readable mesh|no triangles"),
        ("a.stl", b"solid\nendsolid\n", "not a readable mesh|no triangles"),
    ],
)
def test_a_broken_file_is_one_error(tmp_path, name, content, reason):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=reason) as caught:
        read_mesh(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_gone_is_one_error(tmp_path):
    with pytest.raises(DataError, match="not a readable mesh"):
        read_mesh(tmp_path / "gone.off")
