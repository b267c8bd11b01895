"""How the INRs of a checkpoint were fitted, also of one that was written before it said so."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonargparse

from lightning_dws.checkpoints import CHECKPOINT_KEY
from lightning_dws.errors import DataError
from lightning_dws.inrs import INRDatasetSpec, INRStore
from lightning_dws.inrs.preparation.fitting_record import FittingRecord
from lightning_dws.saved_settings import find_settings

_BUILDING_ERRORS = (
    ArithmeticError,
    AttributeError,
    ImportError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    jsonargparse.ArgumentError,
)


def read_record(path: Path, checkpoint: Mapping[str, Any]) -> FittingRecord:
    """Read how the INRs that a network was trained on were made.

    A checkpoint that does not say it was written by an earlier version, or by a trainer with other
    data: what its run's settings say, if they can be used, is taken, and told.

    Raises:
        DataError: It is not known.
    """
    note = checkpoint.get(CHECKPOINT_KEY, {})
    if note.get("inrs") is not None:
        return FittingRecord.from_dict(note["inrs"], str(path))
    settings = find_settings(path, note)
    if settings is None:
        raise DataError(
            f"{path}: does not say how its INRs were fitted, nor on what it was trained"
        )
    try:
        record = _from_settings(settings["data"])
    except _BUILDING_ERRORS as error:
        reason = " ".join(str(error).split())
        raise DataError(
            f"{path}: does not say how its INRs were fitted, and the data in its run's settings "
            f"cannot be used ({reason})"
        ) from error
    sys.stderr.write(
        f"{path}: does not say how its INRs were fitted; taken from its run's settings\n"
    )
    return record


def _from_settings(data: Mapping[str, Any]) -> FittingRecord:
    root, store = Path(data.get("root") or "data"), data.get("store")
    if data.get("dataset") is None:
        found = INRStore(root / str(store))
        return FittingRecord.of_store(found.directory, found.header, None)
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(INRDatasetSpec, "dataset")
    options = parser.parse_object({"dataset": dict(data["dataset"])})
    spec: INRDatasetSpec = parser.instantiate(options).dataset
    return FittingRecord.of_store(root / (store or spec.store_name), spec.header, spec.signals)
