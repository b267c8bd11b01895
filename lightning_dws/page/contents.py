"""What a page of INRs holds: a choice of a store's INRs, as plain data."""

import base64
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from lightning_dws.augmentations.generic import tensor_std
from lightning_dws.errors import DataError
from lightning_dws.inrs.pictures import fine_grid
from lightning_dws.inrs.store import INRStore
from lightning_dws.inrs.store.header import StoreHeader
from lightning_dws.prediction.predicted_classes import PredictedClass
from lightning_dws.weight_space import WeightBatch, require_inrs

_MOST_INRS = 200
_MOST_BYTES = 2_000_000  # of weights; a third more as text

INRKey = tuple[int, int]  # object_id and view


@dataclass(frozen=True, eq=False)
class PageContents:
    """What a page shows.

    Attributes:
        title: The page's name.
        header: Of the store that the INRs are from.
        inrs: B INRs, in the page's order.
        psnr: (B,) dB, NaN where it is not known.
        predictions: What a network said of each, if anything.
    """

    title: str
    header: StoreHeader
    inrs: WeightBatch
    psnr: Tensor
    predictions: Mapping[INRKey, PredictedClass] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Give plain data for JSON; the weights are little-endian float32 in base64."""
        header, inrs = self.header, self.inrs
        spread = tensor_std(inrs.to(torch.float64))  # where no float32 is too large to square
        architecture = require_inrs(header.architecture, "a page")
        slices = (architecture.weight_slices, architecture.bias_slices)
        weight_std, bias_std = ([float(spread[s.start]) for s in kind] for kind in slices)
        return {
            "title": self.title,
            "kind": _kind_of(header),
            "signals": header.signals,
            "architecture": architecture.to_dict(),
            "grid_shape": list(header.grid_shape),
            "fine_grid": list(fine_grid(header.grid_shape)),
            "axis_order": header.convention.axis_order,
            "value_range": list(header.convention.value_range),
            "has_alpha": header.convention.has_alpha,
            "classes": list(header.classes),
            "label": inrs.label.tolist(),
            "object_id": [str(number) for number in inrs.object_id.tolist()],  # beyond 2^53
            "view": inrs.view.tolist(),
            "psnr": [value if math.isfinite(value) else None for value in self.psnr.tolist()],
            "predictions": self._predictions(),
            "tensor_std": {"weights": weight_std, "biases": bias_std},
            "parameters": encode_parameters(inrs.parameters),
        }

    def _predictions(self) -> list[dict[str, Any] | None] | None:
        if self.predictions is None:
            return None
        found = [self.predictions.get(key) for key in _keys(self.inrs)]
        return [None if one is None else asdict(one) for one in found]


def encode_parameters(parameters: Tensor) -> str:
    """Write rows (B, P) as little-endian float32 in base64, without losing a bit."""
    return base64.b64encode(
        parameters.float().contiguous().numpy().astype("<f4").tobytes()
    ).decode()


def choose_inrs(
    store: INRStore,
    split: str,
    *,
    num_inrs: int | None = None,
    views: int = 1,
    predictions: Mapping[INRKey, PredictedClass] | None = None,
) -> PageContents:
    """Choose INRs spread evenly over the classes, one class after another.

    Args:
        store: Of lines, images, volumes or shapes.
        split: Of the store.
        num_inrs: How many at most. Default: 200, or as many as make a file of less than 3 MB.
        views: How many neural views of each object.
        predictions: What a network said, by object and view: only such INRs are chosen.

    Raises:
        DataError: The networks are no INRs, the store has no such split or views, or nothing of the
            split was predicted.
    """
    require_inrs(store.architecture, f"{store.directory}: a page")
    parts = list(store.parts(split, views=views))  # mapped from disk: only what is chosen is read
    label, object_id, view = (
        torch.cat([getattr(inrs, name) for inrs, _ in parts])
        for name in ("label", "object_id", "view")
    )
    keys = list(zip(object_id.tolist(), view.tolist(), strict=True))
    allowed = [row for row, key in enumerate(keys) if predictions is None or key in predictions]
    if not allowed:
        raise DataError(
            f"{store.directory}: the predictions name no INR of its split {split!r}; "
            "--split says another"
        )
    if num_inrs is None:
        num_inrs = min(_MOST_INRS, max(2, _MOST_BYTES // (4 * store.architecture.num_parameters)))
    objects = _spread(allowed, label, object_id, max(1, num_inrs // views))
    rank = {number: place for place, number in enumerate(objects)}
    rows = [row for row in allowed if keys[row][0] in rank]
    rows = sorted(rows, key=lambda row: (rank[keys[row][0]], keys[row][1]))[:num_inrs]
    parameters, psnr = _gather(parts, rows)
    chosen = torch.tensor(rows)
    inrs = WeightBatch(
        store.architecture, parameters, label[chosen], object_id[chosen], view[chosen]
    )
    title = f"{store.directory.resolve().name} · {split}"
    return PageContents(title, store.header, inrs, psnr, predictions)


def _kind_of(header: StoreHeader) -> str:
    """Say how INRs are drawn: as lines, images, or slices of volumes or of signed distances."""
    architecture = require_inrs(header.architecture, "a page")
    if architecture.in_features < 3:
        return "line" if architecture.in_features == 1 else "image"
    is_volume = header.convention.is_volume or architecture.out_features > 1
    return "volume" if is_volume else "shape"


def _spread(allowed: list[int], label: Tensor, object_id: Tensor, count: int) -> list[int]:
    """Choose objects spread evenly over the classes, one class after another."""
    by_object = {int(object_id[row]): row for row in reversed(allowed)}  # its first row
    first = torch.tensor(sorted(by_object.values()))
    by_class = first[torch.sort(label[first], stable=True).indices]
    steps = torch.linspace(0, len(by_class) - 1, min(count, len(by_class)), dtype=torch.float64)
    numbers: list[int] = object_id[by_class[steps.round().long()]].tolist()
    return numbers


def _gather(parts: list[tuple[WeightBatch, Tensor]], rows: list[int]) -> tuple[Tensor, Tensor]:
    """Give the parameters and PSNRs of rows of all parts together."""
    places = [(part, row) for part, (inrs, _) in enumerate(parts) for row in range(len(inrs))]
    chosen = [places[row] for row in rows]
    parameters = torch.stack([parts[part][0].parameters[row] for part, row in chosen])
    return parameters, torch.stack([parts[part][1][row] for part, row in chosen])


def _keys(inrs: WeightBatch) -> list[INRKey]:
    return list(zip(inrs.object_id.tolist(), inrs.view.tolist(), strict=True))
