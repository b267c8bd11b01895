"""Predict numbers of INRs from their weights."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from pytorch_lightning import Callback
from pytorch_lightning.cli import LightningArgumentParser, OptimizerCallable
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import AdamW

from lightning_dws.callbacks import PredictionFile, ScatterPlot
from lightning_dws.counting import counted
from lightning_dws.errors import DataError
from lightning_dws.tasks.base import WeightSpaceTask
from lightning_dws.tasks.compiling import CompileMode
from lightning_dws.tasks.measured import SPLITS, ScoreKind
from lightning_dws.tasks.output_check import check_output
from lightning_dws.tasks.regression_scores import R2, KendallTau, shares_in_r2, shares_in_tau
from lightning_dws.tasks.scores import MeanOfBatches
from lightning_dws.weight_space import WeightBatch

LossName = Literal["mse", "binary_cross_entropy"]


class RegressionTask(WeightSpaceTask):
    """Predict columns of the store, such as the PSNR, from an INR's weights.

    MixUp mixes the targets as it mixes soft labels.

    Args:
        network: Takes a ``WeightBatch`` of B INRs, gives (B, K). If it has a ``standardize``
            module, that is filled from the training split before training.
        targets: Names of K columns: ``psnr``, or what else the store knows of its INRs (``iou``
            and ``sdf_error`` of shapes; ``measures`` in its ``dataset.json``).
        loss: ``mse``, of targets standardised by the training split (so that 1 is what their mean
            reaches), or ``binary_cross_entropy`` for targets in [0, 1], which are then the sigmoid
            of the network's output.
        optimizer: Makes the optimizer from the parameters.
        schedule: See ``ClassificationTask``.
        warmup_steps: Optimizer steps over which the learning rate rises linearly from zero.
        compile: See ``ClassificationTask``.

    Raises:
        ValueError: An argument out of its range.
    """

    short_name = "regression"
    score = "r2"
    mode = "max"
    other_scores = (ScoreKind("kendall_tau"), ScoreKind("loss", "min"))
    callback_classes: ClassVar[Mapping[str, type[Callback]]] = {
        "pictures": ScatterPlot,
        "predictions": PredictionFile,
    }
    _options = (*WeightSpaceTask._options, "loss")
    _meaning = ("targets", "loss")
    target_mean: Tensor
    target_std: Tensor

    def __init__(
        self,
        network: nn.Module,
        targets: Sequence[str],
        loss: LossName = "mse",
        optimizer: OptimizerCallable = AdamW,
        schedule: Literal["constant", "cosine"] = "cosine",
        warmup_steps: int = 0,
        compile: bool | CompileMode = False,
    ) -> None:
        super().__init__(network, optimizer, schedule, warmup_steps, compile)
        if not targets or isinstance(targets, str) or len(set(targets)) < len(targets):
            raise ValueError(f"targets must be names of columns, each once, got {targets!r}")
        if loss not in ("mse", "binary_cross_entropy"):
            raise ValueError(f"loss must be one of ('mse', 'binary_cross_entropy'), got {loss!r}")
        self.targets = tuple(targets)
        self.num_outputs = len(self.targets)
        self.loss = loss
        self.register_buffer("target_mean", torch.zeros(self.num_outputs))
        self.register_buffer("target_std", torch.ones(self.num_outputs))
        for split in SPLITS:
            metrics: Any = self.metrics[f"{split}_"]
            metrics["loss"] = MeanOfBatches()
            metrics["r2"] = R2()
            if split != "train":  # its pairs of all INRs are counted
                metrics["kendall_tau"] = KendallTau(num_outputs=self.num_outputs)

    @classmethod
    def link_arguments(cls, parser: LightningArgumentParser) -> None:
        target = "model.network.init_args.num_classes"
        parser.link_arguments("model.targets", target, compute_fn=_count)

    @property
    def column_names(self) -> dict[str, list[str]]:
        """Of what ``predict_step`` gives, where it has several columns."""
        return {what: [f"{what} {name}" for name in self.targets] for what in ("true", "predicted")}

    def forward(self, batch: WeightBatch) -> Tensor:
        """Give what the loss takes: standardised values, or logits."""
        output = super().forward(batch)
        size, count = len(batch), len(self.targets)
        check_output(output, self.network, size, count, "numbers", "a target")
        return output

    def setup(self, stage: str) -> None:
        """Check the targets of all INRs that are loaded, and see to the rest.

        Raises:
            DataError: One is not finite, or out of the loss's range, or see ``WeightSpaceTask``.
        """
        for split, table in getattr(self._datamodule, "tables", {}).items():
            for part in table.chunks():
                self._check_targets(part.target, split)
        super().setup(stage)

    def _check_targets(self, target: Tensor, split: str) -> None:
        low, high = (-torch.inf, torch.inf) if self.loss == "mse" else (0, 1)
        good = target.isfinite() & (target >= low) & (target <= high)
        for name, column, is_good in zip(self.targets, target.T, good.T, strict=True):
            if not is_good.all():
                expected = "a finite number" if self.loss == "mse" else "a share in [0, 1]"
                found = float(column[~is_good][0])
                where = counted(int((~is_good).sum()), f"{split} INR")
                raise DataError(
                    f"{name} of {where} is not {expected}, such as "
                    f"{found:g}; loss {self.loss} cannot be trained on it"
                )

    def _fit_to_data(self, data: Any) -> None:
        super()._fit_to_data(data)
        if self.loss == "mse":
            self._standardise(part.target for part in data.tables["train"].chunks())

    def _standardise(self, parts: Iterable[Tensor]) -> None:
        target = torch.cat([part.double() for part in parts])
        std = target.std(dim=0, correction=0)
        self.target_mean.copy_(target.mean(dim=0))
        self.target_std.copy_(torch.where(std > 0, std, torch.ones_like(std)))

    def _step(self, batch: WeightBatch, split: str) -> dict[str, Tensor]:
        if batch.target is None:
            raise DataError(
                f"{type(self).__name__} needs a target in every batch: a datamodule that gives "
                f"the columns {', '.join(self.targets)}"
            )
        output = self(batch).float()
        scaled = (batch.target - self.target_mean) / self.target_std
        if self.loss == "mse":
            loss, predicted = functional.mse_loss(output, scaled), output
        else:
            loss = functional.binary_cross_entropy_with_logits(output, scaled)
            predicted = output.sigmoid()
        predicted = predicted.detach()
        metrics = self._metrics_of(split)
        metrics["loss"].update(loss.detach(), len(batch))
        for name in metrics.keys() - {"loss"}:  # scale changes none of them, but for rounding
            metrics[name].update(*map(_column, (predicted, scaled)))
        return {"loss": loss, "prediction": self._unscaled(predicted)}

    def measure_inrs(self, step: Mapping[str, Tensor], batch: WeightBatch) -> dict[str, Tensor]:
        """Give predictions and targets, (B, 2, K): neither R2 nor tau is a mean over INRs."""
        if batch.target is None:
            return {}
        pairs = torch.stack([step["prediction"], batch.target], dim=1)
        return {"r2": pairs, "kendall_tau": pairs}

    def scores_of_inrs(self, name: str, measured: Tensor) -> Tensor:
        """Give each INR's jackknife value, so that they can be resampled as if they were scores."""
        predicted, true = measured.double().unbind(1)
        shares = shares_in_r2 if name == "r2" else shares_in_tau
        return shares(predicted, true)

    def _unscaled(self, predicted: Tensor) -> Tensor:
        return predicted * self.target_std + self.target_mean

    def predict_step(self, batch: WeightBatch, batch_idx: int) -> dict[str, Tensor]:
        """Give object_id, view, label (each (B,)), true and predicted targets (each (B, K))."""
        output = self(batch).float()
        predicted = self._unscaled(output) if self.loss == "mse" else output.sigmoid()
        known = {"object_id": batch.object_id, "view": batch.view, "label": batch.label}
        true = {} if batch.target is None else {"true": batch.target}
        return {**known, **true, "predicted": predicted}

    def _write_note(self) -> dict[str, Any]:
        return {"targets": list(self.targets)}

    def _read_note(self, note: Mapping[str, Any], where: str) -> None:
        found = note.get("targets", list(self.targets))
        if found != list(self.targets):
            raise DataError(
                f"{where}: trained to predict {found}, this task predicts {list(self.targets)}"
            )

    @classmethod
    def _read_arguments(cls, note: Mapping[str, Any], path: str | Path) -> dict[str, Any]:
        targets = note.get("targets")
        if not isinstance(targets, list) or not all(isinstance(name, str) for name in targets):
            raise DataError(f"{path}: targets is {targets!r}, expected names of columns")
        return {"targets": targets}


def _count(targets: Sequence[str] | None) -> int:
    """Count the targets; where none are given, the parser says so."""
    return len(targets or ("",))


def _column(values: Tensor) -> Tensor:
    """Give a single column as a vector, which torchmetrics wants."""
    return values[:, 0] if values.shape[1] == 1 else values
