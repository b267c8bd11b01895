"""What every task shares: the LightningModule around a weight-space network."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import pytorch_lightning as pl
import torch
from pytorch_lightning.cli import LightningArgumentParser, OptimizerCallable
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from lightning_dws.checkpoints import CHECKPOINT_KEY
from lightning_dws.data.paired_rows import PairKind
from lightning_dws.option_checks import check_batch_norm, check_finders, check_precision
from lightning_dws.randomness import seed_torch, stream_seed
from lightning_dws.tasks.compiling import CompileMode, compile_network
from lightning_dws.tasks.divergence import DivergenceWatch
from lightning_dws.tasks.measured import MeasuredModule
from lightning_dws.tasks.restoring import (
    check_optimizers,
    check_resumable,
    check_weights,
    is_finders,
)
from lightning_dws.tasks.resumed_optimizer import (
    apply_options,
    make_with_rate,
    restart_schedule,
    set_full_rate,
)
from lightning_dws.tasks.schedule import learning_rate_share, tell_about_schedule
from lightning_dws.tasks.taking_over import take_network
from lightning_dws.tasks.task_notes import check_same_task, rebuild, write_note
from lightning_dws.weight_space import WeightBatch


class WeightSpaceTask(MeasuredModule):
    """Train and evaluate a network that takes a ``WeightBatch``.

    A task says in ``_step`` what is made of the network's output, fills ``metrics`` with what is
    measured, and names the rest as class attributes. All else is shared: the optimizer and its
    schedule, standardisation, what a network draws, divergence, checkpoints.

    Attributes:
        score: With what else is measured, see ``MeasuredModule``.
        callback_classes: The callbacks that it brings, by the name of their options.
        short_name: What ``--task`` calls it; a class that has none of its own goes by its path.
        targets: Columns of the store that it asks the datamodule to give as a batch's ``target``.
        pairs: Whether it asks for training batches of pairs, see ``PairedRows``.
        num_outputs: Columns of the network's output; None for one a class of the data.
        needs_classes: Whether training INRs have to be of classes, and of all of them; those of
            ``targets`` have not.
        can_mix: Whether a batch has labels or targets that MixUp could mix.

    Args:
        network: Takes a ``WeightBatch``. If it has a ``standardize`` module, that is filled from
            the training split before training.
        optimizer: Makes the optimizer from the parameters.
        schedule: Of the learning rate after the warm-up: ``constant``, or ``cosine`` down to zero.
        warmup_steps: Optimizer steps over which the learning rate rises linearly from zero.
        compile: Whether, or in which mode, the network is compiled, see ``compile_network``.

    Raises:
        ValueError: An argument out of its range.
    """

    callback_classes: ClassVar[Mapping[str, type[pl.Callback]]] = {}
    short_name: ClassVar[str] = ""
    needs_classes: ClassVar[bool] = True
    can_mix: ClassVar[bool] = True
    targets: tuple[str, ...] = ()
    pairs: PairKind | None = None
    num_outputs: int | None = None
    _meaning: ClassVar[tuple[str, ...]] = ()  # options that say what outputs mean
    _options: ClassVar[tuple[str, ...]] = ("schedule", "warmup_steps")  # kept in checkpoints

    def __init__(
        self,
        network: nn.Module,
        optimizer: OptimizerCallable = AdamW,
        schedule: Literal["constant", "cosine"] = "cosine",
        warmup_steps: int = 0,
        compile: bool | CompileMode = False,
    ) -> None:
        super().__init__()
        if warmup_steps < 0:
            raise ValueError(f"warmup_steps must not be negative, got {warmup_steps}")
        if schedule not in ("constant", "cosine"):
            raise ValueError(f"schedule must be 'constant' or 'cosine', got {schedule!r}")
        self.network = network
        self.optimizer = optimizer
        self.schedule = schedule
        self.warmup_steps = warmup_steps
        self.compile_mode = compile
        self._compiled: Callable[[WeightBatch], Tensor] | None = None
        self.network_config: dict[str, Any] | None = None
        self.run_settings: dict[str, Any] | None = None
        self._restored = self._network_taken = False
        self._resuming: tuple[dict[str, Any], str] | None = None
        self._divergence = DivergenceWatch()

    def forward(self, batch: WeightBatch) -> Tensor:
        output: Tensor = (self._compiled or self.network)(batch)
        return output

    @classmethod
    def task_name(cls) -> str:
        """Give what the command line and checkpoints call the task."""
        return cls.__dict__.get("short_name") or f"{cls.__module__}.{cls.__qualname__}"

    @classmethod
    def link_arguments(cls, parser: LightningArgumentParser) -> None:
        """Tell the network, by its ``num_classes``, how many outputs are wanted."""
        target = "model.network.init_args.num_classes"
        parser.link_arguments("data.num_classes", target, apply_on="instantiate")

    @property
    def _datamodule(self) -> Any:
        """The datamodule of the trainer, None where there is none."""
        return getattr(self._trainer, "datamodule", None)

    def check_run(self, data: Any) -> None:
        """Refuse, before any INR is fitted, data that the task cannot be trained on.

        Raises:
            DataError: It says why. Here nothing is refused.
        """

    def setup(self, stage: str) -> None:
        """Fill a new network's standardisation from the training split, and compile the network.

        That is if it is wanted and possible; it happens at the first batch. Callbacks that train
        before the training begins, as finders of learning rates do, find the weights standardised.

        Raises:
            DataError: The trainer's precision would convert the INRs themselves, its
                ``sync_batchnorm`` the network's batch norm, or its epochs end before its
                ``LearningRateFinder`` does.
        """
        super().setup(stage)
        check_precision(self.trainer.precision)
        check_batch_norm(self.trainer, self.network)
        if stage == "fit" and self._datamodule is not None:
            check_finders(self.trainer, self._datamodule)
            if not self._restored and not self.trainer.ckpt_path:
                self._fit_to_data(self._datamodule)
        mode, self.compile_mode = self.compile_mode, False  # once is enough for all stages
        if mode:
            self._compiled = compile_network(self.network, mode, self.trainer)

    def _fit_to_data(self, data: Any) -> None:
        """Fill what a new training knows of its data beforehand, from a datamodule."""
        standardize: Any = getattr(self.network, "standardize", None)
        if standardize is not None and not self._network_taken:
            standardize.fit(data.train_parameters())

    def configure_optimizers(self) -> Any:
        optimizer = self.optimizer(self.parameters())
        scheduler = LambdaLR(optimizer, self.learning_rate_share)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step", "name": "learning_rate"},
        }

    @property
    def lr(self) -> float:
        """The full learning rate, by Lightning's name for it: its finder reads and sets it."""
        rate: float = self.optimizer([nn.Parameter(torch.zeros(1))]).defaults["lr"]
        return rate

    @lr.setter
    def lr(self, value: float) -> None:
        self.optimizer = partial(make_with_rate, self.optimizer, value)
        if self._trainer is not None:
            set_full_rate(self._trainer, value)

    def learning_rate_share(self, step: int) -> float:
        """Give the share of the full learning rate at an optimizer step, counted from 0."""
        return learning_rate_share(self.trainer, step, self.schedule, self.warmup_steps)

    def on_fit_start(self) -> None:
        """Compare the optimizers with those of the checkpoint that a training goes on from."""
        if self._resuming is not None:  # the optimizers are made by now, and not yet restored
            check_optimizers(self.trainer, *self._resuming)
            self._resuming = None
        torch.set_float32_matmul_precision("high")  # TensorFloat-32 on GPUs that have it

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check what a checkpoint holds before any of it is used.

        Raises:
            DataError: It is another network's or task's, or cannot be gone on from.
        """
        self._restored = True
        trainer = self._trainer
        where = str(trainer.ckpt_path) if trainer and trainer.ckpt_path else "the checkpoint"
        note = checkpoint.get(CHECKPOINT_KEY, {})
        check_same_task(note, type(self), where)
        self._read_note(note, where)
        check_weights(self, checkpoint["state_dict"], where)
        if trainer is not None and trainer.state.fn == "fit" and not is_finders(where):
            check_resumable(trainer, checkpoint, where)
            self._resuming = checkpoint, where
            apply_options(checkpoint, self.optimizer(self.parameters()))

    def start_from(self, state: dict[str, Any], path: str | Path, task: str | None = None) -> None:
        """Take a trained network over, for a new training of it.

        All that the network is comes along: its weights, its standardisation and the statistics of
        its batch norm, so that it computes at first what it did, whatever it is trained on now.
        From another task it comes without its ``head``, which starts anew.

        Args:
            state: The ``state_dict`` of a checkpoint.
            path: Where it is from, for messages.
            task: The name of the checkpoint's task where it learned something else than this one.

        Raises:
            DataError: It is of another network.
        """
        if task is not None:
            take_network(self.network, state, f"{path}: a checkpoint of the task {task}")
            self._network_taken = True
            return
        check_weights(self, state, str(path))
        self.load_state_dict(state)
        self._restored = True

    def on_train_start(self) -> None:
        """Set the first learning rate of a run that continues, maybe with another length."""
        self._restored = True  # for any later training, which goes on from this one
        self._logged_splits.clear()  # a run that goes on in mid-epoch does not start one
        tell_about_schedule(self.trainer, self.schedule, self.warmup_steps)
        for config in self.trainer.lr_scheduler_configs:
            if isinstance(config.scheduler, LambdaLR):
                restart_schedule(config.scheduler)

    def on_train_batch_start(self, batch: WeightBatch, batch_idx: int) -> None:
        """Let what a network draws (dropout) depend on (seed, rank, batch) alone.

        Layers of torch draw from the global generator, whose state no checkpoint holds: seeded
        anew for every batch, a resumed run repeats exactly and ranks differ.
        """
        seed = getattr(self._datamodule, "seed", 0)
        counter = self.trainer.fit_loop.total_batch_idx
        seed_torch(stream_seed(seed, self.global_rank, counter, "network"), batch.device)

    def training_step(self, batch: WeightBatch, batch_idx: int) -> dict[str, Tensor]:
        step = self._measure(batch, "train")
        loss = step["loss"]
        self._log_step(loss, batch)
        self._divergence.watch(loss, self.trainer)
        return step

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save what the network is and what it was trained on, as plain data."""
        write_note(self, checkpoint)

    def _write_note(self) -> dict[str, Any]:
        """Give what a checkpoint says of the task beside its options, as plain data."""
        return {}

    def _read_note(self, note: Mapping[str, Any], where: str) -> None:
        """Check, and take, what a checkpoint says of the task: ``where`` names it in errors."""

    @classmethod
    def _read_arguments(cls, note: Mapping[str, Any], path: str | Path) -> dict[str, Any]:
        """Give the task's arguments that a checkpoint's note holds beside its options."""
        return {}

    @classmethod
    def from_checkpoint(cls, path: str | Path, network: nn.Module | None = None) -> Self:
        """Rebuild a trained task; no data and no config are needed.

        Args:
            path: A checkpoint that ``main.py fit`` or a trainer in Python wrote.
            network: What its weights are for, made as it was for the training. Default: what the
                checkpoint says, which it can of networks of the command line or ``recorded``, or
                whose arguments are defaults or attributes of the same names.

        Returns:
            The task on the CPU in evaluation mode.

        Raises:
            DataError: The file is not such a checkpoint. Nothing in it is ever unpickled.
        """
        task: Self = rebuild(cls, path, network)
        return task

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]
        cls,
        checkpoint_path: str | Path,
        map_location: Any = None,
        *,
        network: nn.Module | None = None,
    ) -> Self:
        """Rebuild a trained task, on a device, as ``from_checkpoint`` does on the CPU."""
        return cls.from_checkpoint(checkpoint_path, network).to(map_location or "cpu")
