"""Export a store into a published layout."""

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightning_dws.errors import DataError
from lightning_dws.inrs.formats.dwsnets import Multiview
from lightning_dws.inrs.formats.layers import name_layers
from lightning_dws.inrs.formats.layouts import INRName, PathNamer, WritableLayout
from lightning_dws.inrs.formats.state_files import LABEL_KEY
from lightning_dws.inrs.formats.weight_statistics import EntryStatistics
from lightning_dws.inrs.store import INRStore
from lightning_dws.inrs.store.convention import convert_exactly
from lightning_dws.inrs.store.grids import choose_grid
from lightning_dws.progress import FileProgress
from lightning_dws.weight_space import INRArchitecture, WeightBatch, require_inrs


@dataclass(frozen=True)
class ExportReport:
    """What an export did.

    Attributes:
        num_files: INRs written.
        notes: What the layout has no place for, and how to give it to an import.
        files_per_second: How fast they were written.
    """

    num_files: int
    notes: list[str]
    files_per_second: float


def export_inrs(
    layout: WritableLayout, source: str | Path, output: str | Path, *, show_progress: bool = True
) -> ExportReport:
    """Write the INRs of a store as the files of a published layout.

    The weights are written as they are, unless the layout's images have other axes or another
    range of values: then the first and the last layer are rewritten, exactly. The folder appears
    when it is complete.

    Args:
        layout: The layout.
        source: The store.
        output: The folder, missing or empty. Its name stands in the layout's json.
        show_progress: Show a progress bar with files per second and time left.

    Raises:
        DataError: The store cannot be read, the layout has no room for it, or the output is not
            empty or cannot be written.
    """
    store, output = INRStore(source), Path(os.path.abspath(output))
    if not store.splits:
        raise DataError(f"{store.directory}: holds no INRs")
    layout.check_store(store)
    unfinished = output.with_name(f".{output.name}.partial")
    try:
        if output.exists() and (not output.is_dir() or any(output.iterdir())):
            raise DataError(f"{output}: exists and is not an empty folder")
        shutil.rmtree(unfinished, ignore_errors=True)  # an earlier export that was stopped
        unfinished.mkdir(parents=True)
        report = _write(layout, store, _Folder(unfinished, output), show_progress)
        os.replace(unfinished, output)
    except OSError as error:
        raise DataError(f"{output}: cannot be written ({error.strerror})") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)  # what is not whole
    return report


@dataclass(frozen=True)
class _Folder:
    """A folder that is being written, and the one that it becomes when it is complete."""

    unfinished: Path
    output: Path

    def save(self, path: str, content: dict[str, Any]) -> None:
        """Write a file as ``torch.save`` does.

        Raises:
            DataError: It cannot be written.
        """
        target = self.unfinished / path
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            torch.save(content, target)
        except OSError as error:
            raise self._error(path, str(error.strerror)) from error
        # torch's own writer has no other error for a full disk
        except RuntimeError as error:
            free = shutil.disk_usage(self.unfinished).free
            raise self._error(path, f"{free} bytes are free: {str(error)[:200]}") from error

    def write_json(self, path: str, content: Any) -> None:
        """Write a json file.

        Raises:
            DataError: It cannot be written.
        """
        try:
            (self.unfinished / path).write_text(json.dumps(content))
        except OSError as error:
            raise self._error(path, str(error.strerror)) from error

    def _error(self, path: str, reason: str) -> DataError:
        return DataError(
            f"{self.output / path}: cannot be written ({reason}); nothing of the export is kept"
        )


def _write(
    layout: WritableLayout, store: INRStore, folder: _Folder, show_progress: bool
) -> ExportReport:
    namer = layout.paths(store)
    architecture = _architecture(store)
    layers = layout.layer_names(architecture.num_layers)
    statistics = EntryStatistics(architecture) if isinstance(layout, Multiview) else None
    names: list[tuple[INRName, str]] = []
    written: set[str] = set()
    total = sum(len(shard.range) for shard in store.shards)
    notes = _notes(layout, store)
    with FileProgress(total, f"exporting {layout.name}", show_progress) as progress:
        for split, batch, position in _batches(store):
            rows = _in_convention(layout, store, batch)
            if statistics is not None and split == "train":
                statistics.add(rows)
            for number, row in enumerate(rows):
                name = _name(split, batch, position, number)
                path = _free_path(namer, name, written)
                state: dict[str, Any] = dict(name_layers(architecture, row, layers))
                if layout.label_inside:
                    state[LABEL_KEY] = name.label
                folder.save(path, state)
                names.append((name, path))
            progress.advance(len(batch))
    for file_name, content in namer.folder_files(folder.output.name, names).items():
        folder.write_json(file_name, content)
    if statistics is not None:
        folder.save("statistics.pth", statistics.to_dict())
    return ExportReport(len(names), notes, progress.files_per_second)


def _architecture(store: INRStore) -> INRArchitecture:
    return require_inrs(store.architecture, f"{store.directory}: an export")


def _batches(store: INRStore) -> Iterator[tuple[str, WeightBatch, int]]:
    """Give shards with their split and the position of their first object."""
    for split in store.splits:
        position, view = 0, 0
        for batch, _ in store.parts(split):
            own_view = int(batch.view[0])
            position, view = (position if own_view == view else 0), own_view
            yield split, batch, position
            position += len(batch)


def _name(split: str, batch: WeightBatch, position: int, number: int) -> INRName:
    return INRName(
        split,
        position + number,
        int(batch.object_id[number]),
        int(batch.label[number]),
        int(batch.view[number]),
    )


def _free_path(namer: PathNamer, name: INRName, written: set[str]) -> str:
    path = namer.path(name)
    if path in written:
        raise DataError(
            f"{namer.store.directory}: object {name.object_id}, view {name.view} would be written "
            f"to {path} as another one was: object ids must be unique"
        )
    written.add(path)
    return path


def _in_convention(layout: WritableLayout, store: INRStore, batch: WeightBatch) -> Tensor:
    found = store.header.convention
    if _architecture(store).in_features != 2 or found == layout.convention:
        return batch.parameters
    converted = convert_exactly(batch, found, layout.convention, layout.output_offset)
    if converted is None:
        raise DataError(
            f"{store.directory}: outputs from {found.value_range} with offset "
            f"{_architecture(store).output_offset:g} cannot be turned into {layout.name}'s "
            f"{layout.convention.value_range} with offset {layout.output_offset:g} exactly"
        )
    return converted.parameters


def _notes(layout: WritableLayout, store: INRStore) -> list[str]:
    """Say what a reader of the layout would not know."""
    architecture, notes = _architecture(store), []
    if architecture.activation != "sine":
        notes.append(
            f"{layout.name} has no place for activation {architecture.activation}: import it with "
            f"--activation {architecture.activation}"
        )
    if architecture.encoding is not None:
        notes.append(
            f"{layout.name} has no place for a {architecture.encoding}: import it with "
            f"--encoding '{json.dumps(architecture.encoding.to_dict())}'"
        )
    convention = store.header.convention
    options = {
        "--alpha": convention.has_alpha,
        "--volume": convention.is_volume,
        f"--grid_shape {' '.join(map(str, store.header.grid_shape))}": (
            store.header.grid_shape != choose_grid(architecture)
        ),
    }
    notes += [
        f"{layout.name} has no place for what {option.split()[0]} says: import it with {option}"
        for option, is_needed in options.items()
        if is_needed
    ]
    for name, found, expected in (
        ("w0", architecture.w0, layout.w0),
        ("output_offset", architecture.output_offset, layout.output_offset),
    ):
        same_convention = store.header.convention == layout.convention
        means_something = architecture.activation == "sine" if name == "w0" else same_convention
        if found != expected and means_something:
            notes.append(
                f"{layout.name} has no place for {name} {found:g}, its own is {expected:g}: "
                f"import it with --{name} {found:g}"
            )
    return notes
