"""Fit a dataset of INRs to disk: what is missing, shard by shard, resumable at any moment."""

import sys
from collections.abc import Collection, Iterable
from pathlib import Path

import torch

from lightning_dws.errors import DataError
from lightning_dws.files import make_directory
from lightning_dws.inrs.fitting import fit_inrs
from lightning_dws.inrs.preparation.known_inrs import FittedINRs, KnownINRs, join
from lightning_dws.inrs.preparation.plan import Wanted
from lightning_dws.inrs.preparation.skipped import (
    find_earlier_stores,
    recall_skipped,
    report_skipped,
)
from lightning_dws.inrs.preparation.spec import INRDatasetSpec
from lightning_dws.inrs.signals import SplitOrder
from lightning_dws.inrs.store import (
    INDEX_NAME,
    INRStore,
    Shard,
    ShardRange,
    StoreHeader,
    read_checked_shard,
    read_measures,
    read_object_ids,
    write_index,
    write_shard,
)
from lightning_dws.inrs.store.locks import locked, wait_for_parts
from lightning_dws.inrs.store.unfinished import (
    covering,
    find_listed,
    find_superseded,
    find_unlisted,
    longest_prefix,
)
from lightning_dws.progress import FittingProgress


def prepare_store(
    directory: str | Path,
    spec: INRDatasetSpec,
    wanted: Wanted,
    *,
    device: torch.device | str = "cpu",
    chunk_size: int | None = None,
    show_progress: bool = True,
    check_listed: bool = True,
) -> INRStore:
    """Make sure that a store holds what is wanted: open it, fit it, or extend it.

    What is fitted already is kept. Killed at any moment and called again, it continues behind
    the last finished shard, and the store ends up with the same bytes. Of several processes that
    call it at once, one fits and the others wait.

    Args:
        directory: The store's folder, made if missing.
        spec: What the INRs are.
        wanted: How many objects and views; what the store has beyond that stays.
        device: Where the INRs are fitted.
        chunk_size: INRs fitted at once, per thread, which bounds the memory; see ``fit_inrs``.
        show_progress: Show a progress bar with INRs per second, mean PSNR and time left.
        check_listed: Read what the store holds already and check it: about a second a GB. A caller
            that checks what it loads anyway need not have all of it read before.

    Raises:
        DataError: The signals cannot be stored, the folder holds a store of something else, a fit
            diverged, a shard is damaged, or the disk cannot be written.
    """
    spec.check()
    directory = make_directory(directory)
    ranges = prepare_signals(directory, spec, wanted, show_progress)
    with locked(directory) as writable:
        if writable:
            wait_for_parts(directory)
        store = find_listed(directory, spec.header)
        if store and check_listed:
            _check_listed(store, spec)
        listed = [shard.range for shard in store.listed] if store else []
        existing = {shard.range: shard for shard in store.shards} if store else {}
        existing |= find_unlisted(directory, spec.header, listed)
        # a listed shard whose file is gone is fitted again, wanted now or not
        needed = dict.fromkeys([*ranges, *listed])
        plan = [where for where in needed if covering(where, existing) is None]
        if plan and not writable:
            raise DataError(f"{directory}: lacks {len(plan)} shards and cannot be written")
        if writable:
            fit_shards(directory, spec, plan, existing, device, chunk_size, show_progress)
            _publish(directory, spec.header, existing, listed)
            report_skipped(directory, spec.signals, wanted)
    return INRStore(directory)


def prepare_signals(
    directory: Path, spec: INRDatasetSpec, wanted: Wanted, show_progress: bool
) -> list[ShardRange]:
    """Make sure, before anything is fitted, that there is what is wanted; give its shards.

    Raises:
        DataError: There is not, or the folder holds a store of something else.
    """
    store = find_listed(directory, spec.header)
    if store:
        recall_skipped(directory, spec.signals, store)
    spec.signals.prepare(wanted.num_objects, show_progress)
    ranges = wanted.ranges(spec.signals)
    _check_labels(spec, ranges)
    return ranges


def _check_labels(spec: INRDatasetSpec, ranges: Iterable[ShardRange]) -> None:
    """Make sure, before anything is fitted, that what is wanted has labels that can be stored.

    Raises:
        DataError: A label is none of the classes', or two objects have the same id.
    """
    num_labels = spec.header.num_labels
    stops = {where.split: where.stop for where in ranges}  # the last of a split goes farthest
    orders = {split: spec.signals.first(split, stop) for split, stop in stops.items()}
    for split, order in orders.items():
        wrong = ((order.label < 0) | (order.label >= num_labels)).nonzero()[:, 0].tolist()
        for row in wrong[:1]:
            raise DataError(
                f"{spec.signals.name}: object_id {int(order.object_id[row])} of split {split!r} "
                f"has label {int(order.label[row])}, expected 0 to {num_labels - 1} for the "
                f"{len(spec.header.classes)} classes"
            )
    ids = torch.cat([order.object_id for order in orders.values()]) if orders else torch.empty(0)
    if len(ids) and (len(ids.unique()) < len(ids) or ids.min() < 0):
        raise DataError(f"{spec.signals.name}: object ids must be unique and not negative")


def _check_listed(store: INRStore, spec: INRDatasetSpec) -> None:
    """Read all that a store holds, and compare its objects and labels with the signals'."""
    for shard in store.shards:
        batch, _ = read_checked_shard(store.directory, shard, store.header)
        where = shard.range
        order = spec.signals.first(where.split, where.stop)[where.start :]
        if not torch.equal(batch.object_id, order.object_id):
            raise _other_objects(store.directory, where, spec)
        if not torch.equal(batch.label, order.label):
            raise DataError(
                f"{store.directory / where.file_name}: holds other labels than {spec.signals.name} "
                "has there now; fit another store"
            )


def _other_objects(directory: Path, where: ShardRange, spec: INRDatasetSpec) -> DataError:
    return DataError(
        f"{directory / where.file_name}: holds other objects than {spec.signals.name} has "
        f"there now, e.g. since others of them cannot be used; fit another store"
    )


def _publish(
    directory: Path,
    header: StoreHeader,
    existing: dict[ShardRange, Shard],
    listed: Collection[ShardRange],
) -> None:
    """List all shards that count, and delete what a killed run or longer shards left over."""
    superseded = find_superseded(existing)
    kept = {where: shard for where, shard in existing.items() if where not in superseded}
    if kept.keys() != set(listed) or not (directory / INDEX_NAME).is_file():
        write_index(directory, header, kept.values())
    for leftover in [*directory.glob(".*.partial"), *(directory / w.file_name for w in superseded)]:
        leftover.unlink()


def fit_shards(
    directory: Path,
    spec: INRDatasetSpec,
    plan: list[ShardRange],
    existing: dict[ShardRange, Shard],
    device: torch.device | str,
    chunk_size: int | None,
    show_progress: bool,
) -> None:
    """Fit the shards of a plan and add them to those that exist."""
    if not plan:
        return
    header = spec.header
    _check_order(directory, spec, existing)
    known = KnownINRs(find_earlier_stores(directory, header, spec.signals))
    todo = []
    for where in plan:
        prefix = longest_prefix(where, existing)
        first = prefix.stop if prefix else where.start
        objects = spec.signals.first(where.split, where.stop)[first:]
        todo.append((where, prefix, objects, known.has(objects, where.view)))
    num_known = sum(int(is_known.sum()) for *_, is_known in todo)
    if num_known:
        sys.stderr.write(f"{num_known} INRs are taken from an earlier store beside this one\n")
    total = sum(len(is_known) for *_, is_known in todo) - num_known
    with FittingProgress(total, spec.signals.name, show_progress) as progress:
        for where, prefix, objects, is_known in todo:
            parts: list[FittedINRs] = []
            if prefix:
                batch, psnr = read_checked_shard(directory, existing[prefix], header)
                parts.append(FittedINRs(batch, psnr, read_measures(directory, prefix, header)))
            order = torch.cat([is_known.nonzero()[:, 0], (~is_known).nonzero()[:, 0]])
            added = [known.read(objects[is_known], where.view)] if is_known.any() else []
            new = objects[~is_known]
            at_once = spec.signals.objects_at_once or max(1, len(new))
            for start in range(0, len(new), at_once):
                some = new[start : start + at_once]
                added.append(_fit(spec, some, where.view, device, chunk_size, progress))
            parts.append(join(added)[order.argsort()])
            all_of_it = join(parts)
            existing[where] = write_shard(
                directory,
                where,
                all_of_it.batch,
                all_of_it.psnr,
                header.fingerprint,
                all_of_it.measures,
            )


def _fit(
    spec: INRDatasetSpec,
    objects: SplitOrder,
    view: int,
    device: torch.device | str,
    chunk_size: int | None,
    progress: FittingProgress,
) -> FittedINRs:
    points, values = spec.signals.sample(objects.object_id)
    batch, psnr = fit_inrs(
        values.to(device),
        points.to(device),
        spec.architecture,
        recipe=spec.recipe_settings,
        seed=spec.seed,
        object_id=objects.object_id.to(device),
        view=torch.full_like(objects.object_id, view).to(device),
        chunk_size=chunk_size,
        progress=progress.advance,
        on_refit=progress.count_refitted,
    )
    batch = batch.replace(label=objects.label.to(device))
    return FittedINRs(batch.to("cpu"), psnr.cpu(), spec.signals.measure(batch))


def _check_order(directory: Path, spec: INRDatasetSpec, existing: Iterable[ShardRange]) -> None:
    """Make sure that what is there are the objects that come first, so that others can follow."""
    for where in existing:
        expected = spec.signals.first(where.split, where.stop).object_id[where.start :]
        if not torch.equal(read_object_ids(directory, where), expected):
            raise _other_objects(directory, where, spec)
