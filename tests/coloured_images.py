"""Folders of small images, noise around a colour that is their class."""

import numpy as np
from PIL import Image

COLOURS = {"blue": (10, 20, 200), "green": (20, 180, 10), "red": (220, 30, 20)}


def paint(path, colour, size=(6, 5), seed=0):
    """Save noise around a colour; ``size`` is (width, height)."""
    noise = np.random.default_rng(seed).integers(-9, 10, (size[1], size[0], 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((np.array(colour) + noise).astype(np.uint8)).save(path)


def fill(folder, count=20, prefix=""):
    for name, colour in COLOURS.items():
        for index in range(count):
            paint(folder / name / f"{prefix}{index:03d}.png", colour, seed=index)
    return folder
