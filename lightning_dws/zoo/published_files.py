"""The files of the Small CNN Zoo (Unterthiner et al., 2020), which nfn and others read as well.

A folder holds ``weights.npy``, a row for every checkpoint of every network; ``layout.csv``, which
columns of a row are which tensor (``varname``, ``start_idx``, ``end_idx``, ``shape``, in
TensorFlow's order of axes); and ``metrics.csv.gz``, a line for every row. Nothing is unpickled.
"""

import csv
import gzip
import math
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lightning_dws.counting import counted
from lightning_dws.errors import DataError
from lightning_dws.files import check_regular
from lightning_dws.weight_space import NetworkArchitecture, TensorSpec

WEIGHTS, LAYOUT, METRICS = "weights.npy", "layout.csv", ("metrics.csv.gz", "metrics.csv")
NETWORK, STEP = "modeldir", "step"  # columns of the metrics: which network, and which checkpoint
EXAMPLE = f"{WEIGHTS}, {LAYOUT} and {METRICS[0]}"

_Rows = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class PublishedTensor:
    """A kernel or a bias: where it stands in a row, and its shape there.

    Attributes:
        start: Its first column.
        shape: A kernel's is (height, width, in, out) or (in, out), a bias's (out,).
    """

    start: int
    shape: tuple[int, ...]

    def cut(self, rows: _Rows) -> _Rows:
        """Cut it from rows (B, P), in torch's order of axes, flat: (B, size)."""
        own = rows[:, self.start : self.start + math.prod(self.shape)]
        own = own.reshape(len(rows), *self.shape)
        places = (len(self.shape), len(self.shape) - 1, *range(1, len(self.shape) - 1))
        turned = own.transpose(0, *places) if len(self.shape) > 1 else own
        return turned.reshape(len(rows), -1)

    @property
    def torch_shape(self) -> tuple[int, ...]:
        """A kernel's (out, in, height, width) or (out, in), a bias's (out,)."""
        if len(self.shape) == 1:
            return self.shape
        return (self.shape[-1], self.shape[-2], *self.shape[:-2])


def read_layout(folder: Path) -> list[PublishedTensor]:
    """Read which columns are which tensor: kernel and bias of every layer, in order.

    Raises:
        DataError: It cannot be read, or its tensors are not those of a plain feed-forward network.
    """
    path = folder / LAYOUT
    kinds: dict[str, list[PublishedTensor]] = {"kernel": [], "bias": []}
    stop = 0
    for number, row in enumerate(_read_csv(path, ("varname", "start_idx", "end_idx", "shape")), 2):
        kind = re.fullmatch(r".*(kernel|bias)(:\d+)?", row["varname"])
        if kind is None:
            raise DataError(
                f"{path}, line {number}: {row['varname']!r}, expected a name that ends in kernel:0 "
                "or bias:0"
            )
        shape = tuple(int(size) for size in re.findall(r"\d+", row["shape"]))
        if not (row["start_idx"].isdigit() and row["end_idx"].isdigit()):
            raise DataError(f"{path}, line {number}: start_idx and end_idx must be numbers")
        start, end = int(row["start_idx"]), int(row["end_idx"])
        if start != stop or end - start != math.prod(shape) or not shape:
            raise DataError(
                f"{path}, line {number}: columns {start} to {end} of shape {row['shape']}, "
                f"expected columns from {stop} on, as many as the shape has numbers"
            )
        stop = end
        kinds[kind[1]].append(PublishedTensor(start, shape))
    return _pair(path, kinds["kernel"], kinds["bias"])


def _pair(
    path: Path, kernels: list[PublishedTensor], biases: list[PublishedTensor]
) -> list[PublishedTensor]:
    if len(kernels) != len(biases) or len(kernels) < 2:
        raise DataError(
            f"{path}: {len(kernels)} kernels and {len(biases)} biases, expected one of each for "
            "every layer, and two layers or more"
        )
    below = None
    for number, (kernel, bias) in enumerate(zip(kernels, biases, strict=True)):
        if len(kernel.shape) < 2 or bias.shape != kernel.shape[-1:]:
            raise DataError(
                f"{path}: layer {number} has a kernel of shape {kernel.shape} and a bias of "
                f"{bias.shape}"
            )
        if below is not None and kernel.shape[-2] != below:
            raise DataError(
                f"{path}: layer {number} takes in {kernel.shape[-2]} channels and the one before "
                f"gives {below}; only layers that follow one another are understood, with global "
                "pooling before linear ones"
            )
        below = kernel.shape[-1]
    return [tensor for both in zip(kernels, biases, strict=True) for tensor in both]


def make_architecture(
    tensors: list[PublishedTensor], activation: str | None
) -> NetworkArchitecture:
    """Name the axes of a feed-forward network's tensors.

    Args:
        tensors: Kernel and bias of every layer.
        activation: Of all hidden layers; None where networks have several.
    """
    last = len(tensors) // 2
    names = [None, *(f"h{layer}" for layer in range(1, last)), None]
    specs = []
    for place, tensor in enumerate(tensors):
        layer, shape = place // 2, tensor.torch_shape
        ends = (names[layer + 1], names[layer])[: len(shape)]
        axes = (*ends, *(None for _ in shape[2:]))
        kind = "bias" if place % 2 else "weight"
        specs.append(TensorSpec(f"{layer}.{kind}", shape, axes))
    functions: dict[str, tuple[str, ...]] = {}
    if activation is not None:
        for layer in range(1, last):
            pooled = len(tensors[2 * layer].shape) < len(tensors[2 * layer - 2].shape)
            functions[f"h{layer}"] = (activation, "avg_pool") if pooled else (activation,)
    return NetworkArchitecture(specs, functions)


def open_weights(folder: Path, num_columns: int) -> _Rows:
    """Map the weights (N, P) into memory.

    Raises:
        DataError: The file is no array of numbers, or not of that many columns.
    """
    path = folder / WEIGHTS
    check_regular(path)
    try:
        weights: _Rows = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: not a NumPy array of numbers ({error})") from error
    if weights.ndim != 2 or weights.shape[1] != num_columns or weights.dtype.kind != "f":
        raise DataError(
            f"{path}: {weights.dtype} of shape {weights.shape}, expected floats of shape "
            f"(N, {num_columns}), as {LAYOUT} says"
        )
    return weights


def read_metrics(folder: Path, num_rows: int) -> dict[str, list[str]]:
    """Read what is known of every row, by column.

    Raises:
        DataError: It cannot be read, lacks a column that is needed, or has another number of lines.
    """
    path = find_metrics(folder)
    rows = list(_read_csv(path, (NETWORK, STEP)))
    if len(rows) != num_rows:
        lines = counted(len(rows), "line")
        raise DataError(f"{path}: {lines}, and {WEIGHTS} has {counted(num_rows, 'row')}")
    return {name: [row[name] for row in rows] for name in rows[0] if name}


def find_metrics(folder: Path) -> Path:
    """Find the metrics, packed or not."""
    return next(
        (folder / name for name in METRICS if (folder / name).is_file()), folder / METRICS[0]
    )


def _read_csv(path: Path, needed: tuple[str, ...]) -> Iterator[dict[str, str]]:
    """Give the lines of a CSV file by column.

    Raises:
        DataError: It cannot be read, is empty, lacks a column, or a line is too short or long.
    """
    if not path.parent.is_dir():
        raise DataError(f"{path.parent} is no folder; expected one with {EXAMPLE}")
    check_regular(path)
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file, restkey="", restval=None)
            found = reader.fieldnames or ()
            if missing := [name for name in needed if name not in found]:
                raise DataError(
                    f"{path}: no column {missing[0]!r}, it has {', '.join(found) or 'none'}"
                )
            empty = True
            for row in reader:
                if None in row.values() or isinstance(row.get(""), list):
                    raise DataError(
                        f"{path}, line {reader.line_num}: another number of values than the "
                        f"{len(found)} columns"
                    )
                empty = False
                yield row
    except DataError:
        raise
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    if empty:
        raise DataError(f"{path}: holds no line but its first")
