"""Check all that can be checked about a store, and tell how good its INRs are."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from lightning_dws.counting import counted
from lightning_dws.errors import DataError
from lightning_dws.inrs.signals import SignalDataset
from lightning_dws.inrs.siren import evaluate_inrs
from lightning_dws.inrs.store.header import StoreHeader
from lightning_dws.inrs.store.index import StoreIndex, read_index
from lightning_dws.inrs.store.shards import INDEX_NAME, Shard, read_checked_shard, read_measures
from lightning_dws.inrs.store.store import INRStore
from lightning_dws.weight_space import WeightBatch

PSNR_TOLERANCE = 0.05  # dB, between devices that round differently
MEASURE_TOLERANCE = 1e-3
_MAX_PSNR = 150.0
_DIGEST_SEED = 0
_FAR_BELOW = 10.0  # dB under the median
_GOOD = 25.0  # dB; enough, however good the others are
_LITTLE = 12.0  # dB; many images have as much as one colour


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
        signals: What the INRs were fitted to: the store's classes, objects, their order and their
            labels are compared with theirs, and the sample's PSNR with the recorded one.
        sample: INRs rendered of each split and view, evenly spread.

    Raises:
        DataError: The folder holds no finished store; there is nothing to be verified.
    """
    directory = Path(directory)
    index = read_index(directory)
    header = index.header
    result = Verification(problems=list(_find_unlisted(directory, index)))
    if signals is not None:
        result.problems += _compare_classes(header, signals)
    sizes = _count_objects(index.shards)
    seen = _Seen()
    for shard in index.shards:
        where = shard.range
        try:
            batch, psnr = read_checked_shard(directory, shard, header)
            known = read_measures(directory, where, header)
        except DataError as error:
            result.problems.append(str(error))
            continue
        result.num_inrs += len(batch)
        result.problems += seen.add(shard, batch)
        # none may be known of INRs imported, or written from memory; other networks have none
        if "imported" not in header.recipe and not psnr.isnan().all():
            result.problems += _find_unknown_psnr(shard, batch, psnr)
        if signals is not None:
            right = _compare_objects(shard, batch, signals, result.problems)
            every = -(-sizes[where.split, where.view] // max(1, sample))
            chosen = (where.start + torch.arange(len(batch))) % every == 0
            rows = (chosen & right).nonzero()[:, 0]
            result.num_rendered += len(rows)
            result.problems += _compare(shard, batch[rows], psnr[rows], signals)
            measures = {name: values[rows] for name, values in known.items()}
            result.problems += _compare_measures(shard, batch[rows], measures, signals)
    return result


def _count_objects(shards: list[Shard]) -> Counter[tuple[str, int]]:
    counts: Counter[tuple[str, int]] = Counter()
    for shard in shards:
        counts[shard.range.split, shard.range.view] += len(shard.range)
    return counts


def _find_unlisted(directory: Path, index: StoreIndex) -> Iterator[str]:
    """Find shards that lie in the folder and belong to nothing."""
    listed = {shard.range.file_name for shard in index.shards}
    for path in sorted(directory.glob("*.safetensors")):
        if path.name not in listed:
            yield (
                f"{path.name}: not listed in {INDEX_NAME}; where an 'inrs fit' was interrupted, "
                "run it again, else delete it"
            )


def _compare_classes(header: StoreHeader, signals: SignalDataset) -> Iterator[str]:
    expected = tuple(signals.classes)
    if header.classes != expected:
        yield f"{INDEX_NAME}: classes {header.classes}, those of {signals.name} are {expected}"


def _compare_objects(
    shard: Shard, batch: WeightBatch, signals: SignalDataset, problems: list[str]
) -> Tensor:
    """Note objects that are not the signals', or labelled otherwise.

    Returns:
        (B,) bool, which INRs are of the object that the signals have there.
    """
    where = shard.range
    order = signals.first(where.split, where.stop)[where.start :]
    found = len(order)
    if found < len(batch):
        problems.append(
            f"{where.file_name}: holds objects {where.start} to {where.stop - 1}, {signals.name} "
            f"has {where.start + found} in split {where.split!r}"
        )
    ids, labels = batch.object_id[:found], batch.label[:found]
    right = torch.zeros(len(batch), dtype=torch.bool)
    right[:found] = ids == order.object_id
    for row in (~right[:found]).nonzero()[:, 0].tolist():
        problems.append(
            f"{where.file_name}: object_id {int(ids[row])} in row {row}, {signals.name} has "
            f"{int(order.object_id[row])} there"
        )
    for row in (right[:found] & (labels != order.label)).nonzero()[:, 0].tolist():
        problems.append(
            f"{where.file_name}: object_id {int(ids[row])}, view {where.view} has label "
            f"{int(labels[row])}, in {signals.name} {int(order.label[row])}"
        )
    return right


def _find_unknown_psnr(shard: Shard, batch: WeightBatch, psnr: Tensor) -> Iterator[str]:
    for row in psnr.isnan().nonzero()[:, 0].tolist():
        yield (
            f"{shard.range.file_name}: object_id {int(batch.object_id[row])}, view "
            f"{shard.range.view} has no PSNR (NaN is recorded)"
        )


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
    known = ~psnr.isnan()  # where it is not, that is told already
    same = (found - psnr.clamp(max=_MAX_PSNR)).abs() <= PSNR_TOLERANCE  # never of NaN
    for row in (known & ~same).nonzero()[:, 0].tolist():
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


def describe_low(store: INRStore) -> Iterator[str]:
    """Give a line for every split with INRs far below the others, such as diverged ones."""
    for split in store.splits:
        psnr = store.psnr(split)
        psnr = psnr[psnr.isfinite()]
        if len(psnr) == 0:
            continue
        lowest, median = float(psnr.min()), float(psnr.median())
        least = max(min(median - _FAR_BELOW, _GOOD), _LITTLE)
        count = int((psnr < least).sum())
        if count:
            inrs = f"of {counted(len(psnr), 'INR')} in split {split!r}"
            yield (
                f"{counted(count, f'{inrs} has', f'{inrs} have')} less than {least:.1f} dB, "
                f"far below a good fit; median {median:.1f} dB, lowest {lowest:.1f} dB"
            )
