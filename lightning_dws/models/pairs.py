"""Features of pairs of nodes: linear maps, and chunks that fit in memory."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

Pairs = Float[Tensor, "batch channels queries nodes"]

_BYTES_AT_ONCE = {"cpu": 4 * 2**20, "cuda": 2**30}  # of the widest tensor of pairs: cache, memory


def in_one_dtype(function: Callable[..., Any], *tensors: Tensor | None) -> Any:
    """Call a function outside autocast, with floating tensors in its dtype where it is on."""
    device = next(tensor.device.type for tensor in tensors if tensor is not None)
    if not torch.is_autocast_enabled(device):
        return function(*tensors)
    dtype = torch.get_autocast_dtype(device)
    with torch.autocast(device, enabled=False):
        return function(
            *(
                tensor.to(dtype) if tensor is not None and tensor.is_floating_point() else tensor
                for tensor in tensors
            )
        )


def chunks(edges: Pairs, channels: int) -> list[slice]:
    """Split a batch so that a tensor of pairs with that many channels fits where it should."""
    size = channels * edges.shape[2] * edges.shape[3] * edges.element_size()
    step = max(1, _BYTES_AT_ONCE.get(edges.device.type, 2**30) // size)
    return [slice(start, start + step) for start in range(0, len(edges), step)]


def map_pairs(
    matrix: Float[Tensor, "out in"], pairs: Float[Tensor, "batch in queries nodes"]
) -> Float[Tensor, "batch out queries nodes"]:
    """Map the channels of pairs by a matrix."""
    mapped = torch.bmm(matrix.expand(len(pairs), -1, -1), pairs.flatten(2))
    return mapped.unflatten(2, pairs.shape[2:])  # type: ignore[no-any-return]


def outer(
    left: Float[Tensor, "batch left queries nodes"],
    right: Float[Tensor, "batch right queries nodes"],
) -> Float[Tensor, "left right"]:
    """Sum the outer products of two features of pairs."""
    return torch.bmm(left.flatten(2), right.flatten(2).mT).sum(0)


def add_map(
    total: Float[Tensor, "batch out queries nodes"],
    matrix: Float[Tensor, "out in"],
    pairs: Float[Tensor, "batch in queries nodes"],
) -> Float[Tensor, "batch out queries nodes"]:
    """Add the mapped channels of pairs to a contiguous total, in place."""
    total.flatten(2).baddbmm_(matrix.expand(len(pairs), -1, -1), pairs.flatten(2))
    return total
