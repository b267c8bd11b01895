"""Fit a dataset of INRs to disk: what is missing, shard by shard, resumable at any moment."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from lightning_dws.counting import counted
from lightning_dws.errors import DataError
from lightning_dws.inrs.fitting import fit_inrs
from lightning_dws.inrs.preparation.known_inrs import FittedINRs, KnownINRs, join
from lightning_dws.inrs.preparation.plan import Part, Plan, Wanted, make_plan
from lightning_dws.inrs.preparation.skipped import find_earlier_stores, report_skipped
from lightning_dws.inrs.preparation.spec import INRDatasetSpec
from lightning_dws.inrs.signals import SplitOrder
from lightning_dws.inrs.store import INRStore, ShardRange, read_checked_shard, write_shard
from lightning_dws.inrs.store.locks import locked, part_locked, wait_for_parts
from lightning_dws.inrs.store.shards import Shard, read_measures, read_object_ids
from lightning_dws.inrs.store.unfinished import UnfinishedStore
from lightning_dws.progress import FittingProgress

# A shard, a finished one that holds its beginning, its other objects, and which of them are known.
_Missing = tuple[ShardRange, Shard | None, SplitOrder, Tensor]


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
    plan = make_plan(directory, spec, wanted, show_progress)
    fitter = Fitter(plan, device=device, chunk_size=chunk_size, show_progress=show_progress)
    return fitter.finish_store(check_listed)


def inrs_at_once(device: torch.device) -> int:
    """Say how many INRs are to be fitted together at least, whatever shards they are of."""
    return 1 if device.type == "cpu" else 16384  # so many that a step's launches do not count


class Fitter:
    """Fits what the store of a plan lacks: all of it, or one of several parts.

    Args:
        plan: What the store is to hold.
        device: As for ``prepare_store``.
        chunk_size: Likewise.
        show_progress: Likewise.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        device: torch.device | str = "cpu",
        chunk_size: int | None = None,
        show_progress: bool = True,
    ) -> None:
        self._plan = plan
        self._device = device
        self._chunk_size = chunk_size
        self._show_progress = show_progress

    def finish_store(self, check_listed: bool = True) -> INRStore:
        """Fit all that is missing, once no part is being fitted any more, and publish the store.

        Raises:
            DataError: See ``prepare_store``.
        """
        plan = self._plan
        with locked(plan.directory) as writable:
            if writable:
                wait_for_parts(plan.directory)
            store = UnfinishedStore(plan.directory, plan.header)
            if check_listed:
                self._check_listed(store)
            # a listed shard whose file is gone is fitted again, wanted now or not
            missing = store.missing([*plan.ranges, *store.listed])
            if missing and not writable:
                raise DataError(
                    f"{plan.directory}: lacks {counted(len(missing), 'shard')} and cannot be "
                    "written"
                )
            if writable:
                self._fit_shards(store, missing)
                store.publish()
                report_skipped(plan.directory, plan.spec.signals, plan.wanted.num_objects)
        return INRStore(plan.directory)

    def fit_part(self, part: Part) -> None:
        """Fit one of several disjoint parts of what is wanted; other processes fit the others.

        Parts may run at the same time, on several hosts that share the folder, or one after
        another. When the plan ``is_finished``, ``finish_store`` publishes the store: the same
        bytes as one that a single process fitted.

        Raises:
            DataError: See ``prepare_store``; or the folder cannot be written.
        """
        plan = self._plan
        own = part.of(plan.ranges)
        with part_locked(plan.directory, f"{part.index}-of-{part.count}"):
            store = UnfinishedStore(plan.directory, plan.header, own)
            self._fit_shards(store, store.missing(own))

    def _check_listed(self, store: UnfinishedStore) -> None:
        """Read all that a store lists, and compare its objects and labels with the signals'."""
        for where in (where for where in store.listed if where in store.shards):
            batch, _ = read_checked_shard(store.directory, store.shards[where], store.header)
            objects = self._plan.objects(where)
            if not torch.equal(batch.object_id, objects.object_id):
                raise self._other_objects(where)
            if not torch.equal(batch.label, objects.label):
                raise DataError(
                    f"{store.directory / where.file_name}: holds other labels than "
                    f"{self._plan.spec.signals.name} has there now; fit another store"
                )

    def _other_objects(self, where: ShardRange) -> DataError:
        return DataError(
            f"{self._plan.directory / where.file_name}: holds other objects than "
            f"{self._plan.spec.signals.name} has there now, e.g. since others of them cannot be "
            "used; fit another store"
        )

    def _fit_shards(self, store: UnfinishedStore, ranges: Sequence[ShardRange]) -> None:
        """Fit shards, as far as no shorter one and no earlier store has their INRs."""
        if not ranges:
            return
        header, signals = store.header, self._plan.spec.signals
        for where in store.shards:  # the objects that come first, so that others can follow
            found = read_object_ids(store.directory, where)
            if not torch.equal(found, self._plan.objects(where).object_id):
                raise self._other_objects(where)
        known = KnownINRs(find_earlier_stores(store.directory, header, signals))
        todo = []
        for where in ranges:
            prefix = store.longest_prefix(where)
            objects = self._plan.objects(where)[len(prefix.range) if prefix else 0 :]
            todo.append((where, prefix, objects, known.has(objects, where.view)))
        num_known = sum(int(is_known.sum()) for *_, is_known in todo)
        if num_known:
            taken = counted(num_known, "INR is", "INRs are")
            sys.stderr.write(f"{taken} taken from an earlier store beside this one\n")
        total = sum(len(is_known) for *_, is_known in todo) - num_known
        with FittingProgress(total, signals.name, self._show_progress) as progress:
            for group in self._groups(todo):
                new = [(objects[~is_known], where.view) for where, _, objects, is_known in group]
                fitted = self._fit_all(new, progress)
                for (where, prefix, objects, is_known), own in zip(group, fitted, strict=True):
                    parts: list[FittedINRs] = []
                    if prefix:
                        batch, psnr = read_checked_shard(store.directory, prefix, header)
                        measures = read_measures(store.directory, prefix.range, header)
                        parts.append(FittedINRs(batch, psnr, measures))
                    order = torch.cat([is_known.nonzero()[:, 0], (~is_known).nonzero()[:, 0]])
                    added = [known.read(objects[is_known], where.view)] if is_known.any() else []
                    parts.append(join([*added, *own])[order.argsort()])
                    inrs = join(parts)
                    store.shards[where] = write_shard(
                        store.directory,
                        where,
                        inrs.batch,
                        inrs.psnr,
                        header.fingerprint,
                        inrs.measures,
                    )

    def _groups(self, todo: Sequence[_Missing]) -> Iterator[list[_Missing]]:
        """Give the shards that are fitted together: one on a CPU, many on a GPU, which has room."""
        at_once = inrs_at_once(torch.device(self._device))
        group: list[_Missing] = []
        count = 0
        for missing in todo:
            group.append(missing)
            count += int((~missing[-1]).sum())
            if count >= at_once:
                yield group
                group, count = [], 0
        if group:
            yield group

    def _fit_all(
        self, wanted: Sequence[tuple[SplitOrder, int]], progress: FittingProgress
    ) -> list[list[FittedINRs]]:
        """Fit the objects of several shards in their views; give each shard's INRs."""
        objects = SplitOrder(
            torch.cat([objects.object_id for objects, _ in wanted]),
            torch.cat([objects.label for objects, _ in wanted]),
        )
        sizes = [len(objects) for objects, _ in wanted]
        views = torch.tensor([view for _, view in wanted]).repeat_interleave(torch.tensor(sizes))
        at_once = self._plan.spec.signals.objects_at_once or max(1, len(objects))
        parts = [
            self._fit(objects[start : start + at_once], views[start : start + at_once], progress)
            for start in range(0, len(objects), at_once)
        ]
        if not parts:
            return [[] for _ in wanted]
        rows = torch.arange(len(objects)).split(sizes)
        fitted = join(parts)
        return [[fitted[own]] if len(own) else [] for own in rows]

    def _fit(self, objects: SplitOrder, view: Tensor, progress: FittingProgress) -> FittedINRs:
        spec, device = self._plan.spec, self._device
        points, values = spec.signals.sample(objects.object_id)
        batch, psnr = fit_inrs(
            values.to(device),
            points.to(device),
            spec.architecture,
            recipe=spec.recipe_settings,
            seed=spec.seed,
            object_id=objects.object_id.to(device),
            view=view.to(device),
            chunk_size=self._chunk_size,
            progress=progress.advance,
            on_refit=progress.count_refitted,
        )
        batch = batch.replace(label=objects.label.to(device))
        return FittedINRs(batch.to("cpu"), psnr.cpu(), spec.signals.measure(batch))
