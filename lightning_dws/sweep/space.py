"""The space that a sweep searches: which options of ``fit`` it sets, and to what."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from lightning_dws.config_files import Settings, merge_settings
from lightning_dws.errors import DataError
from lightning_dws.suggestions import closest
from lightning_dws.table.pieces import Piece

FILES = "config"  # the option whose choices are config files
KINDS = ("choice", "uniform", "log", "int", "log_int")
Params = Mapping[str, Any]  # as Optuna keeps them, by option


@dataclass(frozen=True)
class Axis:
    """What one option is set to.

    Attributes:
        kind: ``choice`` of values; of numbers between two bounds, both included, ``uniform`` or
            ``log`` for floats, ``int`` or ``log_int`` for whole ones.
        values: The choices, or the two bounds.
    """

    kind: str
    values: tuple[Any, ...]

    @property
    def is_log(self) -> bool:
        """Whether it is searched, and drawn, on a logarithmic scale."""
        return self.kind in ("log", "log_int")

    @property
    def labels(self) -> tuple[Any, ...]:
        """What Optuna knows the choices as: numbers, names and such, others as JSON."""
        return tuple(
            value if isinstance(value, (str, int, float)) or value is None else json.dumps(value)
            for value in self.values
        )

    @property
    def distribution(self) -> BaseDistribution:
        if self.kind == "choice":
            return CategoricalDistribution(self.labels)
        low, high = self.values
        if self.kind in ("int", "log_int"):
            return IntDistribution(low, high, log=self.is_log)
        return FloatDistribution(low, high, log=self.is_log)

    def value_of(self, label: Any) -> Any:
        """Give the value that Optuna knows as a label."""
        return self.values[self.labels.index(label)] if self.kind == "choice" else label


@dataclass(frozen=True)
class SearchSpace:
    """The axes of a sweep by the options that they set, such as ``model.optimizer.init_args.lr``.

    The option ``config`` chooses between config files, which come before all other options.
    """

    axes: Mapping[str, Axis]

    @classmethod
    def parse(cls, plain: Any, where: str) -> "SearchSpace":
        """Read ``{OPTION: {KIND: [...]}}``; ``where`` names it in errors.

        Raises:
            DataError: It is something else.
        """
        if not isinstance(plain, dict) or not plain:
            raise DataError(f"{where}: expected options and what they are set to, got {plain!r}")
        return cls(
            {str(name): _parse_axis(part, f"{where}: {name}") for name, part in plain.items()}
        )

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """What Optuna draws from."""
        return {name: axis.distribution for name, axis in self.axes.items()}

    def pieces(self, params: Params) -> list[Piece]:
        """Write a point of the space as pieces of a run's config."""
        values = {name: self.axes[name].value_of(label) for name, label in params.items()}
        files: list[Piece] = [values.pop(FILES)] if FILES in values else []
        settings: Settings = {}
        for name, value in values.items():
            settings = merge_settings(settings, _nested(name, value))
        return [*files, settings]

    def corners(self) -> list[Params]:
        """Give a few points that have every choice and every bound of the space."""
        count = max(len(axis.values) for axis in self.axes.values())
        return [
            {name: axis.labels[number % len(axis.values)] for name, axis in self.axes.items()}
            for number in range(count)
        ]


def _nested(name: str, value: Any) -> Settings:
    for part in reversed(name.split(".")):
        value = {part: value}
    settings: Settings = value
    return settings


def _parse_axis(plain: Any, where: str) -> Axis:
    if not isinstance(plain, dict) or len(plain) != 1:
        raise DataError(f"{where}: expected one of {', '.join(KINDS)}, got {plain!r}")
    [(kind, values)] = plain.items()
    if kind not in KINDS:
        known = f"expected one of {', '.join(KINDS)}{closest(str(kind), KINDS)}"
        raise DataError(f"{where}: got {kind}, {known}")
    if not isinstance(values, list) or not values:
        raise DataError(f"{where}: {kind} must be a list, got {values!r}")
    axis = Axis(kind, tuple(values))
    if kind == "choice":
        if len({json.dumps(value) for value in values}) < len(values):
            raise DataError(f"{where}: choice names a value twice: {values}")
        return axis
    whole = kind in ("int", "log_int")
    are_numbers = all(
        type(value) is int or (type(value) is float and not whole and math.isfinite(value))
        for value in values
    )
    least = 0 if axis.is_log else -math.inf
    if len(values) != 2 or not are_numbers or not least < values[0] < values[1]:
        expected = "two whole numbers" if whole else "two numbers"
        above = ", both above 0" if axis.is_log else ""
        raise DataError(f"{where}: {kind} must be {expected}, ascending{above}, got {values}")
    return axis
