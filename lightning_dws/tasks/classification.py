"""Classify INRs by their weights: the LightningModule around a weight-space network."""

import importlib
import math
import pickle
from pathlib import Path
from typing import Any, Literal, Self

import pytorch_lightning as pl
import torch
from pytorch_lightning.cli import OptimizerCallable
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from lightning_dws.errors import DataError
from lightning_dws.randomness import stream_seed
from lightning_dws.tasks.mean_loss import MeanLoss
from lightning_dws.tasks.resumed_optimizer import apply_options, restart_schedule
from lightning_dws.weight_space import INRArchitecture, WeightBatch

_REBUILDING_ERRORS = (
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    ImportError,
    RuntimeError,
)
CHECKPOINT_KEY = "lightning_dws"


class ClassificationTask(pl.LightningModule):
    """Train and evaluate a network that takes a ``WeightBatch`` and gives logits.

    Args:
        network: Takes a ``WeightBatch`` of B INRs, gives logits (B, num_classes). If it has a
            ``standardize`` module, that is filled from the training split before training.
        num_classes: Number of classes.
        optimizer: Makes the optimizer from the parameters.
        schedule: Of the learning rate after the warm-up, by step: ``constant``, or ``cosine`` down
            to zero at the end of training.
        warmup_steps: Optimizer steps over which the learning rate rises linearly from zero.
        label_smoothing: Share of the target that is spread over all classes, in [0, 1).
        compile: Whether ``torch.compile`` makes kernels for the network: worth it on GPUs, slower
            than the networks' own kernels on CPUs. Where no compiler is found, and for what cannot
            be compiled, the network runs as it is. Checkpoints are the same.

    Raises:
        ValueError: An argument out of its range.
    """

    def __init__(
        self,
        network: nn.Module,
        num_classes: int,
        optimizer: OptimizerCallable = AdamW,
        schedule: Literal["constant", "cosine"] = "cosine",
        warmup_steps: int = 0,
        label_smoothing: float = 0.0,
        compile: bool = False,
    ) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing must be in [0, 1), got {label_smoothing}")
        if warmup_steps < 0:
            raise ValueError(f"warmup_steps must not be negative, got {warmup_steps}")
        if schedule not in ("constant", "cosine"):
            raise ValueError(f"schedule must be 'constant' or 'cosine', got {schedule!r}")
        self.network = network
        self.num_classes = num_classes
        self.optimizer = optimizer
        self.schedule = schedule
        self.warmup_steps = warmup_steps
        self.label_smoothing = label_smoothing
        self.compiles_network = compile
        self.network_config: dict[str, Any] | None = None
        self._restored = False
        metrics = MetricCollection(
            {
                "accuracy": MulticlassAccuracy(num_classes, average="micro", validate_args=False),
                "accuracy_top5": MulticlassAccuracy(
                    num_classes, average="micro", top_k=min(5, num_classes), validate_args=False
                ),
                "accuracy_macro": MulticlassAccuracy(
                    num_classes, average="macro", validate_args=False
                ),
            },
            compute_groups=False,  # they would merge metrics whose first batch looked alike
        )
        self.metrics = nn.ModuleDict(
            {f"{split}_": metrics.clone(prefix=f"{split}/") for split in ("train", "val", "test")}
        )
        self.mean_losses = nn.ModuleDict(
            {f"{split}_": MeanLoss() for split in ("train", "val", "test")}
        )
        self._diverged_at = torch.tensor(math.inf)

    def forward(self, batch: WeightBatch) -> Tensor:
        logits: Tensor = self.network(batch)
        return logits

    def setup(self, stage: str) -> None:
        """Compile the network if that is wanted and possible; it happens at the first batch.

        Raises:
            DataError: The trainer's precision would convert the INRs themselves.
        """
        precision = self.trainer.precision
        if precision.endswith("-true") and precision != "32-true":
            raise DataError(
                f"precision {precision} would convert the INRs; use 32-true or bf16-mixed"
            )
        if self.compiles_network:
            compile_if_possible(self.network, self.trainer.strategy.root_device)
            self.compiles_network = False  # once is enough for all stages

    def configure_optimizers(self) -> Any:
        optimizer = self.optimizer(self.parameters())
        scheduler = LambdaLR(optimizer, self.learning_rate_share)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step", "name": "learning_rate"},
        }

    def learning_rate_share(self, step: int) -> float:
        """Give the share of the full learning rate at an optimizer step, counted from 0."""
        if step < self.warmup_steps:
            return (step + 1) / (self.warmup_steps + 1)
        if self.schedule == "constant" or step == self.warmup_steps:
            return 1.0
        # Asked for only now: in configure_optimizers it would make Lightning set up the data
        # before it restores a checkpoint, and then forget the loader's place in the epoch.
        total = self.trainer.estimated_stepping_batches
        progress = (step - self.warmup_steps) / max(1, total - self.warmup_steps)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))

    def on_fit_start(self) -> None:
        """Fill the network's standardisation from the training split, unless it was restored."""
        torch.set_float32_matmul_precision("high")  # TensorFloat-32 on GPUs that have it
        standardize: Any = getattr(self.network, "standardize", None)
        datamodule = getattr(self.trainer, "datamodule", None)
        if standardize is not None and datamodule is not None and not self._restored:
            standardize.fit(datamodule.train_parameters())

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._restored = True
        if self._trainer is not None and self._trainer.state.fn == TrainerFn.FITTING:
            apply_options(checkpoint, self.optimizer(self.parameters()))

    def start_from(self, state: dict[str, Any], path: str | Path) -> None:
        """Take a trained network over, for a new training of it.

        All that the network is comes along: its weights, its standardisation and the statistics of
        its batch norm, so that it computes at first what it did, whatever it is trained on now.

        Args:
            state: The ``state_dict`` of a checkpoint.
            path: Where it is from, for messages.

        Raises:
            DataError: It is of another network.
        """
        try:
            self.load_state_dict(state)
        except (RuntimeError, TypeError, AttributeError) as error:
            reason = " ".join(str(error).split())
            raise DataError(f"{path}: not the weights of this network ({reason})") from error
        self._restored = True

    def on_train_start(self) -> None:
        """Set the first learning rate of a run that continues, maybe with another length."""
        for config in self.trainer.lr_scheduler_configs:
            if isinstance(config.scheduler, LambdaLR) and self.trainer.ckpt_path:
                restart_schedule(config.scheduler)

    def on_train_batch_start(self, batch: WeightBatch, batch_idx: int) -> None:
        """Let what a network draws (dropout) depend on (seed, rank, batch) alone.

        Layers of torch draw from the global generator, whose state no checkpoint holds: seeded
        anew for every batch, a resumed run repeats exactly and ranks differ.
        """
        seed = getattr(getattr(self.trainer, "datamodule", None), "seed", 0)
        counter = self.trainer.fit_loop.total_batch_idx
        torch.manual_seed(stream_seed(seed, self.global_rank, counter, "network"))

    def training_step(self, batch: WeightBatch, batch_idx: int) -> dict[str, Tensor]:
        step = self._step(batch, "train")
        loss = step["loss"]
        self._log_step(loss, batch)
        self._watch(loss)
        return step

    def validation_step(self, batch: WeightBatch, batch_idx: int) -> dict[str, Tensor]:
        return self._step(batch, "val")

    def test_step(self, batch: WeightBatch, batch_idx: int) -> dict[str, Tensor]:
        return self._step(batch, "test")

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

    def _log_step(self, loss: Tensor, batch: WeightBatch) -> None:
        """Log a step's loss, the mean over all ranks, when Lightning writes to the log."""
        every = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        if every and (self.trainer.global_step + 1) % every == 0:
            mean = self.trainer.strategy.reduce(loss.detach().clone(), reduce_op="mean")
            self.log("train/loss_step", mean, on_step=True, on_epoch=False, batch_size=len(batch))

    def _step(self, batch: WeightBatch, split: str) -> dict[str, Tensor]:
        logits = self(batch)
        target = batch.label if batch.target is None else batch.target
        loss = functional.cross_entropy(logits, target, label_smoothing=self.label_smoothing)
        mean_loss: Any = self.mean_losses[f"{split}_"]
        mean_loss.update(loss.detach(), len(batch))
        metrics: Any = self.metrics[f"{split}_"]
        metrics.update(logits.detach(), batch.label)
        self._log_epoch(f"{split}/loss", mean_loss, batch)
        for name, metric in metrics.items():
            self._log_epoch(name, metric, batch)
        return {"loss": loss, "logits": logits.detach()}

    def _log_epoch(self, name: str, metric: Metric, batch: WeightBatch) -> None:
        self.log(
            name,
            metric,
            on_step=False,
            on_epoch=True,
            prog_bar=name in ("train/loss", "val/loss", "val/accuracy"),
            batch_size=len(batch),
        )

    def _watch(self, loss: Tensor) -> None:
        """Stop at the first loss that is not finite; on a GPU, look only now and then."""
        step = self.trainer.fit_loop.total_batch_idx
        self._diverged_at = self._diverged_at.to(loss.device)
        now = torch.where(loss.detach().isfinite(), math.inf, float(step))
        self._diverged_at = torch.minimum(self._diverged_at, now)
        on_cpu, log_every = loss.device.type == "cpu", self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        every = 1 if on_cpu else max(1, log_every)
        if step % every == 0 or self.trainer.is_last_batch:
            self._report_divergence()

    def _report_divergence(self) -> None:
        if self._diverged_at.isfinite():
            rate = self.trainer.optimizers[0].param_groups[0]["lr"]
            raise DataError(
                f"the training loss stopped being finite in batch {int(self._diverged_at)} of this "
                f"run (learning rate {rate:.3g}); checkpoints saved before are kept"
            )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save what the network is, as plain data, beside its weights."""
        if self.network_config is not None:
            checkpoint[CHECKPOINT_KEY] = {
                "network": self.network_config,
                "num_classes": self.num_classes,
            }

    @classmethod
    def from_checkpoint(cls, path: str | Path) -> Self:
        """Rebuild a task that the command line trained; no data and no config are needed.

        Args:
            path: A checkpoint written by ``main.py fit``.

        Returns:
            The task on the CPU in evaluation mode.

        Raises:
            DataError: The file is not such a checkpoint. Nothing in it is ever unpickled.
        """
        checkpoint = load_checkpoint(path)
        try:
            config = checkpoint[CHECKPOINT_KEY]
            task = cls(_build_network(config["network"]), config["num_classes"])
            task.network_config = config["network"]
            task.load_state_dict(checkpoint["state_dict"])
        except _REBUILDING_ERRORS as error:
            raise DataError(
                f"{path}: not a checkpoint of a network trained by 'main.py fit' ({error})"
            ) from error
        return task.eval()


def compile_if_possible(network: nn.Module, device: torch.device) -> None:
    """Let ``torch.compile`` speed up a module in place, or warn why it cannot on this machine."""
    try:
        torch.compile(torch.sin)(torch.zeros(2, device=device))
    except Exception as error:  # whatever a missing compiler leads to
        reason = str(error).strip().splitlines() or [type(error).__name__]
        rank_zero_warn(f"the network is not compiled, torch.compile does not work: {reason[0]}")
        return
    torch._dynamo.config.suppress_errors = True  # what cannot be compiled runs as it is
    network.compile()


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint as plain data and tensors, never unpickling code.

    Raises:
        DataError: There is no such file, or it is damaged or holds anything but plain data.
    """
    if not Path(path).is_file():
        what = "is a folder" if Path(path).is_dir() else "there is no such checkpoint"
        raise DataError(f"{path}: {what}; expected a file that 'main.py fit' wrote")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise DataError(
            f"{path}: not a checkpoint of plain data; files that hold code are never opened"
        ) from error
    except Exception as error:  # torch documents no type for damaged files
        reason = str(error).strip().splitlines()
        raise DataError(f"{path}: not a readable checkpoint ({reason[0]})") from error
    needed = ("state_dict", "pytorch-lightning_version")
    if not isinstance(checkpoint, dict) or any(name not in checkpoint for name in needed):
        raise DataError(f"{path}: not a checkpoint of Lightning, it lacks {' or '.join(needed)}")
    return checkpoint


def _build_network(config: dict[str, Any]) -> nn.Module:
    module, _, name = config["class_path"].rpartition(".")
    network_class = getattr(importlib.import_module(module), name)
    if not (isinstance(network_class, type) and issubclass(network_class, nn.Module)):
        raise TypeError(f"{config['class_path']} is not a network")
    arguments = dict(config["init_args"])
    arguments["architecture"] = INRArchitecture(**arguments["architecture"])
    return network_class(**arguments)
