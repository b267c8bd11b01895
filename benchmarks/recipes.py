"""Recipes for fitting: time, PSNR, statistics of the weights, and what networks learn from them.

    python benchmarks/recipes.py
    python benchmarks/recipes.py --accuracy FOLDER --networks dws gnn

The first command takes a minute on two cores. The second one fits 4,000 / 1,000 / 2,000 images of
Fashion-MNIST with each recipe under FOLDER, trains the networks on them, and goes on where it was
interrupted; a GNN takes four minutes a recipe on two cores, a DWSNet one.
"""

import argparse
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch
from curves import TEST, read_runs

from lightning_dws.inrs import INRStore, fit_inrs
from lightning_dws.inrs.fitting import RECIPES, Recipe
from lightning_dws.inrs.signals import FashionMNIST
from lightning_dws.weight_space import INRArchitecture

ROOT = Path(__file__).parents[1]
ARCHITECTURE = INRArchitecture((2, 32, 32, 1))
OF_RELEASED = ((0.0782, 0.0324, 0.1345), (0.0286, 0.0167, 0.0960))
FAST = RECIPES["fast"]
SEARCHED = {
    "published": RECIPES["published"],
    "Adam 5e-3, 250 steps": Recipe(250, 5e-3),
    "Adam, all points": Recipe(195, 7e-3, "cosine", 5, (0.7, 0.9)),
    "Adam, 392 points": replace(FAST, steps=240, points_per_step=392, betas=(0.7, 0.9)),
    "Adam, 196 points": replace(FAST, steps=280, points_per_step=196, betas=(0.7, 0.9)),
    "fast": FAST,
    "Adam, 56 points": replace(FAST, steps=420, points_per_step=56),
    "Adam 1e-2, 112 points": replace(FAST, steps=270, learning_rate=1e-2),
    "to 25 dB": replace(FAST, steps=550, learning_rate=1e-2, betas=(0.9, 0.99)),
    "sharp": RECIPES["sharp"],
    "first layer 0.1": replace(FAST, steps=260, first_layer_bound=0.1),
    "first layer 0.2": replace(FAST, steps=150, first_layer_bound=0.2),
    "wide, to 25 dB": replace(RECIPES["wide"], steps=75),
    "wide": RECIPES["wide"],
    "K-FAC, 1e-2": Recipe(65, 1.0, optimizer="kfac", damping=1e-2, damping_decay=1.0),
    "K-FAC, 1e-5": Recipe(20, 1.0, optimizer="kfac", damping=1e-5),
    "K-FAC, 1e-5, to 30 dB": Recipe(80, 1.0, optimizer="kfac", damping=1e-5),
    "K-FAC, wide, to 25 dB": replace(RECIPES["exact"], steps=9),
    "K-FAC, wide, to 30 dB": replace(RECIPES["exact"], steps=13),
    "exact": RECIPES["exact"],
}
TRAINED = ("published", "Adam, all points", "fast", "Adam 1e-2, 112 points", "to 25 dB", "sharp")
TRAINED += ("K-FAC, 1e-2", "K-FAC, wide, to 25 dB", "wide", "exact")
OBJECTS = {"train": 4000, "val": 1000, "test": 2000}
NETWORKS = {
    "dws": (
        "--config=conf/fmnist_dws.yaml",
        "--model.network.init_args.set_layer=deepsets",
        "--model.network.init_args.reduction=mean",
        "--trainer.max_epochs=25",
    ),
    "gnn": (
        "--config=conf/fmnist_gnn.yaml",
        "--data.batch_size=32",
        "--trainer.max_epochs=20",
    ),
}


def describe_fits(num_inrs: int) -> None:
    """Fit the first training images with every recipe; print a line for each."""
    data = FashionMNIST()
    objects = data.split("train").object_id[:num_inrs]
    signals, view = data.values(objects), torch.zeros_like(objects)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {num_inrs} INRs")
    header = "mean PSNR  lowest   INRs/s | std of W0     W1     W2 | b0     b1     b2"
    print(f"{'':23s}{header}")
    print(f"{'released INRs':54s}| {format_std(*OF_RELEASED)}")
    for name, recipe in [("", RECIPES["exact"]), *SEARCHED.items()]:  # the first warms up
        start = time.perf_counter()
        batch, psnr = fit_inrs(
            signals,
            data.coordinates,
            ARCHITECTURE,
            recipe=recipe,
            seed=0,
            object_id=objects,
            view=view,
        )
        rate = num_inrs / (time.perf_counter() - start)
        if name:
            stds = [[part.std().item() for part in of] for of in (batch.weights, batch.biases)]
            fit = f"{psnr.mean():9.2f} {psnr.min():7.1f} {rate:8.1f}"
            print(f"{name:23s}{fit}      | {format_std(*stds)}", flush=True)


def format_std(weights: list[float], biases: list[float]) -> str:
    """Give standard deviations per layer as text."""
    return " | ".join(" ".join(f"{std:.4f}" for std in stds) for stds in (weights, biases))


def train(root: Path, name: str, network: str, seed: int) -> float:
    """Fit with a recipe and train a network, unless that is done; give the test accuracy in %."""
    store = "".join(c if c.isalnum() else "_" for c in name)
    folder = root / "runs" / f"{store}-{network}-{seed}"
    if not read_runs([str(folder)]):
        recipe = json.dumps(SEARCHED[name].settings)
        counts = [f"--num_{split}_objects={count}" for split, count in OBJECTS.items()]
        where = [f"--root={root}", f"--store={store}"]
        config = "--config=conf/inrs/fmnist.yaml"
        run("inrs", "fit", config, f"--recipe={recipe}", *counts, *where)
        run(
            "fit",
            *NETWORKS[network],
            *(f"--data.{option[2:]}" for option in (*counts, *where)),
            f"--data.dataset.recipe={recipe}",
            f"--seed_everything={seed}",
            f"--trainer.default_root_dir={folder}",
            "--trainer.enable_progress_bar=false",
        )
    (runs,) = read_runs([str(folder)]).values()
    return 100 * runs[-1][TEST][-1]


def run(*arguments: str) -> None:
    """Run a command of ``main.py``."""
    command = [sys.executable, "main.py", *arguments]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inrs", type=int, default=256, help="how many to fit per recipe")
    parser.add_argument("--accuracy", type=Path, help="train networks; stores and runs go there")
    parser.add_argument("--networks", nargs="+", default=["dws"], choices=sorted(NETWORKS))
    parser.add_argument("--recipes", nargs="+", default=TRAINED, choices=sorted(SEARCHED))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.accuracy is None:
        describe_fits(options.inrs)
        return
    for network in options.networks:
        for name in options.recipes:
            accuracy = train(options.accuracy.resolve(), name, network, options.seed)
            store = "".join(c if c.isalnum() else "_" for c in name)
            psnr = INRStore(options.accuracy / store).psnr("train").mean()
            print(
                f"{name:23s} {psnr:6.2f} dB  {network}, seed {options.seed}: {accuracy:.1f} %",
                flush=True,
            )


if __name__ == "__main__":
    main()
