"""Lightning's command line over INRs: ``fit``, ``validate``, ``test`` and ``predict``."""

import sys
from pathlib import Path
from typing import Any, TypeVar

import yaml
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.callbacks import LearningRateMonitor, ModelCheckpoint, ModelSummary
from pytorch_lightning.cli import (
    ArgsType,
    LightningArgumentParser,
    LightningCLI,
    SaveConfigCallback,
)
from pytorch_lightning.utilities import rank_zero_only, rank_zero_warn

from lightning_dws import option_checks
from lightning_dws.callbacks import (
    CALLBACK_METRICS,
    BestCheckpoints,
    EmbeddingProjector,
    GradientNorm,
    ParameterSummary,
    RunRecord,
    Throughput,
    last_checkpoint,
    place_checkpoints,
    start_loggers,
)
from lightning_dws.checkpoints import (
    CHECKPOINT_KEY,
    CHECKPOINTS_FOLDER,
    find_readable,
    load_best,
)
from lightning_dws.data import INRDataModule
from lightning_dws.distributed import ending_together
from lightning_dws.errors import DataError
from lightning_dws.parse_errors import ArgumentParser
from lightning_dws.plugins import with_plugins
from lightning_dws.program import program
from lightning_dws.resuming import check_same_network, check_what_is_left, tell_what_differs
from lightning_dws.run_messages import quieten, tell_end
from lightning_dws.runs import (
    ROOT_DIR,
    TENSORBOARD,
    Run,
    is_first_process,
    place_loggers,
    place_run,
)
from lightning_dws.saved_settings import measured_part, name_of_other_data
from lightning_dws.tasks import TASKS, WeightSpaceTask, find_task, named_task, task_notes
from lightning_dws.tasks.restoring import add_instantiators, naming_checkpoint
from lightning_dws.training_length import bound_training
from lightning_dws.weight_space import to_plain


class Parser(ArgumentParser, LightningArgumentParser):
    """Lightning's parser, with what ours says."""


class WeightSpaceCLI(LightningCLI):
    """Lightning's command line over an ``INRDataModule`` and a task."""

    _model_class: type[WeightSpaceTask]

    _run: Run | None = None
    _checkpoint: dict[str, Any] | None = None
    _checkpoint_path: str | None = None  # of what is continued or measured

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._words = [str(word) for word in kwargs.get("args") or ()]
        try:
            super().__init__(*args, **kwargs)
        finally:
            if self._run is not None:
                self._run.give_back()

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument(
            "--test_after_fit",
            type=bool,
            default=True,
            help="After 'fit', measure the best checkpoint on the test split, once.",
        )
        parser.add_argument(
            "--name",
            type=str | None,
            default=None,
            help="Names the run's folder and its curves. Default: run; with --ckpt_path, that run.",
        )
        parser.add_argument(
            "--task",
            type=str,
            default=self._model_class.task_name(),
            help=f"What is learned: {', '.join(TASKS)}, or the path of an own class. It decides "
            "which options there are: --task NAME --help lists them.",
        )
        parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
        for name, callback in self._model_class.callback_classes.items():
            parser.add_lightning_class_args(callback, name)
        parser.set_defaults(
            {
                "trainer.logger": {  # of another class that is given, save_dir is kept
                    "class_path": TENSORBOARD,
                    "init_args": {"save_dir": ROOT_DIR, "default_hp_metric": False},
                },
                "checkpoint.monitor": f"val/{self._model_class.score}",
                "checkpoint.mode": self._model_class.mode,
                "checkpoint.filename": "best-epoch={epoch}",
                "checkpoint.auto_insert_metric_name": False,
            }
        )
        parser.link_arguments(
            "data.architecture",
            "model.network.init_args.architecture",
            compute_fn=to_plain,  # jsonargparse builds dataclasses from mappings
            apply_on="instantiate",
        )
        add_instantiators(parser)
        parser.link_arguments("seed_everything", "data.seed", compute_fn=option_checks.seed_of)
        self._model_class.link_arguments(parser)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse without Lightning's warning about given words: ``main`` always gives them."""
        self.config = parser.parse_args(args)
        config = self.config[self.config.subcommand]
        own = self._model_class.task_name()
        if config.task != own and named_task(config.task) is not self._model_class:
            parser.error(f"task: found {config.task}, this command line is that of {own}")
        try:
            option_checks.check_options(config, args or ())
        except DataError:
            raise
        except ValueError as error:
            parser.error(str(error))
        if config.seed_everything is True:
            config.seed_everything = option_checks.seed_of(True)
        self._length = bound_training(config) if self.config.subcommand == "fit" else ""

    def _prepare_subcommand_parser(
        self, klass: type, subcommand: str, **kwargs: Any
    ) -> LightningArgumentParser:
        kwargs["usage"] = f"{program()} {subcommand} --config FILE [--OPTION VALUE ...]"
        if subcommand == "predict":
            kwargs["usage"] += f"\n       {program()} predict --ckpt_path PATH --data FOLDER"
        if self._words and subcommand not in self._words:
            return self.init_parser(**kwargs)  # the others' hundreds of options are not looked at
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        parser.set_defaults({"weights_only": True})  # a checkpoint is data, never code
        if subcommand == "fit":
            parser.add_argument(
                "--init_from",
                type=str | None,
                default=None,
                help="Checkpoint, or folder of a run or of a pulled network, that a new run takes "
                "the network's weights, standardisation and batch norm statistics from, no more.",
            )
        return parser

    def _parse_ckpt_path(self) -> None:
        """Check a given checkpoint; the config in use is the user's, never the checkpoint's."""
        command = self.config.subcommand
        path = self.config[command].get("ckpt_path")
        by_name = path in ("best", "last", "hpc", "registry")
        if command != "fit" and (path is None or by_name):
            self.parser.error(f"{command} needs --ckpt_path PATH, a checkpoint that 'fit' wrote")
        if path is not None and not by_name and command == "fit":
            found, self._checkpoint = find_readable(path)
            if found != Path(path):
                rank_zero_warn(f"{path}: damaged; going on from {found}")
            self.config[command].ckpt_path = str(found)
        elif path is not None and not by_name:
            self._checkpoint = load_best(path)
        self._checkpoint_path = str(self.config[command].ckpt_path) if self._checkpoint else None
        start = self.config[command].get("init_from")
        if start is not None:
            if path is not None:
                message = "--init_from starts a new run, --ckpt_path continues one: give one"
                self.parser.error(message)
            self._checkpoint = load_best(start)
        elif self._checkpoint is not None:
            task_notes.check_same_task(self._note, self._model_class, str(self._checkpoint_path))

    def instantiate_classes(self) -> None:
        """Make the objects; what their constructors refuse is an option that is wrong."""
        self._run = self._find_run()
        self._written_config = self.config.clone()
        if self._run is not None:
            place_loggers(self.config[self.subcommand].trainer, self._run)
        try:
            super().instantiate_classes()
            option_checks.check_optimizer(self.model)
            metrics = [*self.model.training_metrics, *CALLBACK_METRICS]
            option_checks.check_monitors(self.trainer, metrics)
            if self.subcommand == "fit":
                option_checks.check_run(self.trainer, self.model, self.datamodule)
        except DataError:
            raise
        except (ValueError, OverflowError, MemoryError, MisconfigurationException) as error:
            self.parser.error(str(error))
        except RuntimeError as error:  # torch's, for tensors that no memory holds
            self.parser.error(str(error).splitlines()[0])

    def _find_run(self) -> Run | None:
        other = name_of_other_data(self._words, self._note)
        return place_run(self.config[self.subcommand], self._checkpoint_path, other)

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[Callback]) -> Trainer:
        """Add our callbacks: the user's first, checkpoints last and the monitored one before."""
        ours = [Throughput(), GradientNorm(), EmbeddingProjector(), BestCheckpoints(), *callbacks]
        summaries = config["enable_model_summary"] is not False
        if summaries and not any(isinstance(c, ModelSummary) for c in config["callbacks"] or ()):
            ours.append(ParameterSummary())
            config = {**config, "enable_model_summary": False}  # Lightning's own
        if config["logger"]:
            ours.append(LearningRateMonitor(logging_interval="step"))
        if config["enable_checkpointing"] is False:
            ours = [callback for callback in ours if not isinstance(callback, ModelCheckpoint)]
        else:
            ours.append(last_checkpoint())
        self.config = self._written_config
        trainer = super()._instantiate_trainer(with_plugins(config), ours)
        if self._run is not None:
            place_checkpoints(trainer, self._run.folder / CHECKPOINTS_FOLDER)
        return trainer

    def _run_subcommand(self, subcommand: str) -> None:
        rank_zero_only(sys.stderr.write)(self._length)
        start_loggers(self.trainer.loggers)
        with ending_together(self.trainer), naming_checkpoint(self.trainer):
            super()._run_subcommand(subcommand)

    def after_instantiate_classes(self) -> None:
        """Tell the task what its network is, as plain data for its checkpoints."""
        network = self.config[self.subcommand].model.network
        num_outputs = self.model.num_outputs
        self.model.network_config = {
            "class_path": network.class_path,
            "init_args": {
                **network.get("init_args", {}).as_dict(),
                "architecture": self.datamodule.architecture.to_dict(),
                "num_classes": num_outputs or self.datamodule.num_classes,
            },
        }
        fits = self.subcommand == "fit"
        self.model.run_settings = self._settings() if fits else self._note.get("settings")
        if self._checkpoint is not None:
            network = self.model.network_config
            check_same_network(
                self._given_checkpoint,
                self._checkpoint,
                network,
                but=("num_classes",) if self._other_task else (),
            )
            if not fits or self._checkpoint_path is None:  # a run that goes on tells all
                path = self._given_checkpoint
                task_notes.compare_forms(path, self._note, self.datamodule, must_agree=not fits)
            if fits:
                self._start_from_checkpoint(self._checkpoint)

    def _settings(self) -> dict[str, Any]:
        """Give what a checkpoint needs to be measured without any config, as plain data."""
        text = self._parser(self.subcommand).dump(self.config[self.subcommand], skip_none=False)
        return measured_part(yaml.safe_load(text))

    @property
    def _note(self) -> dict[str, Any]:
        note: dict[str, Any] = (self._checkpoint or {}).get(CHECKPOINT_KEY, {})
        return note

    @property
    def _other_task(self) -> str | None:
        """The task of the checkpoint that a training starts from, where that is another one."""
        same = task_notes.learns_the_same(self.model, self._note)
        return None if same else task_notes.name_of_task(self._note)

    @property
    def _given_checkpoint(self) -> str:
        config = self.config[self.subcommand]
        return str(config.get("init_from") or config.ckpt_path)

    def _start_from_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the weights of ``--init_from``, or say how the continued run is changed."""
        path, trainer = self._given_checkpoint, self.trainer
        if self._checkpoint_path is None:
            self.model.start_from(checkpoint["state_dict"], path, self._other_task)
            return
        check_what_is_left(path, checkpoint, trainer.max_epochs, trainer.max_steps)
        if self._run is not None and is_first_process():
            config = self.config[self.subcommand]
            text = self._parser(self.subcommand).dump(config, skip_none=False, format="yaml")
            tell_what_differs(path, checkpoint, self._run, yaml.safe_load(text))

    def after_fit(self) -> None:
        """Test the best checkpoint, and say where everything is."""
        trainer = self.trainer
        if trainer.fast_dev_run or trainer.interrupted:  # type: ignore[attr-defined]
            return
        before = self._checkpoint if self._checkpoint_path else None
        if before is not None and trainer.global_step == before.get("global_step"):
            rank_zero_only(sys.stderr.write)(
                f"{self._checkpoint_path}: nothing was trained, this run had reached its end\n"
            )
        best = getattr(trainer.checkpoint_callback, "best_model_path", "") or None
        if self.config[self.subcommand].test_after_fit:
            trainer.test(self.model, datamodule=self.datamodule, ckpt_path=best, weights_only=True)
        self._report(best)

    def _report(self, best: str | None) -> None:
        tell_end(self.trainer, self.model, best)


CLI = TypeVar("CLI", bound=WeightSpaceCLI)


def run_lightning(
    args: ArgsType,
    cli_class: type[CLI] = WeightSpaceCLI,  # type: ignore[assignment]
    save_config_callback: type[SaveConfigCallback] | None = RunRecord,
    task_class: type[WeightSpaceTask] | None = None,
) -> CLI:
    """Run ``fit``, ``validate``, ``test`` or ``predict``.

    Args:
        args: The words behind ``main.py``.
        cli_class: What runs them.
        save_config_callback: What records a run's config.
        task_class: What is learned. Default: the task that ``args`` or their config files name.

    Raises:
        DataError: See ``find_task``, and whatever is wrong with the data or checkpoints.
    """
    quieten()
    return cli_class(
        task_class or find_task(args if isinstance(args, list) else ()),
        INRDataModule,
        args=args,
        seed_everything_default=0,
        auto_configure_optimizers=False,
        load_from_checkpoint_support=False,
        save_config_callback=save_config_callback,
        save_config_kwargs={"overwrite": True},
        parser_class=Parser,
        parser_kwargs={"parser_mode": "omegaconf+"},
    )
