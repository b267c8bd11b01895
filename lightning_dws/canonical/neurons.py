"""Canonical signs, phases and order of hidden neurons, each decided layer by layer."""

import math
from typing import Literal

import torch
from torch import Tensor

from lightning_dws.augmentations.base import copy_parameters
from lightning_dws.augmentations.symmetry import reorder, require_sine
from lightning_dws.canonical.base import CanonicalForm
from lightning_dws.weight_space import Architecture, WeightBatch, require_inrs

# Of half a period: where the sine's turns are cut. Biases at exactly half of one, which rounding
# would put to either side, are away from the cut.
_CUT = 0.5 + 1e-4


class Phases(CanonicalForm):
    """Bring every hidden bias of a SIREN within a quarter period of zero. The function is kept.

    ``sin(w0 (z + k pi / w0)) = (-1)^k sin(w0 z)``: the bias moves by ``k pi / w0`` to within
    ``± pi / (2 w0)``, and the outgoing column changes sign where k is odd. This undoes
    ``SirenBias``, up to the rounding of the bias, at every hidden layer.
    """

    rank = 0

    def check_architecture(self, architecture: Architecture) -> None:
        require_sine("Phases", "it needs a periodic activation", architecture)

    def __call__(self, batch: WeightBatch) -> WeightBatch:
        self.check_architecture(batch.architecture)
        moved = copy_parameters(batch)
        weights, biases = moved.weights, moved.biases
        step = math.pi / require_inrs(batch.architecture, "Phases").w0
        for bias, outgoing in zip(biases[:-1], weights[1:], strict=True):
            exact = bias.double()
            shift = torch.ceil(exact / step - _CUT)
            bias.copy_(exact - shift * step)
            outgoing.mul_((1 - 2 * shift.remainder(2)).to(bias.dtype)[:, None, :])
        return moved


class Signs(CanonicalForm):
    """Make one weight of every hidden neuron of a SIREN positive. The function is kept exactly.

    Sine is odd: a neuron's incoming row and bias and its outgoing column change sign together. This
    undoes ``SirenNegation``. A neuron whose row and bias are zero has no sign and puts out zero;
    its outgoing column, which says nothing, becomes zero.

    Args:
        by: What is made positive: ``"weight"``, the largest incoming weight by magnitude
            (the first of several), or ``"bias"``; the other one where that is zero.

    Raises:
        ValueError: An unknown ``by``; at the first batch, the INRs are not sine networks.
    """

    rank = 1

    def __init__(self, by: Literal["weight", "bias"] = "weight") -> None:
        if by not in ("weight", "bias"):
            raise ValueError(f"by must be 'weight' or 'bias', got {by!r}")
        self.by = by

    def check_architecture(self, architecture: Architecture) -> None:
        require_sine("Signs", "it needs an odd activation", architecture)

    def __call__(self, batch: WeightBatch) -> WeightBatch:
        self.check_architecture(batch.architecture)
        fixed = copy_parameters(batch)
        weights, biases = fixed.weights, fixed.biases
        for incoming, bias, outgoing in zip(weights[:-1], biases[:-1], weights[1:], strict=True):
            largest = incoming.gather(2, incoming.abs().argmax(2, keepdim=True))[:, :, 0]
            first, second = (largest, bias) if self.by == "weight" else (bias, largest)
            sign = torch.where(first == 0, second, first).sign()  # 0 for a neuron of zeros
            incoming.mul_(sign[:, :, None])
            bias.mul_(sign)
            outgoing.mul_(sign[:, None, :])
        return fixed


class SortedNeurons(CanonicalForm):
    """Sort hidden neurons by the norm of their incoming weights. The function is kept exactly.

    This undoes ``Permutation``, for every activation. Signs and phases do not change the norm.
    Neurons of the same norm are in the order of their biases, then of their incoming weights, then
    of their outgoing weights, sorted. So only neurons that compute the same, and whose outgoing
    weights are the same in another order, are told apart by their place.
    """

    rank = 2

    def __call__(self, batch: WeightBatch) -> WeightBatch:
        ordered = copy_parameters(batch)
        for group in batch.architecture.groups:
            places = [
                (spec, axis, tensor)
                for spec, tensor in zip(batch.architecture.tensors, ordered.tensors, strict=True)
                for axis, name in enumerate(spec.axes)
                if name == group
            ]
            incoming = [x.flatten(2) for spec, axis, x in places if spec.is_weight and axis == 0]
            biases = [x[..., None] for spec, _, x in places if not spec.is_weight]
            outgoing = [tensor.movedim(2, 1).flatten(2) for _, axis, tensor in places if axis == 1]
            order = _order(*(torch.cat(each, 2) for each in (incoming, biases, outgoing) if each))
            for _, axis, tensor in places:
                tensor.copy_(reorder(tensor, axis, order))
        return ordered


def _order(incoming: Tensor, *others: Tensor) -> Tensor:
    """Give the neurons of a group in order, (B, n) int64; each tensor is (B, n, K)."""
    *bias, outgoing = others
    norm = incoming.double().square().sum(dim=2)
    ascending, order = norm.sort(dim=1, stable=True)
    tied = (ascending.diff(dim=1) == 0).any(dim=1).nonzero()[:, 0]
    if len(tied):
        keys = [norm[..., None], *bias, incoming, outgoing.sort(dim=2).values]
        order[tied] = _lexicographic_order(torch.cat([key[tied] for key in keys], dim=2))
    return order


def _lexicographic_order(keys: Tensor) -> Tensor:
    """Sort rows of keys (B, n, K) by the first, where equal by the second, and so on: (B, n)."""
    order = torch.arange(keys.shape[1], device=keys.device).repeat(len(keys), 1)
    for key in reversed(keys.unbind(dim=2)):
        order = order.gather(1, key.gather(1, order).argsort(dim=1, stable=True))
    return order
