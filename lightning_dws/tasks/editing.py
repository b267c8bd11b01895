"""Edit INRs: change their weights so that they compute another image."""

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar, Literal

from pytorch_lightning import Callback
from pytorch_lightning.cli import LightningArgumentParser, OptimizerCallable
from torch import Tensor, nn
from torch.optim import AdamW

from lightning_dws.callbacks import EditedStore, EditPictures
from lightning_dws.errors import DataError
from lightning_dws.models.weight_change import WeightChange
from lightning_dws.tasks.base import WeightSpaceTask
from lightning_dws.tasks.image_edits import (
    Edit,
    EditName,
    EditTargets,
    SourceName,
    check_function_kept,
    dilate,
    raise_contrast,
)
from lightning_dws.tasks.measured import SPLITS
from lightning_dws.tasks.scores import MeanOfBatches
from lightning_dws.weight_space import WeightBatch


class EditingTask(WeightSpaceTask):
    """Train a network to change an INR's weights so that it computes an edited image.

    (Zhou et al., 2023; Navon et al., 2023.) The change is equivariant: that of an INR whose hidden
    neurons are permuted is permuted likewise. It begins at zero. ``error`` is the mean squared
    error of the edited INR's image, black 0 and white 1; ``unchanged`` is that of the INR as it is.

    Args:
        network: Gives features of every parameter, ``parameter_features(batch) -> (B, P, C)`` in
            row order, with C its ``parameter_channels``, and has the INRs' ``architecture``, as
            ``DWSNet`` and ``NeuralGraphGNN``. Its head, whose outputs are of the whole INR, is left
            out.
        edit: What is to become of an image: ``dilate`` makes each pixel the brightest of those
            around it, ``contrast`` moves it away from the image's mean.
        radius: Pixels that ``dilate`` looks around, in a square.
        factor: Of ``contrast``: what a distance from the mean is multiplied by.
        source: What is edited for a target: the ``originals`` that the INRs were fitted to, or
            their own ``reconstructions``; ``auto`` is the former where they are at hand.
        optimizer: Makes the optimizer from the parameters.
        schedule: See ``ClassificationTask``.
        warmup_steps: Optimizer steps over which the learning rate rises linearly from zero.

    Raises:
        ValueError: An argument out of its range.
        DataError: The network has no features of single parameters.
    """

    short_name = "editing"
    score = "error"
    needs_classes = False
    can_mix = False
    num_outputs = 1  # of the head that is left out
    callback_classes: ClassVar[Mapping[str, type[Callback]]] = {
        "pictures": EditPictures,
        "edited": EditedStore,
    }
    _meaning = ("edit", "radius", "factor")
    _options = (*WeightSpaceTask._options, *_meaning, "source")

    def __init__(
        self,
        network: nn.Module,
        edit: EditName = "dilate",
        radius: int = 1,
        factor: float = 2.0,
        source: SourceName = "auto",
        optimizer: OptimizerCallable = AdamW,
        schedule: Literal["constant", "cosine"] = "cosine",
        warmup_steps: int = 0,
    ) -> None:
        super().__init__(network, optimizer, schedule, warmup_steps)
        if edit not in ("dilate", "contrast"):
            raise ValueError(f"edit must be one of ('dilate', 'contrast'), got {edit!r}")
        if source not in ("auto", "originals", "reconstructions"):
            raise ValueError(
                f"source must be one of ('auto', 'originals', 'reconstructions'), got {source!r}"
            )
        if radius < 1:
            raise ValueError(f"radius must be at least 1, got {radius}")
        if not factor > 0:
            raise ValueError(f"factor must be positive, got {factor}")
        if not callable(getattr(network, "parameter_features", None)):
            raise DataError(
                f"{type(network).__name__} has no parameter_features(batch) that gives features of "
                "every weight (B, P, C), which the task editing needs; of the networks here DWSNet "
                "and NeuralGraphGNN have them"
            )
        self.edit, self.radius, self.factor, self.source = edit, radius, factor, source
        known: Any = network
        self.change = WeightChange(known.architecture, known.parameter_channels)
        if hasattr(network, "head"):
            network.head = nn.Identity()
        self._targets: EditTargets | None = None
        for split in SPLITS:
            metrics: Any = self.metrics[f"{split}_"]
            metrics["error"] = MeanOfBatches()
            if split != "train":
                metrics["unchanged"] = MeanOfBatches()

    @classmethod
    def link_arguments(cls, parser: LightningArgumentParser) -> None:
        target = "model.network.init_args.num_classes"
        parser.link_arguments("model.edit", target, compute_fn=_one)

    def check_run(self, data: Any) -> None:
        if self.source == "originals" or (self.source == "auto" and data.dataset is not None):
            check_function_kept(data.augmentations)

    def setup(self, stage: str) -> None:
        """Find the images that INRs are to compute, and see to the rest.

        Raises:
            DataError: The INRs are of no images, there are no originals, augmentations move what
                the originals show, or see ``WeightSpaceTask``.
        """
        super().setup(stage)
        data = self._datamodule
        if data is None:
            return
        device = self.trainer.strategy.root_device
        self._targets = EditTargets(data, self._edit, self.source, device)
        if stage == "fit" and self._targets.source == "originals":
            check_function_kept(data.augmentations)

    @property
    def _edit(self) -> Edit:
        if self.edit == "dilate":
            return partial(dilate, radius=self.radius)
        return partial(raise_contrast, factor=self.factor)

    def _fit_to_data(self, data: Any) -> None:
        super()._fit_to_data(data)
        self.change.fit(data.train_parameters())

    def forward(self, batch: WeightBatch) -> Tensor:
        """Give the change of every parameter (B, P)."""
        network: Any = self.network
        features: Tensor = network.parameter_features(batch)
        expected = (*batch.parameters.shape, self.change.weight.shape[1])
        if features.shape != expected:
            raise DataError(
                f"{type(network).__name__}.parameter_features gives shape {tuple(features.shape)}, "
                f"expected {expected}"
            )
        change: Tensor = self.change(features)
        return change

    def edited(self, batch: WeightBatch) -> WeightBatch:
        """Give the INRs with their weights changed."""
        return batch.replace(parameters=batch.parameters + self(batch))

    def _step(self, batch: WeightBatch, split: str) -> dict[str, Tensor]:
        if self._targets is None:
            raise DataError("the task editing needs a datamodule, which knows what INRs encode")
        target, edited = self._targets.of(batch), self.edited(batch)
        after = self._targets.render(edited)
        error = _squared_error(after, target)
        metrics = self._metrics_of(split)
        metrics["error"].update(error.detach().mean(), len(batch))
        step = {"loss": error.mean(), "error": error.detach()}
        if split == "train":
            return step
        before = self._targets.render(batch)
        metrics["unchanged"].update(_squared_error(before, target).mean(), len(batch))
        return {**step, "before": before, "after": after, "target": target}

    def measure_inrs(self, step: Mapping[str, Tensor], batch: WeightBatch) -> dict[str, Tensor]:
        """Give each INR's error."""
        return {"error": step["error"]}

    def predict_step(self, batch: WeightBatch, batch_idx: int) -> dict[str, Tensor]:
        """Give the edited INRs' parameters (B, P)."""
        return {"parameters": self.edited(batch).parameters}


def _squared_error(images: Tensor, target: Tensor) -> Tensor:
    """Give each image's mean (B,)."""
    return (images - target).square().flatten(1).mean(dim=1)


def _one(edit: str) -> int:
    """Give the outputs of a head that is left out; it is asked of any option."""
    return 1
