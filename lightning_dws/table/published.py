"""What is said of a table's rows elsewhere: claims, and a poster's figures, in its config."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from lightning_dws.errors import DataError

EXPECTED = ("above", "below", "harmless")
Figure = tuple[float, float]


@dataclass(frozen=True)
class Claim:
    """A difference, and what it should be.

    Attributes:
        text: The claim.
        first: The row that is claimed to differ.
        second: The row that it is compared with.
        expected: ``above`` zero, ``below`` it, or ``harmless``: hardly below it.
        first_views: Of the first row; None compares at equal views.
        second_views: Of the second.

    Raises:
        ValueError: Something else is expected.
    """

    text: str
    first: str
    second: str
    expected: str = "above"
    first_views: int | None = None
    second_views: int | None = None

    def __post_init__(self) -> None:
        if self.expected not in EXPECTED:
            raise ValueError(f"expected must be one of {EXPECTED}, got {self.expected!r}")


def read_claims(given: Any, rows: Collection[str], where: str) -> tuple[Claim, ...]:
    """Read a table's claims.

    Args:
        given: A list of the settings of ``Claim``.
        rows: Those that the table has, or knows and leaves out.
        where: Names the table in errors.

    Raises:
        DataError: A claim lacks something, or speaks of a row that the table does not know.
    """
    if not isinstance(given, list):
        raise DataError(f"{where}: claims must be a list, got {given!r}")
    claims = []
    for entry in given:
        try:
            claims.append(Claim(**entry))
        except (TypeError, ValueError) as error:
            raise DataError(f"{where}: not a claim: {entry!r} ({error})") from error
        strangers = [row for row in (claims[-1].first, claims[-1].second) if row not in rows]
        if strangers:
            raise DataError(
                f"{where}: the claim {claims[-1].text!r} names the row {strangers[0]!r}; the table "
                f"knows {', '.join(rows)}"
            )
    return tuple(claims)


class PosterFigures:
    """A poster's figures: test accuracy in %, mean and standard deviation.

    Args:
        given: Pairs by dataset, model, row and views.
        where: Names the table in errors.

    Raises:
        DataError: They are none.
    """

    def __init__(self, given: Any, where: str) -> None:
        self._figures: dict[tuple[str, str, str, int], Figure] = {}
        try:
            for dataset, models in given.items():
                for model, of_rows in models.items():
                    for row, of_views in of_rows.items():
                        for views, (mean, std) in of_views.items():
                            figure = float(mean), float(std)
                            self._figures[dataset, model, row, int(views)] = figure
        except (AttributeError, TypeError) as error:
            raise DataError(
                f"{where}: poster_figures must be pairs by dataset, model, row and views ({error})"
            ) from error
        self.datasets = {dataset for dataset, *_ in self._figures}

    def find(self, dataset: str, model: str, row: str, views: int) -> Figure | None:
        """Give mean and standard deviation in %, None where the poster has none."""
        return self._figures.get((dataset, model, row, views))
