"""INRs from memory written as a store: cut into splits by object, checked before anything is."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from lightning_dws.counting import counted
from lightning_dws.errors import DataError
from lightning_dws.files import make_directory, payload_sha256
from lightning_dws.inrs.fitting import Recipe
from lightning_dws.inrs.signals import SPLITS
from lightning_dws.inrs.signals.file_listing import name_dataset
from lightning_dws.inrs.signals.splits import cut_stratified
from lightning_dws.inrs.store.convention import DEFAULT, ImageConvention
from lightning_dws.inrs.store.grids import choose_grid
from lightning_dws.inrs.store.header import StoreHeader
from lightning_dws.inrs.store.index import read_index, write_index
from lightning_dws.inrs.store.locks import locked
from lightning_dws.inrs.store.shards import INDEX_NAME, SHARD_SIZE, ShardRange, write_shard
from lightning_dws.weight_space import Architecture, WeightBatch

NOT_SAID = {"written": "from memory"}  # as the recipe of INRs that were given without one

_Part = tuple[WeightBatch, Tensor]  # INRs and their PSNR


def write_inrs(
    directory: str | Path,
    batch: WeightBatch | Mapping[str, WeightBatch],
    classes: Sequence[str],
    psnr: Tensor | Mapping[str, Tensor] | None,
    recipe: Recipe | None,
    seed: int,
    grid_shape: Sequence[int] | None,
    shares: tuple[float, float],
    convention: ImageConvention = DEFAULT,
) -> None:
    """Write INRs as a store; see ``INRStore.write``."""
    parts = _with_psnr(batch, psnr) if isinstance(batch, Mapping) else _cut(batch, psnr, shares)
    views = {split: _sort_views(split, part) for split, part in parts.items()}
    architecture = _check(views)
    identity = payload_sha256(
        {
            f"{split} {view} {name}": tensor
            for split, by_view in views.items()
            for view, (own, own_psnr) in enumerate(by_view)
            for name, tensor in (
                ("parameters", own.parameters),
                ("label", own.label),
                ("object_id", own.object_id),
                ("psnr", own_psnr),
            )
        }
    )
    folder = Path(directory)
    header = StoreHeader(
        architecture=architecture,
        classes=tuple(map(str, classes)),
        signals=name_dataset(None, folder, "inrs", identity),
        grid_shape=tuple(grid_shape) if grid_shape else choose_grid(architecture),
        recipe=NOT_SAID if recipe is None else recipe.settings,
        seed=seed,
        convention=convention,
    )
    header.check()
    _check_labels(views, header)
    ranges = {
        ShardRange(split, view, start, min(start + SHARD_SIZE, len(own))): (own, own_psnr)
        for split, by_view in views.items()
        for view, (own, own_psnr) in enumerate(by_view)
        for start in range(0, len(own), SHARD_SIZE)
    }
    make_directory(folder)
    with locked(folder) as writable:
        if not writable:
            raise DataError(f"{folder}: cannot be written")
        _check_folder(folder, header, {where.file_name for where in ranges})
        shards = []
        for where, (own, own_psnr) in ranges.items():
            rows = slice(where.start, where.stop)
            inrs, fingerprint = own[rows], header.fingerprint
            shards.append(write_shard(folder, where, inrs, own_psnr[rows], fingerprint))
        write_index(folder, header, shards)


def _with_psnr(
    parts: Mapping[str, WeightBatch], psnr: Tensor | Mapping[str, Tensor] | None
) -> dict[str, _Part]:
    unknown = [name for name in parts if name not in SPLITS]
    if unknown or not parts:
        raise DataError(f"splits must be some of {', '.join(SPLITS)}, got {[*parts]}")
    if isinstance(psnr, Tensor):
        raise DataError("psnr must be given by split, as the INRs are")
    known = psnr or {}
    return {
        split: _pair(parts[split], known.get(split), split) for split in SPLITS if split in parts
    }


def _pair(batch: WeightBatch, psnr: Tensor | None, name: str) -> _Part:
    if psnr is None:
        psnr = torch.full((len(batch),), torch.nan)
    if psnr.shape != (len(batch),):
        raise DataError(f"psnr of {name} must have shape ({len(batch)},), got {tuple(psnr.shape)}")
    return batch.detach().to("cpu", torch.float32), psnr.detach().float().cpu()


def _cut(
    batch: WeightBatch, psnr: Tensor | Mapping[str, Tensor] | None, shares: tuple[float, float]
) -> dict[str, _Part]:
    """Cut INRs into splits, stratified: all views of an object into the same one."""
    if isinstance(psnr, Mapping):
        raise DataError("psnr must be one tensor, as the INRs are one batch")
    batch, psnr = _pair(batch, psnr, "the INRs")
    if not (min(shares) >= 0 and sum(shares) < 1):
        raise ValueError(f"val_share and test_share must leave some for training, got {shares}")
    objects, number = batch.object_id.unique(return_inverse=True)
    label = torch.zeros_like(objects)
    label[number] = batch.label
    val, test = (max(1, round(share * len(objects))) if share else 0 for share in shares)
    sizes = {"train": len(objects) - val - test, "val": val, "test": test}
    if sizes["train"] < 1:
        raise DataError(
            f"{counted(len(objects), 'object is', 'objects are')} too few for the splits {sizes}"
        )
    orders = cut_stratified(label, 0, sizes)
    parts = {}
    for split in (name for name in SPLITS if sizes[name]):
        place = torch.full_like(objects, -1)
        place[orders[split].object_id] = torch.arange(sizes[split])
        rows = (place[number] >= 0).nonzero()[:, 0]
        rows = rows[place[number[rows]].argsort(stable=True)]
        parts[split] = (batch[rows], psnr[rows])
    return parts


def _sort_views(split: str, part: _Part) -> list[_Part]:
    """Give a split's views, each with the same objects in the same order.

    Raises:
        DataError: There are none, views are not numbered from 0, or an object lacks one.
    """
    batch, psnr = part
    numbers = batch.view.unique().tolist()
    if numbers != list(range(len(numbers))) or not numbers:
        raise DataError(f"{split}: views must be numbered from 0, got {numbers}")
    found: list[_Part] = []
    for view in numbers:
        rows = (batch.view == view).nonzero()[:, 0]
        if found:
            first = found[0][0].object_id.argsort()
            rows = rows[batch.object_id[rows].argsort()]
            if not torch.equal(batch.object_id[rows], found[0][0].object_id[first]):
                raise DataError(f"{split}: view {view} is not of the same objects as view 0")
            rows = rows[first.argsort()]
        found.append((batch[rows], psnr[rows]))
    return found


def _check(views: Mapping[str, list[_Part]]) -> Architecture:
    """Check all INRs together, and give their architecture.

    Raises:
        DataError: They are of several architectures, their weights are not finite, or object ids
            are negative or not unique.
    """
    batches = [batch for by_view in views.values() for batch, _ in by_view]
    architectures = {batch.architecture for batch in batches}
    if len(architectures) > 1:
        raise DataError(f"INRs of one architecture expected, got {sorted(map(str, architectures))}")
    for batch in batches:
        bad = (~batch.parameters.isfinite().all(dim=1)).nonzero()[:, 0].tolist()
        if bad:
            raise DataError(f"weights of object {int(batch.object_id[bad[0]])} are not finite")
    ids = torch.cat([by_view[0][0].object_id for by_view in views.values()])
    if len(ids.unique()) < len(ids) or int(ids.min()) < 0:
        raise DataError("every INR needs an object_id, not negative, that no other has in its view")
    return batches[0].architecture


def _check_labels(views: Mapping[str, list[_Part]], header: StoreHeader) -> None:
    most = header.num_labels - 1
    for split, by_view in views.items():
        first = by_view[0][0].label
        for batch, _ in by_view:
            low, high = (int(bound) for bound in torch.aminmax(batch.label))
            if low < 0 or high > most:
                raise DataError(
                    f"{split}: labels from {low} to {high}, expected 0 to {most} for the "
                    f"{counted(len(header.classes), 'class', 'classes')}"
                )
            if not torch.equal(batch.label, first):
                raise DataError(f"{split}: views of an object have different labels")


def _check_folder(folder: Path, header: StoreHeader, own: set[str]) -> None:
    """Refuse a folder that holds other INRs."""
    others = [path.name for path in folder.glob("*.safetensors") if path.name not in own]
    if (folder / INDEX_NAME).exists():
        others += [] if read_index(folder).header == header else [INDEX_NAME]
    if others:
        raise DataError(
            f"{folder}: holds other INRs already ({others[0]}); give another folder, or delete it"
        )
