"""The dataset on disk: a directory of safetensors shards and ``dataset.json``.

A shard holds the INRs of consecutive objects (in the split's fixed order) of one view. Shards
are written atomically, ``dataset.json`` last: it lists every shard with its size and SHA-256,
so a store without it is unfinished, and a store with it can be checked. ``shards`` reads and
writes the ones, ``index`` the other, ``header`` is what all INRs share.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from lightning_dws.counting import counted
from lightning_dws.errors import DataError
from lightning_dws.inrs.fitting import Recipe
from lightning_dws.inrs.signals import SPLITS
from lightning_dws.inrs.store.addresses import local_folder
from lightning_dws.inrs.store.convention import DEFAULT, ImageConvention
from lightning_dws.inrs.store.header import COLUMNS
from lightning_dws.inrs.store.index import read_index
from lightning_dws.inrs.store.shards import (
    Shard,
    check_file,
    read_checked_shard,
    read_columns,
    read_measures,
    read_object_ids,
)
from lightning_dws.inrs.store.shared_stores import cache_store, push_store
from lightning_dws.inrs.store.writing import write_inrs
from lightning_dws.weight_space import Architecture, WeightBatch


class INRStore:
    """A finished dataset of INRs on disk, checked when it is opened and when it is read.

    Args:
        directory: The store's folder, with ``dataset.json``, or an address that fsspec reads, such
            as ``s3://bucket/folder``: a copy of it in the user's cache is then the folder.
        allow_missing: Leave out the shards whose files are gone (to fit them again) instead of
            raising an error.

    Raises:
        DataError: The folder is no finished store, or a shard is missing or has another size.
    """

    def __init__(self, directory: str | Path, *, allow_missing: bool = False) -> None:
        self.directory = local_folder(directory)
        index = read_index(self.directory)
        self.header = index.header
        self.listed = index.shards
        self.shards = self.listed
        if allow_missing:
            self.shards = [s for s in self.listed if self._is_there(s)]
        for shard in self.shards:
            check_file(self.directory, shard, self.header)

    @classmethod
    def write(
        cls,
        directory: str | Path,
        batch: WeightBatch | Mapping[str, WeightBatch],
        classes: Sequence[str],
        *,
        psnr: Tensor | Mapping[str, Tensor] | None = None,
        recipe: Recipe | None = None,
        seed: int = 0,
        grid_shape: Sequence[int] | None = None,
        val_share: float = 0.1,
        test_share: float = 0.1,
        convention: ImageConvention = DEFAULT,
    ) -> Self:
        """Write INRs, or other networks of one architecture, from memory as a store, and open it.

        Killed at any moment and called again with the same INRs, it ends with the same bytes.

        Args:
            directory: The store's folder, made if missing; it may hold the same INRs already.
            batch: The INRs with their labels, objects and views. One batch is cut into ``train``,
                ``val`` and ``test``, stratified, all views of an object into one; or give each.
            classes: Their names, in the order of the labels.
            psnr: (B,) dB of every INR, or by split as ``batch`` is. Default: unknown.
            recipe: How the INRs were fitted, if they were, and images or meshes that a network
                trained on them is to classify shall be: it is kept in the network's checkpoints.
            seed: Of their initialisation, likewise.
            grid_shape: (height, width) of the images, or of 1 or 3 axes, that they encode. Default:
                one that is usual for such INRs; other networks have none.
            val_share: Share of the objects for validation, where one batch is given; 0 for none.
            test_share: Likewise for test.
            convention: What the inputs and outputs of INRs of images mean.

        Raises:
            DataError: The INRs do not fit together or cannot be stored, or the folder holds others.
            ValueError: The shares leave nothing for training.
        """
        shares = (val_share, test_share)
        write_inrs(directory, batch, classes, psnr, recipe, seed, grid_shape, shares, convention)
        return cls(directory)

    @classmethod
    def from_pretrained(
        cls, repo_id: str, *, revision: str | None = None, token: str | None = None
    ) -> Self:
        """Open a store from the Hugging Face Hub, downloaded once into the hub's cache.

        Args:
            repo_id: ``OWNER/NAME`` of a dataset's repository.
            revision: A branch, a tag or a commit. Default: the main branch.
            token: Default: that of ``hf auth login``, or ``HF_TOKEN``.

        Raises:
            DataError: There is no such store, or it is damaged.
        """
        return cls(cache_store(repo_id, revision=revision, token=token))

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Push the store to the Hugging Face Hub with a card, see ``push_store``.

        Args:
            repo_id: ``OWNER/NAME`` of a dataset's repository, made if it is missing.
            **options: ``license_id``, ``private``, ``revision``, ``token`` and ``message``.

        Returns:
            The repository's address.
        """
        return push_store(self.directory, repo_id, **options)

    def _is_there(self, shard: Shard) -> bool:
        return os.path.exists(self.directory / shard.range.file_name)

    @property
    def architecture(self) -> Architecture:
        return self.header.architecture

    @property
    def classes(self) -> tuple[str, ...]:
        return self.header.classes

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of the splits that hold any INR."""
        present = {shard.range.split for shard in self.shards}
        return tuple(name for name in SPLITS if name in present)

    def object_ids(self) -> set[int]:
        """Give the ids of all objects that have any INR.

        Raises:
            DataError: A shard cannot be read.
        """
        ranges = [shard.range for shard in self.shards]
        return {i for where in ranges for i in read_object_ids(self.directory, where).tolist()}

    def num_objects(self, split: str, view: int = 0) -> int:
        """Count the objects of a split that are fitted in a view."""
        return sum(
            len(shard.range)
            for shard in self.shards
            if (shard.range.split, shard.range.view) == (split, view)
        )

    def num_views(self, split: str) -> int:
        return 1 + max((s.range.view for s in self.shards if s.range.split == split), default=-1)

    def split(
        self,
        name: str,
        *,
        num_objects: int | None = None,
        views: int | None = None,
        device: torch.device | str = "cpu",
    ) -> WeightBatch:
        """Read a split into one table on a device, shard by shard, so never twice in memory.

        Args:
            name: ``"train"``, ``"val"`` or ``"test"``.
            num_objects: Only the first so many objects of the split's order. Default: all.
            views: Only the first so many views. Default: all.
            device: Where the table goes.

        Returns:
            All INRs, view after view, each in the split's order.

        Raises:
            DataError: A shard was altered (its SHA-256 differs), holds weights that are not
                finite, or the store has fewer objects or views than asked for.
        """
        total = sum(count for _, count in self._select(name, num_objects, views))
        columns = {
            field: torch.empty(
                (total, self.architecture.num_parameters) if field == "parameters" else (total,),
                dtype=dtype,
                device=device,
            )
            for field, dtype in COLUMNS.items()
            if field != "psnr"
        }
        row = 0
        for batch, _ in self.parts(name, num_objects, views):
            for field, column in columns.items():
                column[row : row + len(batch)] = getattr(batch, field)
            row += len(batch)
        return WeightBatch(self.architecture, **columns)

    def psnr(self, name: str) -> Tensor:
        """Read the PSNR (dB) of every INR of a split, in the order of ``split``."""
        return torch.cat([psnr for _, psnr in self.parts(name)])

    def measure(self, measure: str, name: str) -> Tensor:
        """Read one of the header's measures of every INR of a split, in the order of ``split``."""
        shards = [shard for shard, _ in self._select(name, None, None)]
        found = [read_measures(self.directory, s.range, self.header)[measure] for s in shards]
        return torch.cat(found)

    def columns(
        self,
        names: Sequence[str],
        split: str,
        num_objects: int | None = None,
        views: int | None = None,
    ) -> Tensor:
        """Read what is known of every INR by name, (N, K) float32, in the order of ``split``.

        Args:
            names: K of ``psnr`` and the header's measures.
            split: As ``num_objects`` and ``views``, see ``split``.
            num_objects: See above.
            views: See above.

        Raises:
            DataError: The store knows nothing of that name.
        """
        known = ("psnr", *self.header.measures)
        for name in names:
            if name not in known:
                rows = self.architecture.noun
                raise DataError(
                    f"{self.directory}: knows no {name!r} of its {rows}, only {', '.join(known)}"
                )
        parts = []
        for shard, count in self._select(split, num_objects, views):
            values = read_columns(self.directory / shard.range.file_name, names)
            parts.append(torch.stack([values[name][:count] for name in names], dim=1))
        return torch.cat(parts)

    def parts(
        self, name: str, num_objects: int | None = None, views: int | None = None
    ) -> Iterator[tuple[WeightBatch, Tensor]]:
        """Give a split's INRs and their PSNRs shard by shard, mapped from disk and checked."""
        for shard, count in self._select(name, num_objects, views):
            batch, psnr = read_checked_shard(self.directory, shard, self.header)
            yield batch[:count], psnr[:count]

    def _select(
        self, name: str, num_objects: int | None, views: int | None
    ) -> list[tuple[Shard, int]]:
        """Find the shards of a selection, and how many of each one's rows belong to it."""
        if name not in self.splits:
            raise DataError(f"{self.directory}: no split {name!r}, it has {list(self.splits)}")
        if num_objects is None and views is None:  # views may hold unlike numbers of objects
            return [(s, len(s.range)) for s in self.shards if s.range.split == name]
        views = self.num_views(name) if views is None else views
        selected = []
        for view in range(views):
            available = self.num_objects(name, view)
            wanted = self.num_objects(name) if num_objects is None else num_objects
            if available < wanted:
                raise DataError(
                    f"{self.directory}: split {name!r} holds {counted(available, 'object')} in "
                    f"view {view}, {counted(wanted, 'is', 'are')} asked for"
                )
            for shard in self.shards:
                where = shard.range
                if (where.split, where.view) == (name, view) and where.start < wanted:
                    selected.append((shard, min(where.stop, wanted) - where.start))
        return selected
