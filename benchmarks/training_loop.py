"""How far ``python main.py fit`` is from the bare training step, for whole configs.

    python benchmarks/training_loop.py [CONFIG ...] [--root data] [--epochs 6] [--OPTION=VALUE ...]

Each config is trained for some epochs by the command line itself; before every epoch, bare steps
of the same network are taken in the same process (``loop_timer``). Medians over the epochs without
the first. INRs that are missing under ``--root`` are fitted first. Without a config: the
quickstart, and DWSNet on 4,000 objects of Fashion-MNIST.
"""

import argparse
import contextlib
import io
import sys
import tempfile
from statistics import median

import torch
from loop_timer import LoopTimer
from machine import describe_processor, matmul_gflops, memory_gbps

from lightning_dws.cli import main as run_command

FEWER_OBJECTS = [
    "--data.num_train_objects=4000",
    "--data.num_val_objects=1000",
    "--data.num_test_objects=2000",
]
CONFIGS = {"conf/quickstart.yaml": [], "conf/fmnist_dws.yaml": FEWER_OBJECTS}


def measure(config: str, options: list[str], root: str, epochs: int) -> LoopTimer:
    """Train as the command line does, with a timer among the callbacks."""
    with tempfile.TemporaryDirectory() as runs, contextlib.redirect_stdout(io.StringIO()):
        run_command(
            [
                *("fit", f"--config={config}", *options, f"--data.root={root}"),
                *(f"--trainer.default_root_dir={runs}", f"--trainer.max_epochs={epochs}"),
                "--test_after_fit=false",
                "--trainer.callbacks+=loop_timer.LoopTimer",
            ]
        )
    return LoopTimer.timers[-1]


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("configs", nargs="*", metavar="CONFIG")
    parser.add_argument("--root", default="data")
    parser.add_argument("--epochs", type=int, default=6)
    arguments, options = parser.parse_known_args()
    configs = dict.fromkeys(arguments.configs, options) or CONFIGS

    print(
        f"{describe_processor()}, {torch.get_num_threads()} threads, torch {torch.__version__}; "
        f"matrix product {matmul_gflops():.0f} GFLOP/s, memory copy {memory_gbps():.0f} GB/s"
    )
    print(f"{'':28}{'bare step':>12}{'inside fit':>12}{'overhead':>10}{'a validation':>14}")
    for config, more in configs.items():
        timer = measure(config, more, arguments.root, arguments.epochs)
        bare, inside = median(timer.bare[1:]), median(timer.inside[1:])
        ratios = [a / b for a, b in zip(timer.inside[1:], timer.bare[1:], strict=True)]
        print(
            f"{config:28}{1e3 * bare:9.2f} ms{1e3 * inside:9.2f} ms{median(ratios) - 1:10.0%}"
            f"{median(timer.validation[1:]):12.2f} s"
        )
        sys.stdout.flush()


if __name__ == "__main__":
    main()
