"""What a sweep's file says."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lightning_dws.config_files import Settings, list_files, merge_settings, own_settings
from lightning_dws.errors import DataError
from lightning_dws.files import json_sha256
from lightning_dws.suggestions import closest
from lightning_dws.sweep.space import FILES, Params, SearchSpace
from lightning_dws.table.grid import read_pieces, with_paths
from lightning_dws.table.pieces import Piece, merge_pieces, settings_hash, words_of
from lightning_dws.tasks import WeightSpaceTask, find_task

_REQUIRED = ("name", "base", "space", "trials")
_OPTIONAL = ("seed", "sampler", "startup_trials", "pruning")
SAMPLERS = ("tpe", "random")
_PRUNING = {"startup_trials": 5, "warmup_steps": 0}


@dataclass(frozen=True)
class SweepConfig:
    """A search for the best options of a run.

    Attributes:
        name: Of the sweep: its results are under ``results/NAME``.
        base: Pieces of config that every trial has.
        space: What the trials try on top.
        trials: How many, those before included.
        seed: Of the sampler; the runs have that of ``base``.
        sampler: ``tpe``, Optuna's tree-structured Parzen estimator, or ``random``.
        startup_trials: Drawn at random before ``tpe`` learns from what was found.
        pruning: End a trial early whose score at a step is below the median of the others there:
            not before so many trials (``startup_trials``) and steps (``warmup_steps``). None ends
            none.
    """

    name: str
    base: list[Piece]
    space: SearchSpace
    trials: int
    seed: int = 0
    sampler: str = "tpe"
    startup_trials: int = 10
    pruning: dict[str, int] | None = None

    @cached_property
    def task(self) -> type[WeightSpaceTask]:
        """What is learned; it says which score decides."""
        return find_task(words_of(self.base))

    @property
    def monitor(self) -> str:
        """The score that trials are judged by."""
        return f"val/{self.task.score}"

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all that decides the trials, but for how many there are."""
        return json_sha256(
            {
                "base": settings_hash(merge_pieces(self.base)),
                "space": {name: [a.kind, a.values] for name, a in self.space.axes.items()},
                "drawn": [self.seed, self.sampler, self.startup_trials, self.pruning],
                "score": [self.monitor, self.task.mode],
            }
        )

    def pieces(self, params: Params) -> list[Piece]:
        """Give the pieces of a trial's config."""
        return [*self.base, *self.space.pieces(params)]

    def describe(self, params: Params) -> str:
        """Write a point for people: the last names of its options, and its values.

        Example:
            >>> axes = SearchSpace.parse({"a.lr": {"log": [1e-4, 1e-2]}}, "space")
            >>> SweepConfig("x", [], axes, 1).describe({"a.lr": 0.00123456})
            'lr 0.001235'
        """
        return ", ".join(f"{self.short(name)} {shown(value)}" for name, value in params.items())

    def short(self, option: str) -> str:
        """Give as much of an option's end as no other option of the space has."""
        parts = option.split(".")
        for length in range(1, len(parts)):
            end = ".".join(parts[-length:])
            if sum(f".{name}".endswith(f".{end}") for name in self.space.axes) == 1:
                return end
        return option


def shown(value: Any) -> str:
    """Write a value for people: four digits of a float, a file by its name."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, str):
        return Path(value).stem if value.endswith((".yaml", ".yml")) else value
    return json.dumps(value)


def read_sweep(path: str, trials: int | None = None) -> SweepConfig:
    """Read a sweep's file.

    Args:
        path: The file.
        trials: How many, whatever the file says.

    Raises:
        DataError: It is unreadable, or a setting is missing, unknown or of the wrong kind.
    """
    content: Settings = {}
    for file in list_files(path):
        content = merge_settings(content, with_paths(own_settings(file), Path(file).parent))
    if trials is not None:
        content["trials"] = int(trials)
    known = (*_REQUIRED, *_OPTIONAL)
    for name in content:
        if name not in known:
            names = f"known are {', '.join(known)}{closest(name, known)}"
            raise DataError(f"{path}: unknown setting {name}; {names}")
    missing = [name for name in _REQUIRED if name not in content]
    if missing:
        raise DataError(f"{path}: a sweep needs {', '.join(missing)}")
    for name, least in (("trials", 1), ("seed", 0), ("startup_trials", 1)):
        value = content.get(name, least)
        if type(value) is not int or value < least:
            raise DataError(f"{path}: {name} must be a whole number from {least}, got {value!r}")
    sampler = content.get("sampler", "tpe")
    if sampler not in SAMPLERS:
        expected = f"{' or '.join(SAMPLERS)}, got {sampler!r}{closest(str(sampler), SAMPLERS)}"
        raise DataError(f"{path}: sampler must be {expected}")
    name = content["name"]
    if not isinstance(name, str) or not name or name != Path(name).name:
        raise DataError(f"{path}: name must be that of a folder, got {name!r}")
    return SweepConfig(
        name=name,
        base=read_pieces(content["base"], f"{path}: base"),
        space=_check_files(SearchSpace.parse(content["space"], f"{path}: space"), path),
        trials=content["trials"],
        seed=content.get("seed", 0),
        sampler=sampler,
        startup_trials=content.get("startup_trials", 10),
        pruning=_read_pruning(content.get("pruning"), path),
    )


def _read_pruning(plain: Any, path: str) -> dict[str, int] | None:
    if plain is None:
        return None
    if not isinstance(plain, dict):
        raise DataError(f"{path}: pruning must be settings by name, got {plain!r}")
    for name, value in plain.items():
        if name not in _PRUNING:
            known = f"known are {', '.join(_PRUNING)}{closest(str(name), _PRUNING)}"
            raise DataError(f"{path}: pruning: unknown setting {name}; {known}")
        if type(value) is not int or value < 0:
            raise DataError(f"{path}: pruning: {name} must be a whole number, got {value!r}")
    return {**_PRUNING, **plain}


def _check_files(space: SearchSpace, path: str) -> SearchSpace:
    axis = space.axes.get(FILES)
    if axis and not (axis.kind == "choice" and all(isinstance(file, str) for file in axis.values)):
        raise DataError(f"{path}: space: {FILES} must be a choice of config files")
    return space
