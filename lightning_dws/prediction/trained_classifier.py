"""A trained network, its checkpoint alone: it classifies INRs, networks, images and files."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lightning_dws import checkpoints
from lightning_dws.canonical import CanonicalForm, make_forms, to_canonical
from lightning_dws.devices import find_device
from lightning_dws.errors import DataError
from lightning_dws.inrs import fit_inrs
from lightning_dws.inrs.preparation.fitting_record import FittingRecord
from lightning_dws.inrs.signals.base import grid_coordinates
from lightning_dws.inrs.signals.class_table import ClassTable
from lightning_dws.inrs.store import INRStore, is_address
from lightning_dws.prediction.inputs import Inputs, Reader
from lightning_dws.prediction.older_checkpoints import read_record
from lightning_dws.prediction.shared_checkpoints import cache_checkpoint, push_checkpoint
from lightning_dws.prediction.signal_values import identify, prepare_signals
from lightning_dws.tasks import ClassificationTask, named_task
from lightning_dws.tasks.task_notes import name_of_task
from lightning_dws.weight_space import (
    Architecture,
    INRArchitecture,
    WeightBatch,
    read_architecture,
    require_inrs,
)

_INRS_AT_ONCE = 512


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a network says of B INRs.

    Attributes:
        class_names: The most probable class of each.
        probabilities: (B, K) float32, in the order of ``classes``.
        classes: The names of all K classes.
        names: What each is called: its file's name, or its position.
        inrs: The INRs, on the CPU.
        psnr: (B,) dB with which they encode what they were fitted to; None where it is not known.
        labels: The name of each one's true class, where it is known.
        notes: What was told on standard error, such as files that were skipped, a line each.
    """

    class_names: list[str]
    probabilities: Tensor
    classes: tuple[str, ...]
    names: list[str]
    inrs: WeightBatch
    psnr: Tensor | None
    labels: list[str | None]
    notes: list[str]

    def __len__(self) -> int:
        return len(self.class_names)

    @property
    def accuracy(self) -> float | None:
        """The share of right ones among those whose class is known; None where there are none."""
        known = [pair for pair in zip(self.class_names, self.labels, strict=True) if pair[1]]
        return sum(found == label for found, label in known) / len(known) if known else None


class TrainedClassifier:
    """A trained network, made by ``load_checkpoint``.

    Args:
        path: Of the checkpoint.
        task: The trained task, in evaluation mode on its device.
        checkpoint: What the file holds.

    Attributes:
        classes: The names of the classes.
    """

    def __init__(self, path: Path, task: ClassificationTask, checkpoint: dict[str, Any]) -> None:
        self.path = path
        self.task = task
        names = tuple(map(str, range(task.num_classes)))
        self.classes: tuple[str, ...] = task.classes or names
        self._checkpoint = checkpoint

    @classmethod
    def from_pretrained(
        cls,
        repo_id: str,
        *,
        revision: str | None = None,
        token: str | None = None,
        device: str = "cpu",
        network: nn.Module | None = None,
    ) -> "TrainedClassifier":
        """Load a trained classifier from the Hugging Face Hub, downloaded once into its cache.

        Args:
            repo_id: ``OWNER/NAME`` of a model's repository.
            revision: A branch, a tag or a commit. Default: the main branch.
            token: Default: that of ``hf auth login``, or ``HF_TOKEN``.
            device: See ``load_checkpoint``.
            network: See ``load_checkpoint``; needed where it is not one of this package's, since
                nothing that a shared file names is imported.

        Raises:
            DataError: There is no such checkpoint, or it is damaged. Nothing in it is unpickled.
        """
        path = cache_checkpoint(repo_id, revision=revision, token=token)
        return load_checkpoint(path, device=device, network=network)

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Push the network to the Hugging Face Hub with a card, see ``push_checkpoint``.

        Args:
            repo_id: ``OWNER/NAME`` of a model's repository, made if it is missing.
            **options: ``license_id``, ``private``, ``revision``, ``token`` and ``message``.

        Returns:
            The repository's address.
        """
        return push_checkpoint(self.path, repo_id, **options)

    @property
    def _note(self) -> dict[str, Any]:
        note: dict[str, Any] = self._checkpoint.get(checkpoints.CHECKPOINT_KEY, {})
        return note

    @property
    def network(self) -> nn.Module:
        return self.task.network

    @property
    def device(self) -> torch.device:
        """Where the network is, and where INRs are fitted."""
        return self.task.device

    @cached_property
    def record(self) -> FittingRecord:
        """How the INRs that the network was trained on were made.

        Raises:
            DataError: The checkpoint does not say, nor do its run's settings.
        """
        record = read_record(self.path, self._checkpoint)
        if record.store is None or is_address(record.store):
            return record
        place = Path(record.store)
        return record.completed(place if place.is_dir() else self.root / place.name)

    @cached_property
    def canonical(self) -> list[CanonicalForm]:
        """The canonical forms that the network reads.

        Raises:
            DataError: The checkpoint does not say how to make them.
        """
        return make_forms(self._note.get("canonical"), str(self.path))

    @cached_property
    def architecture(self) -> Architecture:
        """Of the INRs that the network reads.

        Raises:
            DataError: It is not known.
        """
        network = self._note.get("network") or {}
        plain = network.get("init_args", {}).get("architecture")
        if isinstance(plain, dict):  # the network was made of it, so that it is sound
            return read_architecture(plain)
        return self.record.header.architecture

    @property
    def root(self) -> Path:
        """The folder of stores of the run that trained the network, else ``data``."""
        settings = self._note.get("settings") or {}
        root = settings.get("data", {}).get("root")
        return Path(root) if isinstance(root, str) and Path(root).is_dir() else Path("data")

    def predict(
        self,
        inputs: "WeightBatch | INRStore | Sequence[Any] | Tensor | str | Path",
        *,
        root: str | Path | None = None,
        w0: Sequence[float] | None = None,
        labels: str | Path | None = None,
        show_progress: bool = False,
    ) -> Predictions:
        """Classify INRs, or what INRs are fitted to first.

        Args:
            inputs: A ``WeightBatch``; a store, all of whose INRs are compared with their labels;
                networks (``nn.Sequential``) of the architecture; images, arrays or sounds (see
                ``prepare_signals``), to which INRs are fitted as to those trained on; or the name
                of a folder or file of images, meshes, sounds, arrays or state dicts, of a store, or
                of a split (``"test"``) of the store that the network was trained on.
            root: Folder under whose ``inrs`` the INRs of files are kept. Default: ``root``.
            w0: Frequency of the state dicts' SIRENs, or one for each hidden layer. Default: that
                of the INRs trained on.
            labels: A CSV of the files' classes (as ``ImageFolder`` takes it), to compare with.
                Default: a folder that is called as a class is.
            show_progress: Show how far fitting has come.

        Raises:
            DataError: They are not of the kind that the network was trained on.
        """
        if isinstance(inputs, INRStore):
            inputs = inputs.directory
        if isinstance(inputs, (str, Path)):
            place = Path(root) if root is not None else self.root
            reader = Reader(
                self.architecture,
                self.classes,
                lambda: self.record,
                place,
                self.device,
                w0,
                show_progress,
                None if labels is None else ClassTable.read(labels, Path(inputs)),
            )
            found = reader.read(inputs)
            for note in found.notes:
                sys.stderr.write(f"{note}\n")
            return self._classify(found)
        if labels is not None:
            raise DataError(f"{labels}: classes of files, whereas the inputs are in memory")
        if isinstance(inputs, WeightBatch):
            return self._classify(Inputs.unnamed(inputs))
        networks = [one for one in inputs if isinstance(one, nn.Module)]
        if networks and len(networks) == len(inputs):
            batch = WeightBatch.from_sequentials(self.architecture, networks)
            return self._classify(Inputs.unnamed(batch))
        return self._classify(Inputs.unnamed(*self.fit(inputs)))

    def fit(self, signals: Sequence[Any] | Tensor) -> tuple[WeightBatch, Tensor]:
        """Fit INRs to signals as to those that the network was trained on.

        An INR depends on its signal alone, whatever it is fitted together with.

        Args:
            signals: Images, arrays or sounds, see ``prepare_signals``.

        Returns:
            The INRs and their PSNR (B,) in dB, on the CPU.

        Raises:
            DataError: The network was trained on INRs of something else, or one cannot be read.
        """
        record = self.record
        record.check_fittable()
        architecture = require_inrs(self.architecture, f"{self.path}: {record.kind}")
        values = prepare_signals(signals, record)
        object_id = identify(values)
        batch, psnr = fit_inrs(
            values.to(self.device),
            grid_coordinates(record.header.grid_shape).to(self.device),
            architecture,
            recipe=record.recipe,
            seed=record.header.seed,
            object_id=object_id.to(self.device),
            view=torch.zeros_like(object_id, device=self.device),
        )
        return batch.to("cpu"), psnr.cpu()

    def _classify(self, found: Inputs) -> Predictions:
        batch = found.batch
        if not len(batch):
            raise DataError("nothing to predict: there are no INRs")
        self._check_architecture(batch.architecture)
        read = to_canonical(batch, self.canonical)
        with torch.no_grad():
            logits = [
                self.task(read[start : start + _INRS_AT_ONCE].to(self.device, torch.float32))
                for start in range(0, len(batch), _INRS_AT_ONCE)
            ]
        probabilities = torch.cat([part.float().softmax(dim=1).cpu() for part in logits])
        return Predictions(
            class_names=[self.classes[index] for index in probabilities.argmax(dim=1).tolist()],
            probabilities=probabilities,
            classes=self.classes,
            names=list(found.names),
            inrs=batch.to("cpu"),
            psnr=found.psnr,
            labels=list(found.labels),
            notes=found.notes,
        )

    def _check_architecture(self, found: Architecture) -> None:
        expected = self.architecture
        if not (isinstance(found, INRArchitecture) and isinstance(expected, INRArchitecture)):
            if found != expected:
                raise DataError(
                    f"{found.summary}, but {self.path} was trained on {expected.summary}"
                )
            return
        for name in ("widths", "activation", "w0", "output_offset", "encoding"):
            own, wanted = getattr(found, name), getattr(expected, name)
            if own != wanted:
                raise DataError(
                    f"INRs of {name} {own}, but {self.path} was trained on those of {wanted}"
                )


def load_checkpoint(
    path: str | Path, *, device: str = "cpu", network: nn.Module | None = None
) -> TrainedClassifier:
    """Load a trained classifier; no config and no data are needed.

    Args:
        path: A checkpoint that ``main.py fit`` or a trainer in Python wrote, or the folder of a
            run, whose best one is taken.
        device: Where it computes: ``cpu``, ``cuda``, ``cuda:N``, or ``auto``.
        network: What its weights are for, of a checkpoint that does not say it; see
            ``ClassificationTask.from_checkpoint``.

    Raises:
        DataError: It is no such checkpoint. Nothing in it is ever unpickled.
        ValueError: There is no such device.
    """
    found = checkpoints.find_best(Path(path)) if Path(path).is_dir() else Path(path)
    checkpoint = checkpoints.load_checkpoint(found)
    name = name_of_task(checkpoint.get(checkpoints.CHECKPOINT_KEY, {}))
    kind = ClassificationTask if name is None else named_task(name)
    if not issubclass(kind, ClassificationTask):
        raise DataError(
            f"{found}: a checkpoint of the task {name}, which names no classes; 'predict "
            "--ckpt_path' without --data writes what it predicts of its test split"
        )
    task = kind.from_checkpoint(found, network)
    return TrainedClassifier(found, task.to(find_device(device, "device")), checkpoint)
