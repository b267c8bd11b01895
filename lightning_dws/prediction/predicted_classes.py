"""What ``predict`` said of a store's INRs, read from its CSV files."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lightning_dws.counting import counted
from lightning_dws.errors import DataError
from lightning_dws.files import read_csv_rows

_NAME = re.compile(r"\w+/(-?\d+)(?:/view (\d+))?")
_PROBABILITY = "probability "


@dataclass(frozen=True)
class PredictedClass:
    """The most probable class of an INR.

    Attributes:
        name: Of the class.
        probability: Which the network gave it; None where the file does not say.
    """

    name: str
    probability: float | None


def read_predicted_classes(
    path: str | Path, classes: Sequence[str] = ()
) -> dict[tuple[int, int], PredictedClass]:
    """Read the CSV that ``predict --data STORE`` or the callback ``PredictionFile`` writes.

    Args:
        path: The file.
        classes: What its numbers of classes mean, where it has no probabilities that name them.

    Returns:
        The class that was predicted for each INR, by its object_id and view.

    Raises:
        DataError: The file cannot be read, or is no such table; the message says why.
    """
    path = Path(path)
    header, *rows = read_csv_rows(path, "a table that 'predict' writes")
    if "prediction" not in header or not {"name", "object_id"} & set(header):
        raise DataError(
            f"{path}: expected a table that 'predict' writes, with the columns 'prediction' and "
            f"'name' or 'object_id', found {', '.join(header[:6])}"
        )
    named = [name.removeprefix(_PROBABILITY) for name in header if name.startswith(_PROBABILITY)]
    found = {}
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise DataError(
                f"{path}: line {number} has {counted(len(row), 'cell')}, expected {len(header)}"
            )
        cells = dict(zip(header, row, strict=True))
        try:
            found[_key(cells)] = _predicted(cells, named or classes)
        except (ValueError, IndexError) as error:
            raise DataError(f"{path}: line {number}: {error}") from error
    return found


def _key(cells: dict[str, str]) -> tuple[int, int]:
    if "object_id" in cells:
        return int(cells["object_id"]), int(cells.get("view", "0"))
    if (match := _NAME.fullmatch(cells["name"])) is None:
        raise ValueError(
            f"expected the name of a store's INR, such as test/12 or test/12/view 1, found "
            f"{cells['name']!r}"
        )
    return int(match[1]), int(match[2] or 0)


def _predicted(cells: dict[str, str], classes: Sequence[str]) -> PredictedClass:
    name = cells["prediction"]
    if "object_id" in cells and classes:  # of the callback, which writes labels
        name = classes[int(name)]
    share = cells.get(f"{_PROBABILITY}{name}")
    probability = None if share is None else float(share)
    if probability is not None and not math.isfinite(probability):
        raise ValueError(f"expected a probability, found {share!r}")
    return PredictedClass(name, probability)
