"""Import a published zoo of CNNs: every network in one split, its checkpoints views."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lightning_dws.counting import counted
from lightning_dws.errors import DataError
from lightning_dws.files import check_regular, file_sha256, make_directory
from lightning_dws.inrs.signals import SPLITS
from lightning_dws.inrs.signals.splits import cut_stratified
from lightning_dws.inrs.store import INRStore, ShardRange, StoreHeader, write_shard
from lightning_dws.inrs.store.header import COLUMNS
from lightning_dws.inrs.store.locks import locked
from lightning_dws.inrs.store.shards import SHARD_SIZE
from lightning_dws.inrs.store.unfinished import UnfinishedStore
from lightning_dws.weight_space import WeightBatch
from lightning_dws.zoo.published_files import (
    LAYOUT,
    NETWORK,
    STEP,
    WEIGHTS,
    PublishedTensor,
    find_metrics,
    make_architecture,
    open_weights,
    read_layout,
    read_metrics,
)

_ACTIVATION = "config.activation"


@dataclass(frozen=True)
class ZooImport:
    """What an import did.

    Attributes:
        store: The finished store.
        notes: What is worth telling, a line each.
    """

    store: INRStore
    notes: list[str]


@dataclass(frozen=True)
class _Selection:
    """Which rows become what.

    Attributes:
        rows: (networks, checkpoints) int64, the rows of each network's checkpoints.
        splits: Which networks, by number, are in each split, in order.
    """

    rows: Tensor
    splits: dict[str, Tensor]


def import_zoo(
    source: str | Path,
    output: str | Path,
    *,
    steps: Sequence[int] | None = None,
    activation: str | None = None,
    row_order: str | Path | None = None,
    val_share: float = 0.1,
    test_share: float = 0.1,
) -> ZooImport:
    """Import the Small CNN Zoo or another of its layout; see ``published_files``.

    A network's checkpoints are its views, so they are never in two splits. Networks that lack a
    checkpoint, or have weights that are not finite, are left out. Called again after a kill, it
    continues behind the last finished shard.

    Args:
        source: The folder.
        output: The store's folder, made if missing.
        steps: Which checkpoints, the one for validation and test first. Default: the last.
        activation: Only networks with this ``config.activation``. Default: all, and ReLU scaling,
            which needs to know, does not apply where there are several.
        row_order: nfn's file with an order of all rows; then the networks are split as nfn does:
            the latter half of the last checkpoints in this order are for test, and a fifth of the
            others for validation.
        val_share: Without it, the share of the networks for validation.
        test_share: Likewise for test.

    Raises:
        DataError: The source is not of that layout, or the output holds something else.
        ValueError: The shares leave nothing for training.
    """
    if not (min(val_share, test_share) > 0 and val_share + test_share < 1):
        raise ValueError(
            f"val_share and test_share must leave some for training, got {val_share}, {test_share}"
        )
    folder = Path(source)
    tensors = read_layout(folder)
    weights = open_weights(folder, sum(math.prod(tensor.shape) for tensor in tensors))
    metrics = read_metrics(folder, len(weights))
    path = find_metrics(folder)
    step = _read_steps(path, metrics[STEP])
    wanted = [int(step.max())] if steps is None else list(steps)
    is_chosen = _choose(path, metrics, activation)
    selection, notes = _select(path, metrics, step, wanted, is_chosen, weights)
    if row_order is None:
        splits = _cut(selection, val_share, test_share)
    else:
        splits = _cut_as_nfn(Path(row_order), step, selection)
    rows = selection[torch.cat([*splits.values()])]
    measures, texts = _find_measures(metrics, rows.flatten())
    if texts:
        notes.append(f"columns that are no numbers were left out: {', '.join(texts)}")
    header = StoreHeader(
        architecture=make_architecture(tensors, _common_activation(metrics, rows)),
        classes=(),
        signals=f"cnns_{folder.resolve().name}",
        grid_shape=(),
        recipe={
            "imported": "small-cnn-zoo",
            "steps": wanted,
            "weights_sha256": file_sha256(folder / WEIGHTS),
            "metrics_sha256": file_sha256(path),
            "layout_sha256": file_sha256(folder / LAYOUT),
            "splits": "shares" if row_order is None else file_sha256(Path(row_order)),
        },
        seed=0,
        measures=tuple(measures),
    )
    header.check()
    store = _write(
        make_directory(output), header, tensors, weights, measures, _Selection(selection, splits)
    )
    return ZooImport(store, notes)


def _read_steps(path: Path, texts: Sequence[str]) -> Tensor:
    try:
        return torch.tensor([int(float(text)) for text in texts])
    except (ValueError, OverflowError) as error:
        raise DataError(f"{path}: {STEP} must be a number in every line ({error})") from error


def _choose(path: Path, metrics: dict[str, list[str]], activation: str | None) -> list[bool]:
    if activation is None:
        return [True] * len(metrics[STEP])
    found = metrics.get(_ACTIVATION, [])
    if activation not in found:
        known = ", ".join(sorted(set(found))) or f"no column {_ACTIVATION}"
        raise DataError(f"{path}: no network has the activation {activation!r}; there is {known}")
    return [text == activation for text in found]


def _select(
    path: Path,
    metrics: dict[str, list[str]],
    step: Tensor,
    wanted: list[int],
    is_chosen: list[bool],
    weights: np.ndarray,
) -> tuple[Tensor, list[str]]:
    """Give the rows (networks, checkpoints) of the networks that are complete, and notes."""
    rows_of: dict[str, dict[int, int]] = {}
    for row, (name, own, chosen) in enumerate(
        zip(metrics[NETWORK], step.tolist(), is_chosen, strict=True)
    ):
        known = rows_of.setdefault(name, {}) if chosen else {}
        if own in known:
            raise DataError(f"{path}: two lines of {name}, step {own}")
        known[own] = row
    for own in wanted:
        if not any(own in known for known in rows_of.values()):
            raise DataError(
                f"{path}: no checkpoint of step {own}, only {sorted(set(step.tolist()))}"
            )
    complete = [
        [known[own] for own in wanted]
        for known in rows_of.values()
        if all(own in known for own in wanted)
    ]
    notes = []
    if lacking := len(rows_of) - len(complete):
        notes.append(
            counted(
                lacking,
                f"of {counted(len(rows_of), 'network')} lacks a checkpoint and was left out",
                f"of {counted(len(rows_of), 'network')} lack a checkpoint and were left out",
            )
        )
    rows = torch.tensor(complete)
    finite = torch.tensor([bool(np.isfinite(weights[own]).all()) for own in complete])
    if not finite.all():
        notes.append(
            counted(
                int((~finite).sum()),
                "network has weights that are not finite and was left out",
                "networks have weights that are not finite and were left out",
            )
        )
    if int(finite.sum()) < len(SPLITS):
        found = counted(int(finite.sum()), "network is", "networks are")
        raise DataError(f"{path}: {found} too few for three splits")
    return rows[finite], notes


def _cut(rows: Tensor, val_share: float, test_share: float) -> dict[str, Tensor]:
    count = len(rows)
    val, test = (max(1, round(share * count)) for share in (val_share, test_share))
    sizes = {"train": count - val - test, "val": val, "test": test}
    orders = cut_stratified(torch.zeros(count, dtype=torch.int64), 0, sizes)
    return {split: orders[split].object_id for split in SPLITS}


def _cut_as_nfn(path: Path, step: Tensor, rows: Tensor) -> dict[str, Tensor]:
    """Split the networks as nfn's ``ZooDataset`` does.

    Raises:
        DataError: The file is no order of all rows, or a split has no network.
    """
    check_regular(path)
    try:
        order = torch.tensor([int(line) for line in path.read_text().split()])
    except (OSError, ValueError, OverflowError) as error:
        raise DataError(f"{path}: expected a row's number in each line ({error})") from error
    if not order.sort().values.equal(torch.arange(len(step))):
        raise DataError(f"{path}: expected the numbers of all {len(step)} rows, each once")
    last = order[step[order] == step.max()]
    half = len(last) // 2
    learned = list(range(half))
    random.Random(0).shuffle(learned)
    places = torch.tensor(learned, dtype=torch.int64)
    num_train = int(0.8 * half)
    parts = {
        "train": last[places[:num_train]],
        "val": last[places[num_train:]],
        "test": last[half:],
    }
    network_of = torch.full((len(step),), -1)
    network_of[rows] = torch.arange(len(rows))[:, None].expand_as(rows)
    splits = {split: network_of[own] for split, own in parts.items()}
    splits = {split: own[own >= 0] for split, own in splits.items()}
    if empty := [split for split, own in splits.items() if not len(own)]:
        raise DataError(f"{path}: leaves no network for {empty[0]}")
    return splits


def _find_measures(
    metrics: dict[str, list[str]], rows: Tensor
) -> tuple[dict[str, Tensor], list[str]]:
    """Give the columns (N,) that are a finite number in all rows that are used, and the others."""
    used = rows.tolist()
    measures, texts = {}, []
    for name, column in metrics.items():
        values = torch.full((len(column),), torch.nan)
        try:
            values[rows] = torch.tensor([float(column[row]) for row in used])
        except ValueError:
            texts.append(name)
            continue
        if values[rows].isfinite().all() and name not in COLUMNS:
            measures[name] = values
        else:
            texts.append(name)
    return measures, texts


def _common_activation(metrics: dict[str, list[str]], rows: Tensor) -> str | None:
    found = (
        {metrics[_ACTIVATION][row] for row in rows.flatten().tolist()}
        if _ACTIVATION in metrics
        else set()
    )
    return found.pop() if len(found) == 1 else None


def _write(
    directory: Path,
    header: StoreHeader,
    tensors: list[PublishedTensor],
    weights: np.ndarray,
    measures: dict[str, Tensor],
    selection: _Selection,
) -> INRStore:
    ranges = [
        ShardRange(split, view, start, min(start + SHARD_SIZE, len(networks)))
        for split, networks in selection.splits.items()
        for view in range(selection.rows.shape[1])
        for start in range(0, len(networks), SHARD_SIZE)
    ]
    with locked(directory) as writable:
        if not writable:
            raise DataError(f"{directory}: cannot be written")
        store = UnfinishedStore(directory, header)
        for where in store.missing(ranges):
            networks = selection.splits[where.split][where.start : where.stop]
            rows = selection.rows[networks, where.view]
            found = np.asarray(weights[rows.numpy()])
            cut = np.concatenate([tensor.cut(found) for tensor in tensors], axis=1)
            batch = WeightBatch(
                header.architecture,
                torch.from_numpy(np.ascontiguousarray(cut, dtype=np.float32)),
                torch.zeros_like(networks),
                networks,
                torch.full_like(networks, where.view),
            )
            unknown_psnr = torch.full((len(networks),), torch.nan)
            known = {name: values[rows] for name, values in measures.items()}
            store.shards[where] = write_shard(
                directory, where, batch, unknown_psnr, header.fingerprint, known
            )
        store.publish(ranges)
    return INRStore(directory)
