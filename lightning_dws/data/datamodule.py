"""The LightningDataModule over a store of INRs."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor

from lightning_dws.augmentations import Augmentation
from lightning_dws.canonical import (
    CanonicalForm,
    check_forms,
    describe_forms,
    needs_reference,
    reference_of,
    set_reference,
)
from lightning_dws.data.epoch_checks import check_epoch
from lightning_dws.data.paired_rows import PairedRows, check_pairs
from lightning_dws.data.placement import (
    DeviceTable,
    MappedTable,
    ResumableTableLoader,
    Table,
    TableLoader,
    free_memory,
)
from lightning_dws.data.sampler import EpochSampler, SequentialSampler
from lightning_dws.data.store_checks import (
    check_augmentations,
    check_classes,
    check_share,
    check_split,
    first_training_inr,
)
from lightning_dws.devices import find_device
from lightning_dws.errors import DataError
from lightning_dws.inrs.preparation import INRDatasetSpec, Wanted, prepare_store
from lightning_dws.inrs.preparation.fitting_record import FittingRecord
from lightning_dws.inrs.signals import SPLITS
from lightning_dws.inrs.store import INRStore, is_address
from lightning_dws.inrs.store.shards import INDEX_NAME
from lightning_dws.randomness import make_generator
from lightning_dws.weight_space import Architecture, WeightBatch

# Besides "fit", which needs all: after it the best checkpoint is tested.
_SPLITS_OF_STAGE = {"validate": ("val",), "test": ("test",), "predict": ("test",)}
_MEMORY_SHARE = 0.6  # of the free memory that the training table may take


class INRDataModule(pl.LightningDataModule):
    """INRs from a store, fitted first where they are missing, augmented on the device.

    Args:
        dataset: What the INRs are. None opens the store ``store`` as it is, e.g. an imported one.
        root: Folder under which stores live.
        store: The store's name under ``root``, or its folder, wherever that is, or an address, such
            as ``s3://bucket/folder``, see ``INRStore``. Default: a name made from ``dataset``, so
            that other settings never meet in one store.
        batch_size: INRs per batch and device.
        eval_batch_size: INRs per batch and device in validation, test and prediction.
        views: Neural views of each training object; validation and test use the first.
        num_train_objects: Train on the first so many objects of the training split's stratified
            order; None for all.
        num_val_objects: Likewise for validation.
        num_test_objects: Likewise for test.
        augmentations: Applied one after another to training batches, on their device.
        table: Where the training INRs live: on the ``device``, or ``mapped`` from disk; ``auto``
            maps them where they would take more than 60 % of the device's free memory, and where
            several processes train on the CPU, which then share one copy in memory.
        fitting_device: Where missing INRs are fitted; ``auto`` is a GPU where there is one.
        drop_last: Leave out an epoch's last batch when it is not full.
        seed: Of the order of batches, augmentations, MixUp and dropout; on the command line that
            of ``--seed_everything``.
        canonical: Canonical forms that all INRs are brought into, one after another, once: of
            every split, before augmentations, and before a network is standardised. Those that
            compare with one INR take the store's first for training, or the checkpoint's.

    Raises:
        ValueError: Neither ``dataset`` nor ``store`` is given, or a number is out of range.
        DataError: The store cannot be used; the message says why.
    """

    def __init__(
        self,
        dataset: INRDatasetSpec | None = None,
        root: str = "data",
        store: str | None = None,
        batch_size: int = 128,
        eval_batch_size: int = 512,
        views: int = 1,
        num_train_objects: int | None = None,
        num_val_objects: int | None = None,
        num_test_objects: int | None = None,
        augmentations: Sequence[Augmentation] = (),
        table: Literal["auto", "device", "mapped"] = "auto",
        fitting_device: str = "auto",
        drop_last: bool = True,
        seed: int = 0,
        canonical: Sequence[CanonicalForm] = (),
    ) -> None:
        super().__init__()
        if dataset is None and store is None:
            raise ValueError("give a dataset to fit, or the store of one that exists")
        if dataset is not None and is_address(store):
            raise ValueError(f"store is {store}, where nothing is fitted; leave dataset out")
        counts = {"train": num_train_objects, "val": num_val_objects, "test": num_test_objects}
        numbers = {f"num_{split}_objects": count for split, count in counts.items()}
        numbers |= {"batch_size": batch_size, "eval_batch_size": eval_batch_size, "views": views}
        for name, value in numbers.items():
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        find_device(fitting_device, "fitting_device")
        self.dataset = dataset
        self.directory = Path(root) / (store or (dataset.store_name if dataset else ""))
        self._address = str(store) if is_address(store) else None
        if dataset is None and not (self.directory / INDEX_NAME).exists():
            own = Path(str(store))
            self.directory = own if (own / INDEX_NAME).exists() else self.directory
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.views = views
        self.num_objects = counts
        self.canonical = list(canonical)
        self.augmentations = list(augmentations)
        self.table = table
        self.fitting_device = fitting_device
        self.drop_last = drop_last
        self.seed = seed
        self._store: INRStore | None = None
        self._record: dict[str, Any] | None = None
        self._tables: dict[str, Table] = {}
        self._batches_augmented = 0

    @property
    def architecture(self) -> Architecture:
        """Of the INRs; known before they are fitted."""
        return self.dataset.architecture if self.dataset else self.store.architecture

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self.dataset.signals.classes) if self.dataset else self.store.classes

    @property
    def grid_shape(self) -> tuple[int, ...]:
        """(height, width) of the pixels that INRs encode, or of 1 or 3 axes, for pictures."""
        return self.dataset.signals.grid_shape if self.dataset else self.store.header.grid_shape

    @property
    def num_classes(self) -> int:
        """How many classes there are to tell apart.

        Raises:
            DataError: The INRs have no classes.
        """
        if not self.classes:
            raise DataError(f"{self.directory}: has no classes, so no classifier can be trained")
        return len(self.classes)

    @property
    def store(self) -> INRStore:
        """The store on disk, opened and checked when it is first asked for."""
        if self._store is None:
            self._store = INRStore(self._address or self.directory)
            self.directory = self._store.directory
        return self._store

    @property
    def inr_record(self) -> dict[str, Any]:
        """How the INRs were made, as plain data that checkpoints keep."""
        if self._record is None:
            signals = self.dataset.signals if self.dataset else None
            header = self.dataset.header if self.dataset else self.store.header
            record = FittingRecord.of_store(self.directory, header, signals)
            self._record = {**record.to_dict(), "store": self._address or record.store}
        return self._record

    @property
    def canonical_record(self) -> dict[str, Any]:
        """What INRs are brought into, as plain data that checkpoints keep."""
        return describe_forms(self.canonical)

    @property
    def tables(self) -> Mapping[str, Table]:
        """The splits that are loaded, by name."""
        return self._tables

    def check_run(self, task: Any) -> None:
        """Refuse, before any INR is fitted, what no training of a task can go with.

        Raises:
            DataError: Pairs of twice the same, or canonical forms or augmentations that are wrong
                for these INRs.
        """
        check_pairs(getattr(task, "pairs", None), self.views, bool(self.augmentations))
        check_forms(self.canonical, self.architecture)
        header = self.dataset.header if self.dataset else self.store.header
        check_augmentations(self.augmentations, header)

    def prepare_data(self) -> None:
        """Fit the objects and views that this run needs and the store lacks."""
        stage = self.trainer.state.fn if self.trainer else None
        if stage == TrainerFn.FITTING:
            check_pairs(self._asked("pairs"), self.views, bool(self.augmentations))
        if self.dataset is None:
            return
        check_forms(self.canonical, self.architecture)
        device = find_device(self.fitting_device, "fitting_device")
        splits = self._splits_of(stage.value) if stage else SPLITS
        wanted = Wanted({split: self.num_objects[split] for split in splits}, {"train": self.views})
        if "train" not in splits and needs_reference(self.canonical):
            wanted = Wanted({"train": 1, **wanted.num_objects}, {})
        # what this run loads is checked when it is loaded
        prepare_store(self.directory, self.dataset, wanted, device=device, check_listed=False)
        self._store = None

    def setup(self, stage: str) -> None:
        """Load the splits that a stage needs: ``fit``, ``validate``, ``test`` or ``predict``."""
        check_forms(self.canonical, self.architecture)
        if needs_reference(self.canonical) and reference_of(self.canonical) is None:
            set_reference(self.canonical, first_training_inr(self.store, self.directory))
        if stage == "fit":
            check_augmentations(self.augmentations, self.store.header)
        for split in ("train", "val") if stage == "fit" else self._splits_of(stage):
            if split not in self._tables:
                self._tables[split] = self._load(split)

    def _splits_of(self, stage: str) -> tuple[str, ...]:
        splits = _SPLITS_OF_STAGE.get(stage, SPLITS)
        with_train = self._asked("pairs") and "train" not in splits  # to compare others with
        return ("train", *splits) if with_train else splits

    def _asked(self, name: str) -> Any:
        """Give what the task that is trained asks of its data: ``targets``, ``pairs`` or so."""
        return getattr(getattr(self.trainer, "lightning_module", None), name, None)

    def _load(self, split: str) -> Table:
        device = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
        views = self.views if split == "train" else 1
        wanted = self.num_objects[split]
        check_split(self.store, self.directory, split, views)
        targets = self._asked("targets")
        target = self.store.columns(targets, split, wanted, views) if targets else None
        if self._is_mapped(split, device):
            pin = device.type == "cuda"
            table: Table = MappedTable(
                self.store, split, wanted, views, pin, self.canonical, target
            )
        else:
            inrs = self.store.split(split, num_objects=wanted, views=views, device=device)
            inrs = inrs if target is None else inrs.replace(target=target.to(device))
            table = DeviceTable(inrs, self.canonical)
        check_share(table, self.directory, split, self._place()[1])
        if split == "train" and not targets and self._asked("needs_classes") is not False:
            check_classes(table, self.directory, self.classes)
        return table

    def _is_mapped(self, split: str, device: torch.device) -> bool:
        if split == "train" and self.table != "auto":
            return self.table == "mapped"
        if device.type == "cpu" and self._place()[1] > 1:
            return True  # the processes share the pages
        if split != "train":
            return False
        wanted = self.num_objects["train"] or self.store.num_objects("train")
        num_bytes = 4 * wanted * self.views * self.architecture.num_parameters
        return num_bytes > _MEMORY_SHARE * free_memory(device)

    def train_parameters(self) -> Iterator[Tensor]:
        """Give the training rows in pieces (n, P), to fill a model's standardisation from."""
        return (part.parameters for part in self._tables["train"].chunks())

    def train_dataloader(self) -> ResumableTableLoader:
        table = self._tables["train"]
        rank, world_size = self._place()
        sampler = EpochSampler(
            len(table),
            self.batch_size,
            seed=self.seed,
            rank=rank,
            world_size=world_size,
            drop_last=self.drop_last,
            # a limited number of batches must be the same ones in every epoch
            same_order=bool(self.trainer and self.trainer.overfit_batches),  # type: ignore[attr-defined]
        )
        if self.trainer:
            per_rank = len(table) // world_size
            check_epoch(self.trainer, per_rank, len(sampler), min(self.batch_size, per_rank))
        kind, num_objects = self._asked("pairs"), len(table) // self.views
        pairs = PairedRows(kind, num_objects, self.views, self.seed) if kind else None
        return ResumableTableLoader(table, sampler, pairs)

    def val_dataloader(self) -> TableLoader:
        return self._eval_dataloader("val")

    def test_dataloader(self) -> TableLoader:
        return self._eval_dataloader("test")

    def predict_dataloader(self) -> TableLoader:
        return self._eval_dataloader("test")

    def _eval_dataloader(self, split: str) -> TableLoader:
        table = self._tables[split]
        rank, world_size = self._place()
        sampler = SequentialSampler(
            len(table), self.eval_batch_size, rank=rank, world_size=world_size
        )
        return TableLoader(table, sampler)

    def _place(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def on_after_batch_transfer(self, batch: WeightBatch, dataloader_idx: int) -> WeightBatch:
        """Augment a training batch on its device, with numbers of (seed, rank, batch) alone."""
        if self.trainer is None or not self.trainer.training or not self.augmentations:
            return batch
        for position, augmentation in enumerate(self.augmentations):
            generator = make_generator(
                self.seed,
                rank=self.trainer.global_rank,
                counter=self._batches_augmented,
                stream=f"augmentation {position}",
                device=batch.device,
            )
            batch = augmentation(batch, generator)
        self._batches_augmented += 1
        return batch

    def state_dict(self) -> dict[str, Any]:
        state: dict[str, Any] = {"batches_augmented": self._batches_augmented}
        if (reference := reference_of(self.canonical)) is not None:
            state["canonical_reference"] = reference
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._batches_augmented = state_dict["batches_augmented"]
        own, saved = reference_of(self.canonical), state_dict.get("canonical_reference")
        if own is None or saved is None or torch.equal(own, saved):
            return
        set_reference(self.canonical, saved)  # that of the store that the network was trained on
        for split in self._tables:
            self._tables[split] = self._load(split)
