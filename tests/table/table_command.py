"""The table's command on blobs: two rows, two models, two numbers of views, two seeds."""

import gc
import json
from pathlib import Path

import yaml

from lightning_dws.cli import main
from lightning_dws.process_pool import map_in_processes

BLOBS = {
    "data": {
        "dataset": {
            "signals": "tiny.Blobs",
            "architecture": {"widths": [2, 6, 5, 1]},
            "recipe": {"steps": 10, "learning_rate": 0.005},
        },
        "batch_size": 8,
    }
}
NOISE = {"data": {"augmentations": [{"class_path": "tiny.AddNoise", "init_args": {"scale": 0.5}}]}}
MIXUP = {"trainer": {"callbacks+": [{"class_path": "lightning_dws.mixup.MixUp"}]}}
WIDE = {"model": {"network": {"class_path": "tiny.FlatMLP", "init_args": {"hidden_dim": 16}}}}


class TinyTable:
    """A table in a folder, to be run there; ``content`` is its config."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.content = {
            "name": "tiny",
            "seeds": [0, 1],
            "views": [1, 2],
            "datasets": {"blobs": BLOBS},
            "models": {"DWS": {"model": {"network": "tiny.FlatMLP"}}, "wide": WIDE},
            "augmentations": {"none": {}, "MixUp": MIXUP},
            "common": {
                "data": {"root": str(folder / "data")},
                "trainer": {
                    "accelerator": "cpu",
                    "max_steps": 6,
                    "val_check_interval": 2,
                    "check_val_every_n_epoch": None,
                },
            },
            "poster": {"blobs": "FMNIST"},
            "poster_figures": {
                "FMNIST": {"DWS": {"none": {1: [68.30, 0.62]}, "MixUp": {1: [74.36, 1.17]}}}
            },
        }
        self.results = folder / "results"

    @property
    def words(self) -> list[str]:
        path = self.folder / "tiny.yaml"
        path.write_text(yaml.safe_dump(self.content, sort_keys=False))
        return ["table", "--config", str(path), "--results_root", str(self.results)]

    def run(self, *options: str) -> None:
        main([*self.words, "--devices", "cpu", *options])

    def records(self) -> dict[str, dict]:
        files = sorted((self.results / "tiny" / "cells").glob("*.json"))
        return {path.stem: json.loads(path.read_text()) for path in files}


def run_two_processes(path: Path) -> None:
    path.write_text(str(sorted(result for _, result in map_in_processes(int, [0, 1], 2))))


def write_garbage_collection(path: Path) -> None:
    path.write_text(json.dumps({"enabled": gc.isenabled(), "kept": gc.get_freeze_count()}))
