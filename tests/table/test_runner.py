import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from table_command import NOISE, TinyTable

from lightning_dws.cli import main

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
    "OMP_NUM_THREADS": "1",
}


def figures(record: dict) -> dict:
    return {name: record[name] for name in ("test", "best", "steps", "test_objects", "history")}


def test_a_table_runs_every_cell_once(table, capfd):
    table.run()
    records = table.records()
    assert len(records) == 16
    assert all(record["status"] == "finished" for record in records.values())
    assert all(name.endswith(record["hash"]) for name, record in records.items())
    assert {len(record["history"]["step"]) for record in records.values()} == {3}
    assert not list((table.results / "tiny" / "runs").iterdir())
    assert capfd.readouterr().out.count(" | seed ") == 16
    table.run()
    assert "16 finished, 0 to run" in capfd.readouterr().out
    assert table.records() == records


def test_a_cell_has_the_numbers_of_its_single_run(table, tmp_path, capsys):
    table.content["augmentations"]["noise"] = NOISE
    table.content["seeds"] = [0]
    table.run()
    for record in table.records().values():
        words = shlex.split(record["command"])[2:]
        main([*words, f"--trainer.default_root_dir={tmp_path / 'runs'}"])
        single = re.search(r"test/accuracy\W+([\d.]+)", capsys.readouterr().out)
        assert float(single[1]) == record["test"]["accuracy"]
    best = [
        torch.load(path, weights_only=True)
        for path in sorted((tmp_path / "runs").rglob("best*.ckpt"))
    ]
    steps = [record["best"]["step"] for record in table.records().values()]
    assert sorted(checkpoint["global_step"] for checkpoint in best) == sorted(steps)
