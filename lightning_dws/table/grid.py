"""The grid: which runs a table's config asks for."""

import os
import re
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from lightning_dws.config_files import Settings, list_files, own_settings, read_settings
from lightning_dws.counting import counted
from lightning_dws.errors import DataError
from lightning_dws.program import find_shipped
from lightning_dws.table.overrides import check_left_out, parse_overrides
from lightning_dws.table.pieces import Piece, command_of, merge_pieces, settings_hash, words_of
from lightning_dws.table.published import Claim, PosterFigures, read_claims

_ROWS = ("augmentations", "models", "datasets")
_REQUIRED = ("name", "seeds", "views", *_ROWS)
_OPTIONAL = ("common", "score", "order", "only", "poster", "poster_figures", "claims")


@dataclass(frozen=True)
class Coordinates:
    """Where a cell is in its table.

    Attributes:
        augmentation: The row's name.
        model: The model's name.
        dataset: The dataset's name.
        views: Neural views of each training object.
        seed: Of everything random in the run.
    """

    augmentation: str
    model: str
    dataset: str
    views: int
    seed: int

    def __str__(self) -> str:
        views, seed = counted(self.views, "view"), f"seed {self.seed}"
        place = (self.augmentation, self.model, self.dataset, views, seed)
        return " | ".join(place)


@dataclass(frozen=True)
class Cell:
    """One run of a table.

    Attributes:
        place: Its coordinates.
        words: What stands behind ``python main.py fit`` to run it alone.
        settings: Its config as plain data; what files leave to the defaults is not in it.
        pieces: What the settings were merged from.
    """

    place: Coordinates
    words: tuple[str, ...]
    settings: Settings = field(compare=False, repr=False)
    pieces: tuple[Piece, ...] = field(compare=False, repr=False)

    @cached_property
    def hash(self) -> str:
        """Identify the cell: another config is another cell, whatever its row is called."""
        return settings_hash(self.settings)

    def check_files(self) -> None:
        """Make sure that the files that the cell is made of say what they said.

        Raises:
            DataError: They do not: this would be a run of another cell.
        """
        if settings_hash(merge_pieces(self.pieces)) != self.hash:
            raise DataError("its config files have changed since the table began")

    @property
    def name(self) -> str:
        """Name the cell in a file's name: readable, then its hash."""
        parts = [str(part) for part in asdict(self.place).values()]
        readable = "_".join(re.sub(r"[^a-z0-9]+", "-", part.lower()).strip("-") for part in parts)
        return f"{readable}-{self.hash}"

    @property
    def command(self) -> str:
        """The command that runs this cell alone."""
        return command_of(self.words)


@dataclass(frozen=True)
class TableConfig:
    """What a table's file says.

    Attributes:
        name: Of the table: its results are under ``results/NAME``.
        seeds: One run of every cell for each.
        views: Numbers of neural views of each training object.
        augmentations: Pieces of config by the row's name; the row ``none`` is the baseline.
        models: Pieces by the model's name.
        datasets: Pieces by the dataset's name.
        common: Pieces that every run has.
        order: Rows that come first, with all their seeds.
        only: Models that a row is for, by the row's name; all of them where it is not named.
        poster: The poster's dataset to compare with, by the table's dataset.
        poster_figures: What the poster found.
        claims: What is claimed of the rows.
        score: What cells are compared by; None for the score of their task.
    """

    name: str
    seeds: tuple[int, ...]
    views: tuple[int, ...]
    augmentations: dict[str, list[Piece]]
    models: dict[str, list[Piece]]
    datasets: dict[str, list[Piece]]
    common: list[Piece]
    order: tuple[str, ...]
    only: dict[str, list[str]]
    poster: dict[str, str]
    poster_figures: PosterFigures
    claims: tuple[Claim, ...]
    score: str | None = None

    @cached_property
    def cells(self) -> list[Cell]:
        """All cells, in the order in which they run.

        Rows of ``order`` first; of each such half, one seed after another.
        """
        rows = list(self.augmentations)
        read = cache(read_settings)  # a file is a piece of many cells
        cells = []
        for augmentation in rows:
            for dataset in self.datasets:
                for model in self.only.get(augmentation, self.models):
                    cells += self._cells_of(augmentation, model, dataset, read)
        first = {row: place for place, row in enumerate(self.order)}
        return sorted(
            cells,
            key=lambda cell: (
                cell.place.augmentation not in first,
                self.seeds.index(cell.place.seed),
                first.get(cell.place.augmentation, rows.index(cell.place.augmentation)),
            ),
        )

    def rows_of(self, model: str) -> list[str]:
        """Give the rows that there are of a model."""
        return [row for row in self.augmentations if model in self.only.get(row, self.models)]

    def _cells_of(
        self, augmentation: str, model: str, dataset: str, read: Callable[[str], Settings]
    ) -> list[Cell]:
        pieces = [
            *self.datasets[dataset],
            *self.models[model],
            *self.common,
            *self.augmentations[augmentation],
        ]
        merged, words = merge_pieces(pieces, read), words_of(pieces)
        devices = merged.get("trainer", {}).get("devices", 1)
        if devices not in (1, "1", "auto"):
            raise DataError(
                f"{self.name}: a cell runs on one device, and trainer.devices is {devices!r}; "
                "cells are spread over GPUs by --devices"
            )
        cells = []
        for views in self.views:
            for seed in self.seeds:
                last: Settings = {
                    "data": {"views": views},
                    "trainer": {"devices": 1},
                    "seed_everything": seed,
                }
                settings = deepcopy(merged)
                for name, value in last.items():
                    if isinstance(value, dict):
                        value = {**settings.get(name, {}), **value}
                    settings[name] = value
                place = Coordinates(augmentation, model, dataset, views, seed)
                cells.append(Cell(place, (*words, *words_of([last])), settings, (*pieces, last)))
        return cells


def read_table(paths: Sequence[str], overrides: Sequence[str] = ()) -> TableConfig:
    """Read a table's config.

    Args:
        paths: Files, later ones over earlier ones. A row that is null is left out.
        overrides: Settings such as ``seeds=[0]`` or ``common.trainer.max_steps=10``.

    Raises:
        DataError: A file is unreadable, or a setting is missing, unknown or of the wrong kind.
    """
    content: Settings = {}
    for path in paths:
        for file in list_files(path):
            content = _merge(content, with_paths(own_settings(file), Path(file).parent), file)
    where = ", ".join(paths)
    changed = with_paths(parse_overrides(overrides, content, where), Path())
    return _check(_merge(content, changed, f"{where}: --set"), where)


def _merge(earlier: Settings, later: Settings, where: str) -> Settings:
    """Merge tables; settings of a row go over the files that the row names already."""
    later = dict(later)
    for kind in _ROWS:
        rows = later.get(kind)
        if isinstance(rows, dict):
            known = earlier.get(kind)
            known = known if isinstance(known, dict) else {}
            check_left_out(rows, known, kind, where)
            later[kind] = {name: _over(known.get(name), row) for name, row in rows.items()}
    merged: Any = OmegaConf.to_container(OmegaConf.merge(earlier, later))
    settings: Settings = merged
    return settings


def _over(earlier: Any, later: Any) -> Any:
    if not isinstance(later, dict) or not later or "config" in later:
        return later
    if isinstance(earlier, str):
        return {"config": [earlier], **later}
    return [*earlier, later] if isinstance(earlier, list) else later


def with_paths(value: Any, folder: Path) -> Any:
    """Make names of files relative to the working directory."""
    if isinstance(value, dict):
        return {name: with_paths(content, folder) for name, content in value.items()}
    if isinstance(value, list):
        return [with_paths(content, folder) for content in value]
    if isinstance(value, str) and value.endswith((".yaml", ".yml")):
        path = os.path.normpath(folder / value)
        path = path if Path(path).exists() else find_shipped(value) or path
        inside = Path(path).is_absolute() and Path(path).is_relative_to(Path.cwd())
        return os.path.relpath(path) if inside else path
    return value


def _check(content: Settings, where: str) -> TableConfig:
    missing = [name for name in _REQUIRED if not content.get(name)]
    unknown = [name for name in content if name not in (*_REQUIRED, *_OPTIONAL)]
    if missing:
        raise DataError(f"{where}: a table needs {', '.join(missing)}")
    if unknown:
        known = ", ".join((*_REQUIRED, *_OPTIONAL))
        raise DataError(f"{where}: unknown setting {', '.join(unknown)}; known are {known}")
    for name in ("seeds", "views"):
        values = content[name]
        if not isinstance(values, list) or not all(type(v) is int and v >= 0 for v in values):
            raise DataError(f"{where}: {name} must be a list of whole numbers, got {values!r}")
        if len(set(values)) < len(values):
            raise DataError(f"{where}: {name} names a number twice: {values}")
    for name in _ROWS:
        if not isinstance(content[name], dict):
            raise DataError(f"{where}: {name} must be pieces of config by name")
    rows = {
        kind: {
            str(name): read_pieces(value, f"{where}: {kind}.{name}")
            for name, value in content[kind].items()
            if value is not None
        }
        for kind in _ROWS
    }
    for setting, kind in (("order", "augmentation"), ("poster", "dataset")):
        # One that is left out by null is known.
        strangers = [n for n in content.get(setting) or () if n not in content[f"{kind}s"]]
        if strangers:
            raise DataError(f"{where}: {setting} names {', '.join(strangers)}, which is no {kind}")
    order = [name for name in content.get("order") or () if name in rows["augmentations"]]
    poster = {k: v for k, v in (content.get("poster") or {}).items() if k in rows["datasets"]}
    figures = PosterFigures(content.get("poster_figures") or {}, where)
    strangers = [name for name in poster.values() if name not in figures.datasets]
    if strangers:
        raise DataError(
            f"{where}: poster names {', '.join(strangers)}, of which there are no poster_figures; "
            "those of the poster are in conf/table/poster.yaml"
        )
    return TableConfig(
        name=str(content["name"]),
        seeds=tuple(content["seeds"]),
        views=tuple(content["views"]),
        common=read_pieces(content.get("common") or [], f"{where}: common"),
        order=tuple(order),
        only=_read_only(content, where),
        poster=poster,
        poster_figures=figures,
        claims=read_claims(content.get("claims") or [], content["augmentations"], where),
        score=_read_score(content, where),
        **rows,
    )


def _read_score(content: Settings, where: str) -> str | None:
    score = content.get("score")
    if score is not None and not isinstance(score, str):
        raise DataError(f"{where}: score must be the name of one, got {score!r}")
    return score


def _read_only(content: Settings, where: str) -> dict[str, list[str]]:
    """Read which models rows are for; what the table leaves out may be named."""
    only = content.get("only") or {}
    if not isinstance(only, dict) or not all(isinstance(names, list) for names in only.values()):
        raise DataError(f"{where}: only must be lists of models by row, got {only!r}")
    models = [name for names in only.values() for name in names]
    for kind, names in (("augmentation", list(only)), ("model", models)):
        strangers = [str(name) for name in names if name not in content[f"{kind}s"]]
        if strangers:
            raise DataError(f"{where}: only names {', '.join(strangers)}, which is no {kind}")
    known = [name for name, row in content["models"].items() if row is not None]
    return {row: [name for name in known if name in names] for row, names in only.items()}


def read_pieces(value: Any, where: str) -> list[Piece]:
    """Read a row: a file, settings (whose list ``config`` names files), or a list of both."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        settings = dict(value)
        files = read_pieces(settings.pop("config", []), where)
        return [*files, settings] if settings else files
    if isinstance(value, list):
        return [piece for part in value for piece in read_pieces(part, where)]
    raise DataError(f"{where}: expected names of config files or settings, got {value!r}")
