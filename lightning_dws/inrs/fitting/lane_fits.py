"""INRs fitted by Adam on CPUs, each in a lane of a vector, a group at a time.

Nothing of an INR meets that of another, so that its result depends on nothing else.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_dws.inrs.fitting import lane_kernels as kernels
from lightning_dws.inrs.fitting.chunk import DIVERGED_GROWTH, psnr_of, share_points
from lightning_dws.inrs.fitting.optimizers import adam_rates
from lightning_dws.inrs.fitting.recipes import Recipe
from lightning_dws.inrs.siren import encode_points
from lightning_dws.models.lanes import LANES, to_lanes
from lightning_dws.weight_space import INRArchitecture

_WIDEST = 128  # of wider INRs, batched products are as fast, and one alone is many times as fast


def takes_lanes(architecture: INRArchitecture, recipe: Recipe, device: torch.device) -> bool:
    """Whether INRs are fitted in lanes: whatever their number is, so that each stays the same."""
    is_small = max(architecture.widths) <= _WIDEST
    return device.type == "cpu" and recipe.optimizer == "adam" and is_small


def fit_in_lanes(
    architecture: INRArchitecture,
    start: Tensor,
    signals: Tensor,
    coordinates: Tensor,
    recipe: Recipe,
) -> tuple[Tensor, Tensor]:
    """Take all steps of a recipe.

    Args:
        architecture: Of the INRs.
        start: (B, P) their weights.
        signals: (B, N, out).
        coordinates: (N, d), or (B, N, d).
        recipe: Of Adam.

    Returns:
        Weights (B, P) and PSNR (B,) in dB: minus infinity for an INR whose fit diverged, which
        keeps its start.
    """
    parameters, psnr = start.clone(), signals.new_empty(len(start))
    for rows in torch.arange(len(start)).split(LANES):
        points = coordinates if coordinates.ndim == 2 else coordinates[rows]
        group = Group(architecture, start[rows], signals[rows], points, recipe)
        parameters[rows], error = group.fit()
        psnr[rows] = psnr_of(error)
    return parameters, psnr


class Group:
    """Up to as many INRs as a vector has lanes.

    Args:
        architecture: Of the INRs.
        start: (B, P) their weights.
        signals: (B, N, out).
        coordinates: (N, d), or (B, N, d).
        recipe: Of Adam.

    Attributes:
        weights: (entries, lanes) as the kernels have them; a lane without an INR repeats the last.
        gradient: The same of the mean squared error.
        layers: What the kernels know of the architecture.
        bounds: Between blocks of points, which take turns.
    """

    def __init__(
        self,
        architecture: INRArchitecture,
        start: Tensor,
        signals: Tensor,
        coordinates: Tensor,
        recipe: Recipe,
    ) -> None:
        self.recipe, self.size = recipe, len(start)
        own_inputs = coordinates.ndim == 3
        self.layers, self._places = _lay_out(architecture, own_inputs)
        parts = share_points(signals.shape[1], recipe.points_per_step)
        order = torch.cat(parts)
        self.bounds = np.cumsum([0, *map(len, parts)])
        points = encode_points(architecture, coordinates[..., order, :])
        self.inputs = _flat(to_lanes(points) if own_inputs else points)
        self.targets = _flat(to_lanes(signals[:, order] - architecture.output_offset))
        self.weights = start.new_zeros(int(self.layers.starts[-1]), LANES)
        self.weights[self._places] = to_lanes(start)[0]
        self.mean, self.square, self.gradient = (torch.zeros_like(self.weights) for _ in range(3))
        self.rooms = kernels.make_rooms(self.layers)

    def rows(self, entries: Tensor) -> Tensor:
        """Give what the kernels have of the INRs as rows (B, P)."""
        return entries[self._places].T[: self.size]

    def fit(self) -> tuple[Tensor, Tensor]:
        """Give the fitted weights (B, P) and their error (B,), infinite where the fit diverged."""
        recipe = self.recipe
        target = 0.0 if recipe.target_psnr is None else 10 ** (-recipe.target_psnr / 10)
        best, best_error = self.weights.clone(), self.mean_squared_error()
        most = DIVERGED_GROWTH * best_error.clamp_min(0.01)
        running = torch.ones(LANES, dtype=torch.bool)
        rates = adam_rates(recipe).float().numpy()
        for first in range(0, recipe.steps, recipe.check_every):
            taken = rates[first : first + recipe.check_every]
            self._take_steps(first, taken)
            error = self.mean_squared_error()
            diverged = running & ~((error <= most) & error.isfinite())
            best_error[diverged] = torch.inf
            last = first + len(taken) == recipe.steps
            stopping = running & ~diverged & ((error <= target) | last)
            best[:, stopping], best_error[stopping] = self.weights[:, stopping], error[stopping]
            running &= ~(diverged | stopping)
            if not running.any():
                break
        return self.rows(best), best_error[: self.size]

    def find_gradient(self, block: int) -> None:
        """Write the gradient of the mean squared error at a block of points."""
        first, stop = self.bounds[block : block + 2]
        weights, gradient = _flat(self.weights), _flat(self.gradient)
        kernels.find_gradient(
            self.layers, weights, self.inputs, self.targets, first, stop, self.rooms, gradient
        )

    def mean_squared_error(self) -> Tensor:
        """Compute the mean squared error over all points, (lanes,)."""
        total, stop = self.weights.new_empty(LANES), self.bounds[-1]
        weights = _flat(self.weights)
        kernels.squared_error(
            self.layers, weights, self.inputs, self.targets, 0, stop, self.rooms, _flat(total)
        )
        return total / (int(stop) * int(self.layers.widths[-1]))

    def _take_steps(self, first: int, rates: Any) -> None:
        kernels.take_steps(
            self.layers,
            *map(_flat, (self.weights, self.mean, self.square, self.gradient)),
            self.inputs,
            self.targets,
            self.bounds,
            first,
            rates,
            np.array(self.recipe.betas, np.float32),
            self.rooms,
        )


def _lay_out(architecture: INRArchitecture, own_inputs: bool) -> tuple[kernels.Layers, Tensor]:
    """Say where a kernel finds what, and where the parameters of a row are among the entries."""
    shapes = [(n_in, n_out) for n_out, n_in in architecture.weight_shapes]
    starts = np.cumsum([0, *((n_in + 1) * (n_out | 1) for n_in, n_out in shapes)])
    is_sine = architecture.activation == "sine"
    layers = kernels.Layers(
        widths=np.array([shapes[0][0], *(n_out for _, n_out in shapes)]),
        starts=starts,
        rooms=np.cumsum([0, *(n_out | 1 for _, n_out in shapes)]),
        is_sine=is_sine,
        frequency=np.float32(architecture.w0 if is_sine else 1),
        own_inputs=own_inputs,
    )
    places = []
    for start, (n_in, n_out) in zip(starts.tolist(), shapes, strict=False):
        weights = start + torch.arange(n_in + 1)[:, None] * (n_out | 1) + torch.arange(n_out)
        places += [weights[:-1].T.flatten(), weights[-1]]
    return layers, torch.cat(places)


def _flat(x: Tensor) -> Any:
    return x.reshape(-1).numpy()
