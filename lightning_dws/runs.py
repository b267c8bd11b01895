"""Where a run keeps its files, and what differs between a run and its continuation."""

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lightning_dws.callbacks import flatten
from lightning_dws.errors import DataError

CONFIG_NAME = "config.yaml"
_CHECKPOINTS = "checkpoints"
_DEFAULT_ROOT, _DEFAULT_NAME = "runs", "run"
_RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")
# Where files are and what is shown: nothing that decides how training goes on.
_NOT_TOLD = (
    "checkpoint.dirpath",
    "ckpt_path",
    "config",
    "data.root",
    "init_from",
    "name",
    "pictures",
    "predictions",
    "test_after_fit",
    "trainer.default_root_dir",
    "trainer.enable_model_summary",
    "trainer.enable_progress_bar",
    "trainer.log_every_n_steps",
    "trainer.logger",
    "trainer.num_sanity_val_steps",
    "trainer.profiler",
    "weights_only",
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
        """Remove the folder if this process made it and nothing was put into it."""
        if self.is_claimed:
            with suppress(OSError):  # it holds something, or is gone
                self.folder.rmdir()


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
    home, name = Path(root or _DEFAULT_ROOT), name or _DEFAULT_NAME
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
    if folder.name != _CHECKPOINTS or not (folder.parent / CONFIG_NAME).is_file():
        return None
    if os.path.isabs(checkpoint):
        return folder.parent
    return Path(os.path.relpath(folder.parent))


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


def read_config(folder: Path) -> dict[str, Any] | None:
    """Read the settings that a run was trained with; None where they cannot be read."""
    try:
        config = yaml.safe_load((folder / CONFIG_NAME).read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return None
    return config if isinstance(config, dict) else None


def changed_settings(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Name the settings that differ and may change how training goes on.

    Example:
        >>> changed_settings({"data": {"views": 1}}, {"data": {"views": 2, "seed": 0}, "name": "x"})
        ['data.views 2 (was 1)', 'data.seed 0 (was not set)']
    """
    old, new = (flatten(_without_lists(settings)) for settings in (before, now))
    return [
        f"{name} {new.get(name, 'not set')} (was {old.get(name, 'not set')})"
        for name in {**new, **old}
        if new.get(name) != old.get(name) and not _is_covered(name, _NOT_TOLD)
    ]


def _is_covered(name: str, prefixes: Iterable[str]) -> bool:
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)


def _without_lists(settings: Any) -> Any:
    """Number what lists of settings hold, so that each has a name."""
    if isinstance(settings, Mapping):
        return {name: _without_lists(value) for name, value in settings.items()}
    if isinstance(settings, list) and any(isinstance(value, Mapping) for value in settings):
        return {str(number): _without_lists(value) for number, value in enumerate(settings)}
    return settings


def check_what_is_left(
    path: str | Path, checkpoint: Mapping[str, Any], max_epochs: int | None, max_steps: int
) -> None:
    """Refuse to continue a run that has been trained for longer than is asked for.

    Raises:
        DataError: So, naming the option.
    """
    trained = _epochs_of(checkpoint)
    for unit, done, limit in (
        ("epochs", trained, max_epochs if max_epochs is not None else -1),
        ("steps", checkpoint.get("global_step"), max_steps),
    ):
        if isinstance(done, int) and limit >= 0 and done > limit:
            raise DataError(
                f"{path}: trained for {done} {unit} already, max_{unit} {limit} leaves nothing "
                "to train"
            )


def _epochs_of(checkpoint: Mapping[str, Any]) -> int | None:
    try:
        done = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]
    except (KeyError, TypeError):
        return None
    return done if isinstance(done, int) else None
