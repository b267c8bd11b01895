"""Check everything about a store that can be checked: ``inrs verify``."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from lightning_dws.errors import DataError
from lightning_dws.inrs.signals import SignalDataset
from lightning_dws.inrs.siren import evaluate_inrs
from lightning_dws.inrs.store import INRStore, Shard, read_checked_shard, read_measures
from lightning_dws.weight_space import WeightBatch

PSNR_TOLERANCE = 0.05  # dB, between devices that round differently
MEASURE_TOLERANCE = 1e-3
_MAX_PSNR = 150.0
_DIGEST_SEED = 0


@dataclass
class Verification:
    """What ``verify_store`` found.

    Attributes:
        num_inrs: How many INRs were read.
        num_rendered: How many were rendered and compared with their signals.
        problems: One line each; none if the store is sound.
    """

    num_inrs: int = 0
    num_rendered: int = 0
    problems: list[str] = field(default_factory=list)


def verify_store(
    directory: str | Path, signals: SignalDataset | None = None, sample: int = 64
) -> Verification:
    """Check sums, shapes, finiteness, labels and duplicates, and render a sample again.

    Shards are read one after another; no problem hides another.

    Args:
        directory: The store's folder.
        signals: What the INRs were fitted to, to compare the sample's PSNR with the recorded one.
        sample: INRs rendered of each split and view, evenly spread.

    Raises:
        DataError: The folder holds no finished store; there is nothing to be verified.
    """
    store = INRStore(directory, allow_missing=True)
    result = Verification()
    seen = _Seen()
    for shard in store.listed:
        try:
            batch, psnr = read_checked_shard(store.directory, shard, store.header)
        except DataError as error:
            result.problems.append(str(error))
            continue
        result.num_inrs += len(batch)
        result.problems += seen.add(shard, batch)
        if signals is not None:
            every = -(-store.num_objects(shard.range.split, shard.range.view) // max(1, sample))
            rows = ((shard.range.start + torch.arange(len(batch))) % every == 0).nonzero()[:, 0]
            result.num_rendered += len(rows)
            result.problems += _compare(shard, batch[rows], psnr[rows], signals)
            known = read_measures(store.directory, shard.range, store.header)
            measures = {name: values[rows] for name, values in known.items()}
            result.problems += _compare_measures(shard, batch[rows], measures, signals)
    return result


class _Seen:
    """What the shards so far hold: which object and view, with which label and weights."""

    def __init__(self) -> None:
        self.label: dict[int, int] = {}
        self.split: dict[int, str] = {}
        self.views: set[tuple[int, int]] = set()
        self.weights: dict[int, tuple[int, int]] = {}

    def add(self, shard: Shard, batch: WeightBatch) -> Iterator[str]:
        """Note a shard's INRs and give what is wrong with them, beside those before."""
        where = shard.range
        columns = (batch.object_id, batch.view, batch.label, _digest(batch.parameters))
        for object_id, view, label, digest in zip(*(c.tolist() for c in columns), strict=True):
            name = f"{where.file_name}: object_id {object_id}, view {view}"
            if (object_id, view) in self.views:
                yield f"{name} is there twice"
            self.views.add((object_id, view))
            known = self.label.setdefault(object_id, label)
            if known != label:
                yield f"{name} has label {label}, in another view {known}"
            split = self.split.setdefault(object_id, where.split)
            if split != where.split:
                yield f"{name} is also in split {split!r}"
            other = self.weights.setdefault(digest, (object_id, view))
            if other != (object_id, view):
                yield f"{name} has the weights of object_id {other[0]}, view {other[1]}"


def _digest(parameters: Tensor) -> Tensor:
    """Give 64 bits of each row (B, P), the same for the same weights alone (almost surely)."""
    generator = torch.Generator().manual_seed(_DIGEST_SEED)
    bits = parameters.contiguous().view(torch.int32).long()
    factors = torch.randint(-(2**62), 2**62, (bits.shape[1],), generator=generator) * 2 + 1
    mixed = (bits * factors) ^ ((bits * factors) >> 29)  # integers wrap around
    return (mixed * factors).sum(1)


def _compare(
    shard: Shard, batch: WeightBatch, psnr: Tensor, signals: SignalDataset
) -> Iterator[str]:
    """Render INRs and give those whose PSNR is another than the recorded one."""
    if len(batch) == 0:
        return
    error = torch.cat([_squared_error(part, signals) for part in _parts(batch, signals)])
    found = -10 * torch.log10(error.clamp_min(10 ** (-_MAX_PSNR / 10)))
    for row in ((found - psnr).abs() > PSNR_TOLERANCE).nonzero()[:, 0].tolist():
        yield (
            f"{shard.range.file_name}: object_id {int(batch.object_id[row])}, view "
            f"{int(batch.view[row])} renders with {float(found[row]):.2f} dB, "
            f"{float(psnr[row]):.2f} dB are recorded"
        )


def _parts(batch: WeightBatch, signals: SignalDataset) -> Iterator[WeightBatch]:
    """Cut a batch where each object has points of its own, and many."""
    size = len(batch) if signals.objects_at_once is None else 1
    for start in range(0, len(batch), size):
        yield batch[start : start + size]


def _squared_error(batch: WeightBatch, signals: SignalDataset) -> Tensor:
    points, values = signals.sample(batch.object_id)
    return (evaluate_inrs(batch, points) - values).square().flatten(1).mean(1)


def _compare_measures(
    shard: Shard, batch: WeightBatch, known: dict[str, Tensor], signals: SignalDataset
) -> Iterator[str]:
    """Measure INRs again and give those of which something else is recorded."""
    if len(batch) == 0:
        return
    for name, found in signals.measure(batch).items():
        same = torch.isclose(found, known[name], rtol=0, atol=MEASURE_TOLERANCE, equal_nan=True)
        for row in same.logical_not().nonzero()[:, 0].tolist():
            yield (
                f"{shard.range.file_name}: object_id {int(batch.object_id[row])}, view "
                f"{int(batch.view[row])} has {name} {float(found[row]):.4f}, "
                f"{float(known[name][row]):.4f} is recorded"
            )
