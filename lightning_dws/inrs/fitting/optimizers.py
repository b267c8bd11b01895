"""How the weights of a chunk of INRs are updated."""

import math
from abc import ABC, abstractmethod
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional

from lightning_dws.inrs.fitting.chunk import Chunk
from lightning_dws.inrs.fitting.fused import adam_
from lightning_dws.inrs.fitting.recipes import Recipe
from lightning_dws.inrs.fitting.spd_inverse import invert_spd

_LEAST_DAMPING = 1e-8
_LEAST_CAUTION = 1e-6
_LEAST_MOMENT = 1e-20  # keeps the inverse finite where a layer's neurons are all dead
_MOST_GROWTH = 4.0  # of an INR's error in one step


class Optimizer(ABC):
    """Updates a chunk's weights; what it remembers is per INR."""

    def __init__(self, chunk: Chunk, recipe: Recipe) -> None:
        self.chunk, self.recipe = chunk, recipe

    @abstractmethod
    def step(self, step: int) -> None:
        """Update the weights; steps count from 1."""

    @abstractmethod
    def select(self, rows: Tensor) -> Self:
        """Give the same for a chunk of some of the INRs, which goes on where this one is."""


class Adam(Optimizer):
    """Adam on the points that are a step's turn."""

    def __init__(self, chunk: Chunk, recipe: Recipe) -> None:
        super().__init__(chunk, recipe)
        self.mean, self.square, self.scratch = (torch.zeros_like(chunk.flat) for _ in range(3))
        self.rates = adam_rates(recipe).to(chunk.flat)
        self.decays = torch.tensor(recipe.betas, dtype=torch.float64).to(chunk.flat)

    def step(self, step: int) -> None:
        chunk = self.chunk
        chunk.use_block(step)
        chunk.forward()
        chunk.backward()
        adam_(
            chunk.flat,
            self.mean,
            self.square,
            chunk.gradient,
            self.scratch,
            self.rates[step - 1],
            self.decays,
        )
        chunk.weights_changed()

    def select(self, rows: Tensor) -> Self:
        chosen = type(self)(self.chunk.select(rows), self.recipe)
        for own, known in ((chosen.mean, self.mean), (chosen.square, self.square)):
            _copy_rows(chosen.chunk.split_layers(own), self.chunk.split_layers(known), rows)
        return chosen


def adam_rates(recipe: Recipe) -> Tensor:
    """Give the ``rates`` of ``fused.adam_`` for every step, (steps, 2) float64."""
    beta1, beta2 = recipe.betas
    rates = [
        (-recipe.learning_rate_at(step) / (1 - beta1**step), 1 / math.sqrt(1 - beta2**step))
        for step in range(1, recipe.steps + 1)
    ]
    return torch.tensor(rates, dtype=torch.float64)


def _copy_rows(to: list[Tensor], source: list[Tensor], rows: Tensor) -> None:
    for own, known in zip(to, source, strict=True):
        own.copy_(known[rows])


class KroneckerFactored(Optimizer):
    """Gauss-Newton steps with Kronecker-factored curvature (K-FAC) and an exact line search.

    A layer's block of the Gauss-Newton matrix is taken to be the Kronecker product of two small
    matrices: the second moments of what the layer takes in, and of the derivatives of the INR's
    outputs by what its neurons take in (Martens and Grosse, "Optimizing Neural Networks with
    Kronecker-factored Approximate Curvature", 2015, sections 2 to 4; as every point counts, the
    derivatives of the outputs themselves are used, which makes the moments exact). The step is
    then the combination of all layers' directions and all layers' last steps that lowers the
    linearised error most (the same, section 6.4 and 7, with a coefficient per layer instead of
    one for all layers).

    A step after which an INR's error is more than four times as large is not taken, and the next
    one is shorter. Smaller rises are taken: they often lead on.
    """

    def __init__(self, chunk: Chunk, recipe: Recipe) -> None:
        super().__init__(chunk, recipe)
        size, out, padded = chunk.error.shape
        new = chunk.flat.new_zeros
        self.sensitivities = [
            new(out, size, width, padded) for width in chunk.architecture.hidden_widths
        ]
        num_layers = chunk.architecture.num_layers
        self.effects = new(size, 2 * num_layers, out, padded)
        self.last_step = torch.zeros_like(chunk.flat)
        self.caution = torch.full((size, 1), _LEAST_CAUTION, dtype=torch.float64).to(
            chunk.flat.device
        )

    def step(self, step: int) -> None:
        chunk = self.chunk
        chunk.forward()
        before = chunk.block_error()
        self._differentiate()
        damping = self.recipe.damping * self.recipe.damping_decay ** (step - 1)
        directions = self._directions(max(damping, _LEAST_DAMPING))
        last_steps = chunk.split_layers(self.last_step)
        share = self._line_search(directions, last_steps) * self.recipe.learning_rate_at(step)
        known = chunk.flat.clone()
        num_layers = len(directions)
        layers = zip(chunk.weights, directions, last_steps, strict=True)
        for layer, (weight, direction, last) in enumerate(layers):
            last.mul_(share[:, layer + num_layers]).addcmul_(direction, share[:, layer])
            weight.sub_(last)
        chunk.weights_changed()
        chunk.forward()
        rejected = ~(chunk.block_error() <= _MOST_GROWTH * before)
        self.caution = torch.where(
            rejected[:, None], (10 * self.caution).clamp_min(0.1), self.caution / 4
        ).clamp_min(_LEAST_CAUTION)
        if bool(rejected.any()):
            for weight, last, old in zip(
                chunk.weights, last_steps, chunk.split_layers(known), strict=True
            ):
                weight[rejected] = old[rejected]
                last[rejected] = 0
            chunk.weights_changed()

    def select(self, rows: Tensor) -> Self:
        chosen = type(self)(self.chunk.select(rows), self.recipe)
        _copy_rows(
            chosen.chunk.split_layers(chosen.last_step),
            self.chunk.split_layers(self.last_step),
            rows,
        )
        chosen.caution = self.caution[rows]
        return chosen

    def _differentiate(self) -> None:
        """Compute how each output changes with what each hidden neuron takes in, per point."""
        chunk = self.chunk
        num_points = chunk.block.num_points
        for layer in reversed(range(len(self.sensitivities))):
            slope, weight = chunk.slopes[layer], chunk.weights[layer + 1][:, :-1]
            for output, own in enumerate(self.sensitivities[layer]):
                if layer == len(self.sensitivities) - 1:
                    torch.mul(slope, chunk.frequency * weight[:, :, output, None], out=own)
                    own[:, :, num_points:] = 0
                else:
                    above = self.sensitivities[layer + 1][output]
                    torch.baddbmm(own, weight, above, beta=0, alpha=chunk.frequency, out=own)
                    own.mul_(slope)

    def _directions(self, damping: float) -> list[Tensor]:
        """Give per layer (B, in + 1, out) the gradient times the factors' damped inverses."""
        chunk, share = self.chunk, 1 / self.chunk.block.num_points
        directions = []
        for layer, inputs in enumerate(chunk.activations):
            is_last = layer == len(self.sensitivities)
            delta = chunk.error
            if not is_last:
                delta = chunk.deltas[layer]
                for output, own in enumerate(self.sensitivities[layer]):
                    error = chunk.error[:, output, None]
                    if output == 0:
                        torch.mul(own, error, out=delta)
                    else:
                        delta.addcmul_(own, error)
            gradient = torch.baddbmm(chunk.gradients[layer], inputs, delta.mT, beta=0, alpha=share)
            moments = torch.bmm(inputs, inputs.mT)
            direction = _product(_damped_inverse(moments, share, damping), gradient)
            if not is_last:
                moments = torch.bmm(self.sensitivities[layer][0], self.sensitivities[layer][0].mT)
                for own in self.sensitivities[layer][1:]:
                    moments.baddbmm_(own, own.mT)
                direction = _product(direction, _damped_inverse(moments, share, damping))
            directions.append(direction)
        return directions

    def _line_search(self, directions: list[Tensor], last_steps: list[Tensor]) -> Tensor:
        """Give the coefficients of directions and last steps, (B, 2 L, 1, 1).

        They minimise the squared error of the outputs as linear functions of the weights.
        """
        chunk = self.chunk
        num_layers = len(directions)
        for number, change in enumerate([*directions, *last_steps]):
            layer, effect = number % num_layers, self.effects[:, number]
            inputs = chunk.activations[layer]
            if layer == num_layers - 1:
                effect.copy_(torch.bmm(change.mT, inputs))
                continue
            moved = torch.bmm(change.mT, inputs, out=chunk.deltas[layer])
            for output, own in enumerate(self.sensitivities[layer]):
                torch.sum(moved * own, dim=1, out=effect[:, output])
        effects = self.effects.flatten(2)
        products = torch.bmm(effects, effects.mT).double()
        wanted = torch.bmm(effects, chunk.error.flatten(1)[:, :, None]).double()
        scale = products.diagonal(dim1=1, dim2=2).sqrt()
        scale = torch.where(scale > 0, scale, 1.0)
        products = products / (scale[:, :, None] * scale[:, None, :])
        products.diagonal(dim1=1, dim2=2).add_(self.caution)
        share = torch.bmm(invert_spd(products), wanted / scale[:, :, None]) / scale[:, :, None]
        return share[..., None].to(chunk.flat.dtype)


def _damped_inverse(moments: Tensor, share: float, damping: float) -> Tensor:
    """Invert ``share`` times the moments (B, n, n), damped relative to their mean diagonal.

    The two factors of a layer share the damping: each gets the square root of it.
    """
    moments.mul_(share)
    diagonal = moments.diagonal(dim1=1, dim2=2)
    diagonal.add_(math.sqrt(damping) * diagonal.mean(dim=1, keepdim=True) + _LEAST_MOMENT)
    return invert_spd(moments)


def _product(left: Tensor, right: Tensor) -> Tensor:
    """Multiply matrices (B, n, m) and (B, m, k), each to the same bits at any place of the chunk.

    In a batched product an unaligned matrix meets other instructions than its neighbours where k is
    no multiple of four, so such matrices are widened. (Up to k = 4 there is one sequence for all.)
    """
    size = right.shape[-1]
    if size <= 4 or size % 4 == 0:
        return torch.bmm(left, right)
    wide = functional.pad(right, (0, -size % 16))
    return torch.bmm(left, wide)[..., :size].contiguous()


OPTIMIZERS: dict[str, type[Optimizer]] = {"adam": Adam, "kfac": KroneckerFactored}
