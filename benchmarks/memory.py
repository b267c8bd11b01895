"""Memory of opening and training on a large store: is there ever a second copy of the table?

Run ``python benchmarks/memory.py``. It writes a store of 70,000 x 10 INRs with random weights
(3.3 GB, deleted at the end; ``--objects`` makes it smaller), opens it as a run does, takes batches
from it, and prints the peak of this process's memory beside the size of the table.
"""

import argparse
import shutil
import tempfile
import time
from pathlib import Path

import psutil
import torch

from lightning_dws import INRArchitecture, WeightBatch
from lightning_dws.data.datamodule import INRDataModule
from lightning_dws.inrs.store import ShardRange, StoreHeader, write_index, write_shard

ARCHITECTURE = INRArchitecture((2, 32, 32, 1))
SHARD_SIZE = 512
GIB = 2**30


def write_store(directory: Path, num_objects: int, views: int) -> None:
    """Write a store of random weights, in the format and the shards of a fitted one."""
    header = StoreHeader(ARCHITECTURE, tuple("0123456789"), "random", (28, 28), {}, 0)
    shards = []
    for split, count, split_views in (("train", num_objects, views), ("val", 512, 1)):
        for view in range(split_views):
            for start in range(0, count, SHARD_SIZE):
                where = ShardRange(split, view, start, min(start + SHARD_SIZE, count))
                ids = torch.arange(where.start, where.stop)
                batch = WeightBatch(
                    ARCHITECTURE,
                    torch.randn(len(where), ARCHITECTURE.num_parameters),
                    ids % 10,
                    ids,
                    torch.full_like(ids, view),
                )
                shards.append(
                    write_shard(
                        directory, where, batch, torch.zeros(len(where)), header.fingerprint
                    )
                )
    write_index(directory, header, shards)


def measure(directory: Path, views: int, table: str) -> None:
    """Open the store as a run does, gather an epoch's first 2,000 batches, and print the cost."""
    process = psutil.Process()
    before = process.memory_info().rss - process.memory_info().shared
    peak = 0

    def look() -> None:
        nonlocal peak
        memory = process.memory_info()
        peak = max(peak, memory.rss - memory.shared - before)

    data = INRDataModule(
        root=str(directory.parent), store=directory.name, views=views, table=table, batch_size=128
    )
    started = time.perf_counter()
    data.setup("fit")
    opened = time.perf_counter() - started
    look()
    size = 4 * len(data.train_dataloader().table) * ARCHITECTURE.num_parameters
    started = time.perf_counter()
    for count, batch in enumerate(data.train_dataloader()):
        if count == 2000:
            break
        batch.parameters.sum()
        look()
    seconds = time.perf_counter() - started
    print(
        f"{table:>7}: table {size / GIB:.2f} GiB; own memory {peak / GIB:.2f} GiB, "
        f"{peak / size:.2f} of the table; opened and checked in {opened:.1f} s, "
        f"{1e6 * seconds / min(count, 2000) / 128:.1f} us an INR to gather a batch of 128"
    )


def main() -> None:
    """Write the store, measure both tables, delete it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=70_000)
    parser.add_argument("--views", type=int, default=10)
    options = parser.parse_args()
    directory = Path(tempfile.mkdtemp()) / "store"
    directory.mkdir()
    try:
        write_store(directory, options.objects, options.views)
        for table in ("mapped", "device"):
            measure(directory, options.views, table)
    finally:
        shutil.rmtree(directory.parent)


if __name__ == "__main__":
    main()
