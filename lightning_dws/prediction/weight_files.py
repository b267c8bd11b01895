"""State dicts of INRs that belong to no dataset, read for a network that knows such INRs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from lightning_dws.counting import counted
from lightning_dws.errors import DataError
from lightning_dws.inrs.formats.importer import Observations
from lightning_dws.inrs.formats.layouts import FoundINR
from lightning_dws.inrs.formats.source import Source
from lightning_dws.inrs.formats.source_function import SourceFunction
from lightning_dws.inrs.formats.state_dicts import StateDicts
from lightning_dws.weight_space import INRArchitecture, WeightBatch

WEIGHT_SUFFIXES = StateDicts.suffixes


@dataclass(frozen=True)
class WeightFiles:
    """What files of weights hold.

    Attributes:
        batch: The INRs.
        labels: Each one's file and the label in it, None where there is none.
        notes: What is worth telling, a line each.
    """

    batch: WeightBatch
    labels: list[tuple[str, int | None]]
    notes: list[str]


def read_weights(
    place: Path,
    paths: Sequence[Path],
    architecture: INRArchitecture,
    w0: Sequence[float] | None = None,
) -> WeightFiles:
    """Read state dicts; what is no INR of the architecture is skipped, with its reason.

    Args:
        place: The folder that the files lie in, or the one file.
        paths: The files.
        architecture: Of the INRs that are wanted.
        w0: Frequency of the SIRENs, or one for each hidden layer. Default: the architecture's.

    Raises:
        DataError: No file can be used.
    """
    source = Source(place if place.is_dir() else place.parent)
    function = SourceFunction(
        w0=tuple(w0) if w0 else (architecture.w0,),
        w0_is_given=bool(w0),
        activation=architecture.activation,
        output_offset=architecture.output_offset,
        encoding=architecture.encoding,
    )
    if function.make_architecture(architecture.widths) != architecture:
        raise DataError(
            f"w0 of the first layer is {function.w0[0]:g}, expected {architecture.w0:g}"
        )
    rows, labels, skipped = [], [], []
    observed = Observations()
    for path in paths:
        name = str(path.relative_to(source.directory))
        try:
            found = StateDicts().read(source, name)
            rows.append(_make_row(found, function, architecture))
        except DataError as error:
            skipped.append((name, " ".join(str(error).split())))
            continue
        labels.append((name, found.label))
        observed.add(found, name)
    if not rows:
        raise DataError(
            f"{place}: none of {counted(len(paths), 'file')} can be used, first {skipped[0][0]}: "
            f"{skipped[0][1]}"
        )
    notes = [f"skipped: {name}: {reason}" for name, reason in skipped]
    notes += [*observed.notes(), _describe(function, architecture)]
    return WeightFiles(WeightBatch.from_parameters(architecture, torch.stack(rows)), labels, notes)


def _make_row(
    found: FoundINR, function: SourceFunction, architecture: INRArchitecture
) -> torch.Tensor:
    if found.widths != architecture.widths:
        raise DataError(
            f"an INR of widths {found.widths}, the network reads those of {architecture.widths}"
        )
    function.check_meaning(found.layers, found.frequencies)
    return function.make_row(found.layers)


def _describe(function: SourceFunction, architecture: INRArchitecture) -> str:
    """Say what state dicts do not, and is therefore taken for granted."""
    frequencies = ", ".join(f"{w0:g}" for w0 in function.layer_w0(len(architecture.hidden_widths)))
    activation = f"w0 {frequencies}" if architecture.activation == "sine" else "activation relu"
    return f"weights are taken for INRs of {activation}, output offset {function.output_offset:g}"
