"""Where a run keeps its files: a folder of its own, or the one of the run that it continues."""

import os
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from jsonargparse import Namespace, dict_to_namespace
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger

from lightning_dws.checkpoints import CHECKPOINTS_FOLDER, LAST_NAME, find_best
from lightning_dws.errors import DataError

CONFIG_NAME = "config.yaml"
DEFAULT_ROOT, DEFAULT_NAME = "runs", "run"
TENSORBOARD = "pytorch_lightning.loggers.TensorBoardLogger"
ROOT_DIR = ""  # as save_dir of a logger: the root folder of all runs
_LIGHTNINGS_NAME = "lightning_logs"  # what loggers call a run that is given no name
_RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")

# Options that say where files are and what is shown: nothing that decides how training goes.
WITHOUT_EFFECT = (
    "checkpoint.dirpath",
    "data.root",
    "name",
    "pictures",
    "predictions",
    "test_after_fit",
    *(
        f"trainer.{name}"
        for name in (
            "default_root_dir",
            "enable_model_summary",
            "enable_progress_bar",
            "log_every_n_steps",
            "logger",
            "num_sanity_val_steps",
            "profiler",
        )
    ),
)


@dataclass(frozen=True)
class Run:
    """A run's folder, ``root/name/version``.

    Attributes:
        root: Folder of all runs.
        name: Of the run; it may have folders in it, ``digits/mine``.
        version: Of the run's folder, ``version_0``.
        is_claimed: Whether this process has made the folder for itself.
    """

    root: Path
    name: str
    version: str
    is_claimed: bool = False

    @property
    def folder(self) -> Path:
        return self.root / self.name / self.version

    def give_back(self) -> None:
        """Remove the folder if this process made it and nothing was put into it.

        With it goes the folder of the name, where that holds no other run.
        """
        if self.is_claimed:
            with suppress(OSError):  # it holds something, or is gone
                self.folder.rmdir()
                self.folder.parent.rmdir()


def find_run(
    root: str | None, name: str | None, version: int | str | None, checkpoint: str | None
) -> Run:
    """Find the run that a command belongs to: that of its checkpoint, or a new one.

    A checkpoint's run is continued where it is, unless a name, a root or a version is given that
    says another place. Of several processes the first makes a new run's folder; no other reads or
    writes a path of its own, since Lightning sends them the first one's.

    Args:
        root: Folder of all runs, where that is given.
        name: Of the run, where that is given.
        version: Of the run's folder, where that is given; 3 is ``version_3``.
        checkpoint: What the command continues from or measures.

    Raises:
        DataError: The name would lead out of the root, or the version is another run's.
    """
    if name is not None:
        _check_name(name)
    wanted = f"version_{version}" if isinstance(version, int) else version
    if checkpoint is not None:
        found = _run_of(checkpoint, root, name)
        if found is not None and wanted in (None, found.version):
            return found
    home, name = Path(root or DEFAULT_ROOT), name or DEFAULT_NAME
    if wanted is not None:
        run = Run(home, name, wanted)
        if run.folder.is_dir() and any(run.folder.iterdir()) and is_first_process():
            raise DataError(f"{run.folder}: holds a run already; leave the logger's version out")
        return run
    if not is_first_process():
        return Run(home, name, _next_version(home / name))
    return Run(home, name, _claim_version(home / name), is_claimed=True)


def run_folder_of(checkpoint: str | Path) -> Path | None:
    """Give the folder of the run that wrote a checkpoint; None if it lies in none."""
    folder = Path(os.path.abspath(checkpoint)).parent
    if folder.name != CHECKPOINTS_FOLDER or not (folder.parent / CONFIG_NAME).is_file():
        return None
    if os.path.isabs(checkpoint):
        return folder.parent
    return Path(os.path.relpath(folder.parent))


def find_newest_run(root: Path) -> Path:
    """Find the folder of the run under a root that wrote a checkpoint last.

    Raises:
        DataError: There is none.
    """
    found = [path for path in root.rglob(f"{CHECKPOINTS_FOLDER}/*.ckpt") if path.is_file()]
    if not found:
        raise DataError(f"{root}: no run has left a checkpoint here")
    return max(found, key=lambda path: path.stat().st_mtime_ns).parent.parent


def find_checkpoint(given: str, root: Path) -> Path:
    """Find the checkpoint that a user names: a file, a run's folder, or ``best`` or ``last``.

    Args:
        given: The folder means its best checkpoint; the two words that of the newest run.
        root: Folder of the runs.

    Raises:
        DataError: Nothing is named, no run has left one, or a folder holds none or several.
    """
    if not given:  # a shell's variable that is not set
        raise DataError("--ckpt_path: names nothing, expected a file that 'fit' wrote")
    path = Path(given)
    if given in ("best", "last") and not path.exists():
        path = find_newest_run(root)
        if given == "last":
            return path / CHECKPOINTS_FOLDER / LAST_NAME
    return find_best(path) if path.is_dir() else path


def _run_of(checkpoint: str, root: str | None, name: str | None) -> Run | None:
    """Find the run of a checkpoint, if a name and a root that are given say that place."""
    folder = run_folder_of(checkpoint)
    if folder is None:
        return None
    home = folder.parent.resolve()
    if name is None and root is not None:
        if not home.is_relative_to(Path(root).resolve()):
            return None
        name = str(home.relative_to(Path(root).resolve()))
        if name == ".":
            return None
    parts = Path(name or home.name).parts
    if home.parts[-len(parts) :] != parts:
        return None
    top = home.parents[len(parts) - 1]
    if root is not None:
        return Run(Path(root), str(Path(*parts)), folder.name) if top == _real(root) else None
    spelled = top if folder.is_absolute() else Path(os.path.relpath(top))
    return Run(spelled, str(Path(*parts)), folder.name)


def _real(path: str) -> Path:
    return Path(path).resolve()


def _check_name(name: str) -> None:
    path = Path(name)
    if not path.parts or path.is_absolute() or ".." in path.parts or "\0" in name:
        raise DataError(f"name must be that of a folder under the runs' root, got {name!r}")


def is_first_process() -> bool:
    """Whether this process is the first of its run, or the only one; before any trainer is made."""
    return all(os.environ.get(name, "0") == "0" for name in _RANKS)


def _claim_version(home: Path) -> str:
    """Make the next free ``version_N``; of several runs that try, each gets its own."""
    while True:
        home.mkdir(parents=True, exist_ok=True)
        version = _next_version(home)
        with suppress(FileExistsError, FileNotFoundError):  # another was faster
            (home / version).mkdir()
            return version


def _next_version(home: Path) -> str:
    numbers = [path.name.removeprefix("version_") for path in home.glob("version_*")]
    return f"version_{max((int(n) for n in numbers if n.isdecimal()), default=-1) + 1}"


def place_run(config: Namespace, checkpoint: str | None, measured: str | None = None) -> Run | None:
    """Find the run of a command by its options; name and root are set where they are not given.

    A logger's own options come before the general ones.

    Args:
        config: Options of ``fit`` and its like.
        checkpoint: What the command continues from or measures.
        measured: Names the data that a checkpoint is measured on, where they are not its run's own:
            what comes of it lies in a folder of that name, in the run's.

    Returns:
        The run; None for ``fast_dev_run``, which leaves no files.

    Raises:
        DataError: See ``find_run``.
    """
    first: Any = next(iter(_logger_options(config.trainer.logger)), {})
    root = first.get("save_dir") or config.trainer.default_root_dir
    name = first.get("name")
    name = config.name if name in (None, _LIGHTNINGS_NAME) else name
    run = None
    if not config.trainer.fast_dev_run:
        run = find_run(root, name, first.get("version"), checkpoint)
        if measured is not None and not run.is_claimed:
            run = Run(run.root, str(Path(run.name, run.version)), measured)
    config.name = config.name or (run.name if run else DEFAULT_NAME)
    if not config.trainer.default_root_dir:
        config.trainer.default_root_dir = str(run.root) if run else DEFAULT_ROOT
    return run


def place_loggers(trainer: Namespace, run: Run) -> None:
    """Let loggers log into the run's folder, where they are given no other.

    Args:
        trainer: The trainer's options; they are changed.
        run: Without any logger, its folder becomes the root folder.
    """
    if trainer.logger in (None, True):
        options = {"save_dir": ROOT_DIR, "default_hp_metric": False, "version": None}
        trainer.logger = dict_to_namespace({"class_path": TENSORBOARD, "init_args": options})
    loggers = _loggers(trainer.logger)
    if not loggers or not _has_folders(loggers[0]):
        trainer.default_root_dir = str(run.folder)
    for logger in loggers:
        options = logger.get("init_args")
        if options is None or "save_dir" not in options:
            continue
        if options.save_dir == ROOT_DIR or Path(options.save_dir) == run.root:
            _place_logger(options, run, _has_folders(logger))


def _place_logger(options: Namespace, run: Run, has_folders: bool) -> None:
    options.save_dir = str(run.root)
    if has_folders:
        if options.get("name") in (None, _LIGHTNINGS_NAME):
            options.name = run.name
        if "version" in options and options.version is None:
            options.version = run.version
        return
    if "tracking_uri" in options and options.tracking_uri is None:  # MLflow's, without a server
        root = run.root.absolute()
        options.tracking_uri = f"sqlite:///{root / 'mlflow.db'}"  # it refuses folders by now
        options.artifact_location = options.artifact_location or str(root / "mlruns")
    for name in ("name", "run_name"):
        if name in options and options[name] in (None, _LIGHTNINGS_NAME):
            options[name] = f"{run.name}/{run.version}"


def _loggers(given: Any) -> list[Namespace]:
    loggers = given if isinstance(given, list) else [given]
    return [one for one in loggers if isinstance(one, Namespace)]


def _has_folders(logger: Namespace) -> bool:
    """Whether a logger keeps its files in folders ``save_dir/name/version``, as runs are kept."""
    module, _, name = logger.class_path.rpartition(".")
    return issubclass(getattr(import_module(module), name), (TensorBoardLogger, CSVLogger))


def _logger_options(given: Any) -> list[Namespace]:
    """Give the options of the loggers that keep files."""
    options = [one.get("init_args") for one in _loggers(given)]
    return [one for one in options if one is not None and "save_dir" in one]
