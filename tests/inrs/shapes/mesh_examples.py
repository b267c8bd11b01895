"""Small meshes on disk, good and bad, and the settings that make them quick to fit."""

from pathlib import Path

import trimesh

from lightning_dws import INRArchitecture
from lightning_dws.inrs import INRDatasetSpec, MeshFolder, Recipe, Sampling

ARCHITECTURE = INRArchitecture((3, 8, 8, 1), w0=10.0, output_offset=0.0)
SAMPLING = Sampling(num_points=300, grid_size=12)
RECIPE = Recipe(steps=20, learning_rate=5e-3, points_per_step=64)
CLASSES = ("ball", "box", "rod")
BAD = {
    "ball/train/bad_empty.off": "an empty file",
    "box/train/bad_nan.off": "1 vertices are not finite",
    "box/test/bad_flat.off": "all triangles are degenerate",
    "rod/train/bad_garbage.obj": "not a readable mesh|no triangles",
    "rod/train/bad_sheet.off": "encloses no volume",
}


def make_solid(name: str, number: float) -> trimesh.Trimesh:
    if name == "ball":
        solid = trimesh.creation.icosphere(subdivisions=1, radius=1 + number)
        return solid.apply_scale((1, 1, 1 + 0.1 * number))
    if name == "box":
        return trimesh.creation.box((1, 1 + 0.2 * number, 1.5))
    return trimesh.creation.cylinder(0.3 + 0.03 * number, 1.5, sections=8)


def write_meshes(root: Path, num_train: int = 8, num_test: int = 3) -> Path:
    """Write three classes in ModelNet's layout, as .off and .obj."""
    for name in CLASSES:
        for split, count in (("train", num_train), ("test", num_test)):
            (root / name / split).mkdir(parents=True)
            for number in range(count):
                suffix = ".obj" if number % 3 == 1 else ".off"
                solid = make_solid(name, number + (0.5 if split == "test" else 0))
                solid.export(root / name / split / f"{name}_{number:04d}{suffix}")
    return root


def write_bad_meshes(root: Path) -> None:
    """Add the files of ``BAD``."""
    content = {
        "ball/train/bad_empty.off": "",
        "box/train/bad_nan.off": "OFF\n3 1 0\n0 0 0\n1 0 nan\n0 1 0\n3 0 1 2\n",
        "box/test/bad_flat.off": "OFF\n3 1 0\n0 0 0\n1 0 0\n2 0 0\n3 0 1 2\n",
        "rod/train/bad_garbage.obj": "f 1 2 3 what\n\x00\x01",
        "rod/train/bad_sheet.off": "OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n",
    }
    for place, text in content.items():
        (root / place).write_text(text)


def make_folder(root: Path, cache: Path, **options) -> MeshFolder:
    settings = {"sampling": SAMPLING, "num_processes": 0, "val_share": 0.25} | options
    return MeshFolder(str(root), cache=str(cache), **settings)


def make_spec(signals: MeshFolder) -> INRDatasetSpec:
    return INRDatasetSpec(signals, ARCHITECTURE, RECIPE)
