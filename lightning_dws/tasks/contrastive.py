"""Learn features of INRs without labels: two draws of one INR belong together (SimCLR)."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pytorch_lightning import Callback
from pytorch_lightning.cli import LightningArgumentParser, OptimizerCallable
from torch import Tensor, nn
from torch.optim import AdamW

from lightning_dws.callbacks import PredictionFile
from lightning_dws.data.paired_rows import PairKind
from lightning_dws.errors import DataError
from lightning_dws.tasks.base import WeightSpaceTask
from lightning_dws.tasks.compiling import CompileMode
from lightning_dws.tasks.frozen_features import FrozenFeatures
from lightning_dws.tasks.measured import ScoreKind
from lightning_dws.tasks.nt_xent import nt_xent
from lightning_dws.tasks.output_check import check_output
from lightning_dws.tasks.scores import MeanOfBatches
from lightning_dws.weight_space import WeightBatch

_PROBED_AT_ONCE = 512  # INRs


class ContrastiveTask(WeightSpaceTask):
    """Train a network's features so that INRs of one object are alike (SimCLR; Chen et al., 2020).

    A training batch of B INRs becomes B pairs. Its loss is NT-Xent of projections of the features,
    over the batch of each device. The projection's first layer is the network's own head, so that
    all of the network is trained, its second one follows a relu.

    Labels are for measuring alone: before each validation and test, a linear probe (ridge
    regression) and a search for nearest neighbours are made of the features of training INRs,
    first views, as they are stored; ``val/probe_accuracy`` and ``val/knn_accuracy`` are theirs.

    Args:
        network: Takes a ``WeightBatch`` of B INRs, gives (B, hidden_dim); its features are those of
            ``embed(batch) -> (B, F)``.
        pairs: ``draws``: every INR twice, drawn twice by ``data.augmentations``; ``views``: with
            another neural view of its object, both augmented.
        temperature: Of the loss.
        hidden_dim: Outputs of the network's head.
        projection_dim: Of the projection.
        num_probe_objects: Fit the probe to the first so many training objects.
        optimizer: Makes the optimizer from the parameters.
        schedule: See ``ClassificationTask``.
        warmup_steps: Optimizer steps over which the learning rate rises linearly from zero.
        compile: See ``ClassificationTask``.

    Raises:
        ValueError: An argument out of its range.
        DataError: The network has no features.
    """

    short_name = "contrastive"
    score = "probe_accuracy"
    mode = "max"
    in_percent = True
    other_scores = (ScoreKind("knn_accuracy", in_percent=True),)
    callback_classes: ClassVar[Mapping[str, type[Callback]]] = {"predictions": PredictionFile}
    _options = (
        *WeightSpaceTask._options,
        *("pairs", "temperature", "hidden_dim", "projection_dim", "num_probe_objects"),
    )

    def __init__(
        self,
        network: nn.Module,
        pairs: PairKind = "draws",
        temperature: float = 0.2,
        hidden_dim: int = 128,
        projection_dim: int = 64,
        num_probe_objects: int = 2000,
        optimizer: OptimizerCallable = AdamW,
        schedule: Literal["constant", "cosine"] = "cosine",
        warmup_steps: int = 0,
        compile: bool | CompileMode = False,
    ) -> None:
        super().__init__(network, optimizer, schedule, warmup_steps, compile)
        if pairs not in ("draws", "views"):
            raise ValueError(f"pairs must be one of ('draws', 'views'), got {pairs!r}")
        if not temperature > 0:
            raise ValueError(f"temperature must be positive, got {temperature}")
        counts = {"hidden_dim": hidden_dim, "projection_dim": projection_dim}
        for name, value in (counts | {"num_probe_objects": num_probe_objects}).items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if not callable(getattr(network, "embed", None)):
            raise DataError(
                f"{type(network).__name__} has no embed(batch) that gives features (B, F), which "
                "the task contrastive trains"
            )
        self.pairs = pairs
        self.temperature = temperature
        self.hidden_dim = self.num_outputs = hidden_dim
        self.projection_dim = projection_dim
        self.num_probe_objects = num_probe_objects
        self.projection = nn.Sequential(nn.ReLU(), nn.Linear(hidden_dim, projection_dim))
        self._known: FrozenFeatures | None = None
        metrics: Any = self.metrics
        metrics["train_"]["loss"] = MeanOfBatches()
        for split in ("val", "test"):
            for name in ("probe_accuracy", "knn_accuracy"):
                metrics[f"{split}_"][name] = MeanOfBatches()

    @classmethod
    def link_arguments(cls, parser: LightningArgumentParser) -> None:
        parser.link_arguments("model.hidden_dim", "model.network.init_args.num_classes")

    def forward(self, batch: WeightBatch) -> Tensor:
        """Give projections (B, projection_dim)."""
        output = super().forward(batch)
        check_output(
            output, self.network, len(batch), self.hidden_dim, "a head's output", "a channel"
        )
        projections: Tensor = self.projection(output)
        return projections

    def embed(self, batch: WeightBatch) -> Tensor:
        """Give the network's features (B, F)."""
        network: Any = self.network
        features: Tensor = network.embed(batch)
        return features

    def _step(self, batch: WeightBatch, split: str) -> dict[str, Tensor]:
        metrics = self._metrics_of(split)
        if split == "train":
            loss = nt_xent(self(batch), batch.object_id, self.temperature)
            metrics["loss"].update(loss.detach(), len(batch))
            return {"loss": loss}
        known = self._known_features()
        features = self.embed(batch)
        right = {}
        for name, votes in (("probe", known.probe(features)), ("knn", known.vote(features))):
            right[f"{name}_accuracy"] = votes.argmax(dim=1) == batch.label
        for name, is_right in right.items():
            metrics[name].update(is_right.float().mean(), len(batch))
        return {"features": features, **right}

    def measure_inrs(self, step: Mapping[str, Tensor], batch: WeightBatch) -> dict[str, Tensor]:
        """Give which INRs are classified rightly by the probe, and by their neighbours."""
        return {name: step[name] for name in self.known_scores() if name in step}

    def _known_features(self) -> FrozenFeatures:
        """Give the probe and neighbours of the network as it is, made once an evaluation."""
        if self._known is None:
            data = self._datamodule
            table = data.tables["train"]
            count = min(len(table) // data.views, self.num_probe_objects)
            features, labels = [], []
            for rows in torch.arange(count).split(_PROBED_AT_ONCE):
                part = table.gather(rows).to(self.device)
                features.append(self.embed(part))
                labels.append(part.label)
            self._known = FrozenFeatures.fit(
                torch.cat(features), torch.cat(labels), data.num_classes
            )
        return self._known

    def on_validation_epoch_start(self) -> None:
        super().on_validation_epoch_start()
        self._known = None

    def on_test_epoch_start(self) -> None:
        super().on_test_epoch_start()
        self._known = None

    def on_predict_epoch_start(self) -> None:
        self._known = None

    def predict_step(self, batch: WeightBatch, batch_idx: int) -> dict[str, Tensor]:
        """Give object_id, view, label, the probe's prediction (each (B,)), and feature (B, F)."""
        features = self.embed(batch).float()
        return {
            "object_id": batch.object_id,
            "view": batch.view,
            "label": batch.label,
            "prediction": self._known_features().probe(features).argmax(dim=1),
            "feature": features,
        }
