"""Bring every parameter tensor of the networks to zero mean and unit variance."""

import warnings
from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lightning_dws.models.index_tensors import IndexTensors
from lightning_dws.weight_space import Architecture

Rows = Float[Tensor, "batch parameters"]

_ROWS_AT_ONCE = 4096


class Standardize(IndexTensors):
    """Standardise rows of weights with one mean and std per weight matrix and per bias vector.

    Statistics per entry would break the permutation symmetry. The identity until ``fit``; the
    statistics are buffers, so a checkpoint holds them. A training that meets the identity is
    warned once, since networks learn little from raw weights: ``fit`` it on the training rows
    (``ClassificationTask`` does), load a checkpoint, or say ``keep_identity``.

    Attributes:
        mean: In the order of a row: of INRs weight 0, bias 0, weight 1, bias 1, ...
        std: Likewise.
    """

    mean: Float[Tensor, "tensors"]
    std: Float[Tensor, "tensors"]
    _tensor_of_entry: Tensor

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        sizes = torch.tensor([spec.num_entries for spec in architecture.tensors])
        self.register_buffer("mean", torch.zeros(len(sizes)))
        self.register_buffer("std", torch.ones(len(sizes)))
        owner = torch.repeat_interleave(torch.arange(len(sizes)), sizes)
        self.set_index("_tensor_of_entry", owner)
        self._is_settled = False

    def keep_identity(self) -> None:
        """Train on the weights as they are, on purpose."""
        self._is_settled = True

    @torch.no_grad()
    def fit(self, parameters: Rows | Iterable[Rows]) -> None:
        """Set the statistics to those of a training set, whole or in chunks that are read once.

        A std of zero, of a single value, or too small to divide by (below the smallest normal
        number of float32, about 1e-38) counts as 1.

        Raises:
            ValueError: No rows, or rows of another length.
        """
        chunks = [parameters] if isinstance(parameters, Tensor) else parameters
        length, kinds = len(self._tensor_of_entry), len(self.mean)
        shift: Tensor | None = (
            None  # some value of each tensor: a constant's deviation is exactly 0
        )
        count = torch.zeros(kinds, dtype=torch.float64)
        total, square_total = torch.zeros_like(count), torch.zeros_like(count)
        owner = self._tensor_of_entry.cpu()
        for chunk in chunks:
            if chunk.ndim != 2 or chunk.shape[1] != length:
                raise ValueError(
                    f"parameters must have shape (N, {length}), got {tuple(chunk.shape)}"
                )
            for rows in chunk.split(_ROWS_AT_ONCE):
                if len(rows) == 0:
                    continue
                rows = rows.double()
                if shift is None:
                    first_entry = torch.searchsorted(owner, torch.arange(kinds))
                    shift = rows[0, first_entry.to(rows.device)]
                rows = rows - shift[owner.to(rows.device)]
                count += len(rows) * owner.bincount(minlength=kinds)
                total.index_add_(0, owner, rows.sum(0).cpu())
                square_total.index_add_(0, owner, rows.square_().sum(0).cpu())
        if shift is None:
            raise ValueError("parameters must hold at least one row, got none")
        variance = (square_total - total.square() / count).clamp(min=0) / (count - 1).clamp(min=1)
        std = variance.sqrt()
        self.mean.copy_(shift.cpu() + total / count)
        smallest = torch.finfo(self.std.dtype).tiny
        self.std.copy_(torch.where(std >= smallest, std, 1.0))
        self._is_settled = True

    def forward(self, parameters: Rows) -> Rows:
        """Standardise rows."""
        if self.training and not self._is_settled:
            self._warn_of_identity()
        scale = self.std.reciprocal()
        shift = -self.mean * scale
        return torch.addcmul(
            shift.to(parameters.dtype)[self._tensor_of_entry],
            parameters,
            scale.to(parameters.dtype)[self._tensor_of_entry],
        )

    def _warn_of_identity(self) -> None:
        self._is_settled = True  # once
        if bool((self.mean == 0).all()) and bool((self.std == 1).all()):
            warnings.warn(
                "trained on weights that are not standardised; call "
                "network.standardize.fit(parameters) with the training rows (N, P) first, or "
                "network.standardize.keep_identity() to train on them as they are",
                stacklevel=4,
            )

    def _load_from_state_dict(self, *args: Any) -> None:
        super()._load_from_state_dict(*args)
        self._is_settled = True
