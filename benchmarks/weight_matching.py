"""Weight matching in plain PyTorch and SciPy: what our kernels are compared and timed with.

All pairs of a batch take every step together; SciPy solves the assignments one by one.
"""

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from lightning_dws import WeightBatch
from lightning_dws.augmentations.symmetry import take_rows

_RELATIVE_GAIN = 1e-12  # of a step; less might be rounding, and cycle


@torch.no_grad()
def match_at_once(a: WeightBatch, b: WeightBatch, signed: bool) -> tuple[Tensor, Tensor]:
    """Give which of b's neurons stands where, per hidden neuron, and its sign."""
    matching = _match_permutations(a, b)
    if signed:
        from_incoming = WeightMatching(a, b, signed=True)
        from_incoming.assign_from_incoming()
        from_incoming.descend()
        matching.signed = True
        matching.forget_assignments()
        matching.descend()
        matching.take_where(
            from_incoming.squared_distance() < matching.squared_distance(), from_incoming
        )
    return torch.cat(matching.permutations, 1), torch.cat(matching.signs, 1)


def _match_permutations(a: WeightBatch, b: WeightBatch) -> "WeightMatching":
    """Match by permutations alone, never farther apart than unaligned."""
    matching = WeightMatching(a, b, signed=False)
    unaligned = matching.squared_distance()
    matching.assign_from_incoming()
    matching.descend()
    farther = (matching.squared_distance() > unaligned).nonzero()[:, 0]
    if len(farther) > 0:
        redone = WeightMatching(a[farther], b[farther], signed=False)
        redone.descend()
        matching.take(farther, redone)
    return matching


class WeightMatching:
    """A batch of pairs on their way to alignment: b's weights as moved so far, in float64.

    Args:
        a: B INRs that stay.
        b: B INRs that move; not changed.
        signed: Whether hidden neurons may be negated.

    Attributes:
        permutations: How b's neurons have moved, per hidden layer, (B, n_l) int64.
        signs: Per hidden layer, (B, n_l) float64 of ±1.
    """

    def __init__(self, a: WeightBatch, b: WeightBatch, *, signed: bool) -> None:
        self.signed = signed
        widths = b.architecture.hidden_widths
        size, device = len(b), b.device
        self.permutations = [
            torch.arange(n, device=device).expand(size, n).contiguous() for n in widths
        ]
        self.signs = [torch.ones(size, n, device=device, dtype=torch.float64) for n in widths]
        self._fixed = _Layers(a)
        self._moved = _Layers(b)
        norms = a.parameters.double().norm(dim=1) * b.parameters.double().norm(dim=1)
        self._least_gain = _RELATIVE_GAIN * norms
        self.forget_assignments()

    def squared_distance(self) -> Tensor:
        """Give the squared distance (B,) between a and b as moved so far."""
        tensors = zip(self._fixed.tensors(), self._moved.tensors(), strict=True)
        parts = [(fixed - moved).square().flatten(1).sum(dim=1) for fixed, moved in tensors]
        return torch.stack(parts).sum(dim=0)

    def forget_assignments(self) -> None:
        """Take every layer's assignment as not yet solved."""
        size, device = len(self._least_gain), self._least_gain.device
        self._unsolved = [
            torch.ones(size, device=device, dtype=torch.bool) for _ in self.permutations
        ]

    def assign_from_incoming(self) -> None:
        """Assign layer by layer from incoming weights and biases alone, closer or not."""
        pairs = torch.arange(len(self._least_gain), device=self._least_gain.device)
        for layer in range(len(self.permutations)):
            scores = self._incoming_scores(layer, pairs)
            assignment, sign, _ = self._solve(scores)
            self._move(layer, pairs, assignment, sign)

    def descend(self) -> None:
        """Sweep until no assignment changes."""
        while self.sweep():
            pass

    def sweep(self) -> bool:
        """Re-assign each hidden layer in turn, given its neighbours, where that gets closer.

        Returns:
            Whether anything moved. The squared distance of no pair has grown.
        """
        moved = False
        for layer, unsolved in enumerate(self._unsolved):
            pairs = unsolved.nonzero()[:, 0]
            if len(pairs) == 0:
                continue
            unsolved.fill_(False)
            scores = self._incoming_scores(layer, pairs)
            outgoing = (side.weights[layer + 1] for side in (self._fixed, self._moved))
            fixed, others = (_select(weight, pairs) for weight in outgoing)
            scores.baddbmm_(fixed.mT, others)
            assignment, sign, total = self._solve(scores)
            gain = total - scores.diagonal(dim1=1, dim2=2).sum(dim=1)
            closer = gain > self._least_gain[pairs]
            pairs = pairs[closer]
            if len(pairs) == 0:
                continue
            self._move(layer, pairs, assignment[closer], sign[closer])
            for neighbour in (layer - 1, layer + 1):
                if 0 <= neighbour < len(self._unsolved):
                    self._unsolved[neighbour][pairs] = True
            moved = True
        return moved

    def take(self, pairs: Tensor, other: "WeightMatching") -> None:
        """Replace some pairs (K,) by those of another matching of K pairs."""
        for own, others in zip(self._state(), other._state(), strict=True):
            own[pairs] = others

    def take_where(self, condition: Tensor, other: "WeightMatching") -> None:
        """Replace the pairs where the condition (B,) holds by those of another matching."""
        for own, others in zip(self._state(), other._state(), strict=True):
            own[condition] = others[condition]

    def _state(self) -> list[Tensor]:
        return [*self.permutations, *self.signs, *self._moved.tensors()]

    def _incoming_scores(self, layer: int, pairs: Tensor) -> Tensor:
        """Give the inner products (K, n, n) of a's with b's incoming weights and biases."""
        sides = (self._fixed, self._moved)
        fixed_weight, moved_weight = (_select(side.weights[layer], pairs) for side in sides)
        fixed_bias, moved_bias = (_select(side.biases[layer], pairs) for side in sides)
        products = fixed_bias[:, :, None] * moved_bias[:, None, :]
        return products.baddbmm_(fixed_weight, moved_weight.mT)

    def _solve(self, scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Give the best assignment (K, n), its signs (K, n) and its total score (K,)."""
        assignment = solve_assignments(scores.abs() if self.signed else scores)
        chosen = scores.gather(2, assignment[:, :, None])[:, :, 0]
        if not self.signed:
            return assignment, torch.ones_like(chosen), chosen.sum(dim=1)
        sign = torch.where(chosen < 0, -1.0, torch.ones_like(chosen))
        return assignment, sign, chosen.abs().sum(dim=1)

    def _move(self, layer: int, pairs: Tensor, assignment: Tensor, sign: Tensor) -> None:
        """Reorder and negate the neurons of one layer of some pairs."""
        incoming = _select(self._moved.weights[layer], pairs)
        outgoing = _select(self._moved.weights[layer + 1], pairs)
        bias = _select(self._moved.biases[layer], pairs).gather(1, assignment)
        own_sign = _select(self.signs[layer], pairs).gather(1, assignment)
        permutation = _select(self.permutations[layer], pairs).gather(1, assignment)
        incoming = take_rows(incoming, assignment)
        outgoing = outgoing.gather(2, assignment[:, None, :].expand_as(outgoing))
        if self.signed:
            incoming *= sign[:, :, None]
            outgoing *= sign[:, None, :]
            bias *= sign
            own_sign *= sign
        _store(self._moved.weights, layer, pairs, incoming)
        _store(self._moved.weights, layer + 1, pairs, outgoing)
        _store(self._moved.biases, layer, pairs, bias)
        _store(self.signs, layer, pairs, own_sign)
        _store(self.permutations, layer, pairs, permutation)


def _select(tensor: Tensor, pairs: Tensor) -> Tensor:
    """Give the rows of some pairs; of all, which ascend, without a copy."""
    return tensor if len(pairs) == len(tensor) else tensor[pairs]


def _store(tensors: list[Tensor], layer: int, pairs: Tensor, rows: Tensor) -> None:
    """Replace the rows of some pairs in one layer's tensor."""
    if len(pairs) == len(tensors[layer]):
        tensors[layer] = rows
    else:
        tensors[layer][pairs] = rows


class _Layers:
    """The weights (B, out, in) and biases (B, out) of a batch, copied in float64."""

    def __init__(self, batch: WeightBatch) -> None:
        contiguous = torch.contiguous_format
        self.weights = [weight.double().clone(memory_format=contiguous) for weight in batch.weights]
        self.biases = [bias.double().clone(memory_format=contiguous) for bias in batch.biases]

    def tensors(self) -> list[Tensor]:
        return [*self.weights, *self.biases]


def solve_assignments(scores: Tensor) -> Tensor:
    """Find the permutation (B, n) of the largest total score of matrices (B, n, n)."""
    costs = scores.neg().cpu().numpy()
    solved = np.empty(costs.shape[:2], dtype=np.int64)
    for number, cost in enumerate(costs):
        solved[number] = linear_sum_assignment(cost)[1]
    return torch.from_numpy(solved).to(scores.device)
