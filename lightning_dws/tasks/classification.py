"""Classify INRs by their weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from pytorch_lightning import Callback
from pytorch_lightning.cli import LightningArgumentParser, OptimizerCallable
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import AdamW

from lightning_dws.callbacks import Pictures, PredictionFile
from lightning_dws.errors import DataError
from lightning_dws.tasks.base import WeightSpaceTask
from lightning_dws.tasks.compiling import CompileMode
from lightning_dws.tasks.measured import SPLITS, ScoreKind
from lightning_dws.tasks.output_check import check_output
from lightning_dws.tasks.restoring import check_classes, read_classes
from lightning_dws.tasks.scores import Score, Scores
from lightning_dws.weight_space import WeightBatch


class ClassificationTask(WeightSpaceTask):
    """Train and evaluate a network that takes a ``WeightBatch`` and gives logits.

    Args:
        network: Takes a ``WeightBatch`` of B INRs, gives logits (B, num_classes). If it has a
            ``standardize`` module, that is filled from the training split before training.
        num_classes: Number of classes.
        optimizer: Makes the optimizer from the parameters.
        schedule: Of the learning rate after the warm-up, by step: ``constant``, or ``cosine`` down
            to zero at the end of training. Where only ``max_time`` ends it, by the time.
        warmup_steps: Optimizer steps over which the learning rate rises linearly from zero.
        label_smoothing: Share of the target that is spread over all classes, in [0, 1).
        compile: Whether, or in which mode, ``torch.compile`` makes kernels for the network: worth
            it on GPUs, slower than the networks' own kernels on CPUs. Where no compiler is found,
            and for what cannot be compiled, the network runs as it is. ``cuda-graph`` compiles
            nothing, but replays the network's launches in training as one, see ``GraphedNetwork``.
            Checkpoints are the same.

    Raises:
        ValueError: An argument out of its range.
    """

    short_name = "classification"
    score = "accuracy"
    mode = "max"
    in_percent = True
    other_scores = (ScoreKind("accuracy_macro", in_percent=True), ScoreKind("loss", "min"))
    callback_classes: ClassVar[Mapping[str, type[Callback]]] = {
        "pictures": Pictures,
        "predictions": PredictionFile,
    }
    _options = (*WeightSpaceTask._options, "label_smoothing")

    def __init__(
        self,
        network: nn.Module,
        num_classes: int,
        optimizer: OptimizerCallable = AdamW,
        schedule: Literal["constant", "cosine"] = "cosine",
        warmup_steps: int = 0,
        label_smoothing: float = 0.0,
        compile: bool | CompileMode = False,
    ) -> None:
        super().__init__(network, optimizer, schedule, warmup_steps, compile)
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing must be in [0, 1), got {label_smoothing}")
        self.num_classes = num_classes
        self.label_smoothing = label_smoothing
        self.classes: tuple[str, ...] | None = None
        self.scores = nn.ModuleDict()
        for split in SPLITS:
            scores = Scores(num_classes)
            self.scores[f"{split}_"] = scores
            self.metrics[f"{split}_"] = nn.ModuleDict(
                {name: Score(scores, name) for name in scores.names}
            )

    @classmethod
    def link_arguments(cls, parser: LightningArgumentParser) -> None:
        super().link_arguments(parser)
        parser.link_arguments("data.num_classes", "model.num_classes", apply_on="instantiate")

    def check_run(self, data: Any) -> None:
        if data.num_classes < 2:
            raise DataError(
                f"{data.directory}: one class alone, {data.classes[0]!r}; classification tells "
                "two or more apart"
            )

    @property
    def column_names(self) -> dict[str, list[str]]:
        """Of what ``predict_step`` gives, where it has several columns."""
        return {"probabilities": [f"probability {name}" for name in self._datamodule.classes]}

    def forward(self, batch: WeightBatch) -> Tensor:
        logits = super().forward(batch)
        check_output(logits, self.network, len(batch), self.num_classes)
        return logits

    def setup(self, stage: str) -> None:
        """Compare the classes of the data with those trained on, and see to the rest.

        Raises:
            DataError: The network was trained on other classes, or see ``WeightSpaceTask``.
        """
        super().setup(stage)
        self._compare_classes("the trained network")

    def _step(self, batch: WeightBatch, split: str) -> dict[str, Tensor]:
        logits = self(batch)
        target = batch.label if batch.target is None else batch.target
        loss = functional.cross_entropy(logits, target, label_smoothing=self.label_smoothing)
        scores: Any = self.scores[f"{split}_"]
        scores.update(loss.detach(), logits.detach(), batch.label)
        return {"loss": loss, "logits": logits.detach()}

    def measure_inrs(self, step: Mapping[str, Tensor], batch: WeightBatch) -> dict[str, Tensor]:
        """Give which INRs are classified rightly, though their targets may be mixed."""
        return {"accuracy": step["logits"].argmax(dim=1) == batch.label}

    def predict_step(self, batch: WeightBatch, batch_idx: int) -> dict[str, Tensor]:
        """Give object_id, view, label, prediction (each (B,)) and probabilities (B, K)."""
        probabilities = self(batch).float().softmax(dim=1)
        return {
            "object_id": batch.object_id,
            "view": batch.view,
            "label": batch.label,
            "prediction": probabilities.argmax(dim=1),
            "probabilities": probabilities,
        }

    def _compare_classes(self, where: str) -> None:
        data = getattr(self._datamodule, "classes", None)
        if self.classes is not None and data is not None:
            check_classes(self.classes, tuple(data), where)

    def _write_note(self) -> dict[str, Any]:
        classes = getattr(self._datamodule, "classes", self.classes)
        names = None if classes is None else [str(name) for name in classes]
        return {"num_classes": self.num_classes, "classes": names}

    def _read_note(self, note: Mapping[str, Any], where: str) -> None:
        self.classes = read_classes(note, self.num_classes, where)
        self._compare_classes(where)

    @classmethod
    def _read_arguments(cls, note: Mapping[str, Any], path: str | Path) -> dict[str, Any]:
        num_classes = note.get("num_classes")
        if type(num_classes) is not int or num_classes < 1:
            raise DataError(f"{path}: num_classes is {num_classes!r}, expected a count")
        return {"num_classes": num_classes}
