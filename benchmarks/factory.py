"""All of Fashion-MNIST as INRs in one run that is killed on the way, against an undisturbed one.

    python benchmarks/factory.py --root FOLDER

Fits 70,000 images with ``python main.py inrs fit --config conf/inrs/fmnist.yaml``, killed by
SIGKILL after growing times and started again, checks the store with ``inrs verify``, and compares
every INR of the first 5,000 with those of a run that nobody disturbed. Six minutes on one core.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch

from lightning_dws.inrs import INRStore

ROOT = Path(__file__).parents[1]
KILLED_AFTER = (15.0, 25.0, 40.0, 60.0)
UNDISTURBED = 5000


def start(*arguments: str) -> subprocess.Popen[bytes]:
    """Start a command of ``main.py``."""
    return subprocess.Popen([sys.executable, "main.py", "inrs", *arguments], cwd=ROOT)


def finish(process: subprocess.Popen[bytes]) -> int:
    """Wait for a command; give its peak memory in MiB."""
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise SystemExit(f"{process.args}: exit status {os.waitstatus_to_exitcode(status)}")
    return usage.ru_maxrss // 1024


def fit_with_kills(root: Path) -> tuple[float, int]:
    """Fit everything; give the seconds of all attempts together, and the last one's memory."""
    options = ("fit", "--config", "conf/inrs/fmnist.yaml", "--root", str(root), "--store", "all")
    begin = time.perf_counter()
    for seconds in KILLED_AFTER:
        process = start(*options)
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        process.wait()
        shards = len(list((root / "all").glob("*.safetensors")))
        print(f"killed after {seconds:.0f} s, {shards} shards on disk", flush=True)
    memory = finish(start(*options))
    return time.perf_counter() - begin, memory


def compare(root: Path) -> int:
    """Compare with an undisturbed run over the first training objects, shard for shard."""
    options = ("--root", str(root), "--store", "undisturbed", "--num_val_objects", "1")
    options += ("--num_test_objects", "1", "--num_train_objects", str(UNDISTURBED))
    finish(start("fit", "--config", "conf/inrs/fmnist.yaml", *options))
    whole, part = INRStore(root / "all"), INRStore(root / "undisturbed")
    for field in ("parameters", "label", "object_id", "view"):
        ours = getattr(whole.split("train"), field)[:UNDISTURBED]
        if not torch.equal(ours, getattr(part.split("train"), field)):
            raise SystemExit(f"{field} differs from that of the undisturbed run")
    known = {shard.range: shard.sha256 for shard in whole.shards}
    return sum(known.get(shard.range) == shard.sha256 for shard in part.shards)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, required=True, help="an empty folder for the stores")
    root = parser.parse_args().root.resolve()
    cores = len(os.sched_getaffinity(0))
    seconds, memory = fit_with_kills(root)
    store = INRStore(root / "all")
    psnr = torch.cat([store.psnr(split) for split in ("train", "val", "test")])
    print(
        f"{len(psnr)} INRs in {seconds:.0f} s with {len(KILLED_AFTER)} kills on {cores} cores, "
        f"{len(psnr) / seconds:.0f} INRs/s; mean PSNR {psnr.mean():.2f} dB, "
        f"lowest {psnr.min():.1f}; peak memory {memory} MiB",
        flush=True,
    )
    finish(start("verify", str(root / "all")))
    same = compare(root)
    print(f"the first {UNDISTURBED} are equal; {same} of their shards are the same file")


if __name__ == "__main__":
    main()
