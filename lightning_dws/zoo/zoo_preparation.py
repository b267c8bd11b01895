"""Make a zoo on disk: what is missing, shard by shard, resumable at any moment, as INRs are."""

from pathlib import Path

import torch
from torch import Tensor

from lightning_dws.counting import counted
from lightning_dws.errors import DataError
from lightning_dws.files import make_directory
from lightning_dws.inrs.signals import SPLITS
from lightning_dws.inrs.store import INRStore, ShardRange, read_checked_shard, write_shard
from lightning_dws.inrs.store.locks import locked
from lightning_dws.inrs.store.shards import SHARD_SIZE, Shard, read_measures
from lightning_dws.inrs.store.unfinished import UnfinishedStore
from lightning_dws.progress import WorkProgress
from lightning_dws.weight_space import WeightBatch
from lightning_dws.zoo.cnn_training import train_cnns
from lightning_dws.zoo.zoo_spec import ZooSpec, split_indices


def prepare_zoo(
    directory: str | Path, spec: ZooSpec, num_networks: int, show_progress: bool = True
) -> INRStore:
    """Make sure that a store holds so many CNNs of a zoo: open it, train it, or extend it.

    What is trained already is kept. Killed at any moment and called again, it continues behind the
    last finished shard, and the store ends up with the same bytes.

    Args:
        directory: The store's folder, made if missing.
        spec: What the CNNs are.
        num_networks: How many are wanted; what the store has beyond that stays.
        show_progress: Show a progress bar with CNNs per second, their accuracy and time left.

    Raises:
        DataError: The folder holds a store of something else, a CNN diverged, a shard is damaged,
            or the disk cannot be written.
        ValueError: Fewer than ten CNNs, so that a split had none.
    """
    if num_networks < 10:
        raise ValueError(
            f"num_networks must be at least 10, one for each split, got {num_networks}"
        )
    spec.header.check()
    directory = make_directory(directory)
    indices = {split: split_indices(split, num_networks) for split in SPLITS}
    ranges = [
        ShardRange(split, 0, start, min(start + SHARD_SIZE, len(index)))
        for split, index in indices.items()
        for start in range(0, len(index), SHARD_SIZE)
    ]
    with locked(directory) as writable:
        store = UnfinishedStore(directory, spec.header)
        missing = store.missing([*ranges, *store.listed])
        if missing and not writable:
            lacking = counted(len(missing), "shard")
            raise DataError(f"{directory}: lacks {lacking} and cannot be written")
        todo = [(where, store.longest_prefix(where)) for where in missing]
        total = sum(len(where) - (len(prefix.range) if prefix else 0) for where, prefix in todo)
        with _ZooProgress(total, spec.signals.name, show_progress) as progress:
            for where, prefix in todo:
                _train_shard(store, spec, where, prefix, progress)
        if writable:
            store.publish()
    return INRStore(directory)


def _train_shard(
    store: UnfinishedStore,
    spec: ZooSpec,
    where: ShardRange,
    prefix: Shard | None,
    progress: "_ZooProgress",
) -> None:
    """Train the CNNs of a shard, but for those of a finished one that holds its beginning."""
    index = split_indices(where.split, 10 * where.stop)[where.start : where.stop]
    rows, measures = train_cnns(
        spec.shape,
        spec.images,
        spec.training,
        seed=spec.seed,
        index=index[len(prefix.range) if prefix else 0 :],
        progress=progress.advance,
    )
    if prefix:
        known, _ = read_checked_shard(store.directory, prefix, store.header)
        found = read_measures(store.directory, prefix.range, store.header)
        rows = torch.cat([known.parameters, rows])
        measures = {name: torch.cat([found[name], own]) for name, own in measures.items()}
    label, view = torch.zeros_like(index), torch.zeros_like(index)
    batch = WeightBatch(store.header.architecture, rows, label, index, view)
    unknown_psnr = torch.full((len(index),), torch.nan)
    store.shards[where] = write_shard(
        store.directory, where, batch, unknown_psnr, store.header.fingerprint, measures
    )


class _ZooProgress(WorkProgress):
    """Show CNNs trained, CNNs per second, mean test accuracy and time left."""

    def __init__(self, total: int, title: str, visible: bool) -> None:
        super().__init__(total, f"training CNNs on {title}", ("rate", "accuracy"), visible)
        self._count = 0
        self._sum = 0.0

    def advance(self, count: int, accuracy: Tensor) -> None:
        """Count finished CNNs, with their test accuracies (count,)."""
        self._count += count
        self._sum += float(accuracy.sum())
        rate = f"{self._count / self.elapsed:.1f} CNNs/s" if self.elapsed else ""
        self.show(count, rate=rate, accuracy=f"accuracy {self._sum / self._count:.2f}")
