"""Draw training curves of finished runs, one line a network, and print their table.

    python benchmarks/curves.py RUNS... --output docs/fmnist_curves.png

RUNS are folders that hold runs, e.g. several seeds of several networks. Runs of one name are
averaged; the table has the mean over them, and the standard deviation of the last column, the test
accuracy at the best validation epoch.
"""

import argparse
from collections import defaultdict
from pathlib import Path
from statistics import mean, stdev

from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

CURVES = ("train/accuracy", "val/accuracy", "train/loss", "val/loss")
TEST = "test/accuracy"


def read_runs(folders: list[str]) -> dict[str, list[dict[str, list[float]]]]:
    """Read the scalars of every finished run, by the run's name."""
    runs = defaultdict(list)
    for folder in folders:
        for path in sorted(Path(folder).rglob("version_*")):
            events = EventAccumulator(str(path))
            events.Reload()
            if TEST in events.Tags()["scalars"]:
                scalars = {
                    tag: [event.value for event in events.Scalars(tag)] for tag in (*CURVES, TEST)
                }
                runs[path.parent.name].append(scalars)
    return runs


def average(runs: list[dict[str, list[float]]], tag: str) -> list[float]:
    """Average a curve over runs of the same length."""
    return [mean(values) for values in zip(*(run[tag] for run in runs), strict=True)]


def main() -> None:
    """Print the table and draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+")
    parser.add_argument("--output", default="curves.png")
    parser.add_argument("--every", type=int, default=4, help="epochs between the table's columns")
    arguments = parser.parse_args()
    runs = read_runs(arguments.folders)

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.subplots(1, 2)
    for number, (name, own) in enumerate(sorted(runs.items())):
        for axis, kind in zip(axes, ("accuracy", "loss"), strict=True):
            for split, style in (("train", "--"), ("val", "-")):
                curve = average(own, f"{split}/{kind}")
                label = f"{name}, {split}" if kind == "accuracy" else None
                epochs = range(1, len(curve) + 1)
                axis.plot(epochs, curve, style, color=f"C{number}", label=label)
            axis.set_xlabel("epoch")
            axis.set_ylabel(kind)
    axes[0].legend(fontsize=7)
    figure.savefig(arguments.output, dpi=110)

    length = max(len(run["val/accuracy"]) for own in runs.values() for run in own)
    epochs = [*range(arguments.every, length + 1, arguments.every)]
    print("| network | seeds | accuracy (%) | " + " | ".join(f"epoch {e}" for e in epochs), end="")
    print(" | test at best val |\n" + "| --- " * (len(epochs) + 4) + "|")
    for name, own in sorted(runs.items()):
        tests = [100 * run[TEST][-1] for run in own]
        spread = f" ± {stdev(tests):.1f}" if len(tests) > 1 else ""
        result = f"{mean(tests):.1f}{spread}"
        for split in ("train", "val"):
            curve = average(own, f"{split}/accuracy")
            cells = [f"{100 * curve[epoch - 1]:.1f}" for epoch in epochs]
            last = result if split == "val" else ""
            print(f"| {name} | {len(own)} | {split} | " + " | ".join(cells) + f" | {last} |")


if __name__ == "__main__":
    main()
