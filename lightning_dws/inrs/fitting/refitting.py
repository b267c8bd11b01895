"""INRs whose fit failed, fitted again at lower learning rates.

Too high a rate for an architecture or a signal ends in an INR that says no more than one colour,
with an error that is finite: nothing else would tell it.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_dws.inrs.fitting.recipes import Recipe

FitRows = Callable[[Tensor, Recipe], tuple[Tensor, Tensor]]

_LOWER_RATES = (1 / 4, 1 / 16)  # of the recipe's
_FAILED_SHARE = 0.8  # of the signal's variance that is left as error; small INRs may leave half
_GOOD_PSNR = 30.0  # dB; of a signal that hardly varies, a good fit may leave as much
_LEAST_GAIN = 3.0  # dB; less is no other fit


class Refitted(NamedTuple):
    """Weights (B, P) and PSNR (B,) of B INRs, and how many of them are of a lower rate."""

    parameters: Tensor
    psnr: Tensor
    num_refitted: int


def fit_again_where_failed(fit: FitRows, rows: Tensor, signals: Tensor, recipe: Recipe) -> Refitted:
    """Fit INRs, and those that failed again, at a quarter and a sixteenth of the learning rate.

    An INR failed where its error is more than four fifths of its signal's variance, so that it
    says little more than one colour. A second fit replaces the first where it is better by three
    decibels; what is kept depends on the INR alone.

    Args:
        fit: Fits the INRs of row numbers (b,) by a recipe; gives weights (b, P) and PSNR (b,) in
            dB, minus infinity for one that is lost.
        rows: (B,) row numbers.
        signals: (B, N, out): what they are fitted to.
        recipe: The first to be tried.
    """
    parameters, psnr = fit(rows, recipe)
    variance = signals.double().var(dim=1, correction=0).mean(dim=1)
    least = (-10 * torch.log10(_FAILED_SHARE * variance)).clamp_max(_GOOD_PSNR)
    refitted = torch.zeros(len(rows), dtype=torch.bool, device=rows.device)
    for share in _LOWER_RATES:
        failed = (psnr < least).nonzero()[:, 0]
        if len(failed) == 0:
            break
        lower = replace(recipe, learning_rate=share * recipe.learning_rate)
        found, found_psnr = fit(rows[failed], lower)
        better = found_psnr > psnr[failed] + _LEAST_GAIN
        failed = failed[better]
        parameters[failed], psnr[failed] = found[better], found_psnr[better]
        refitted[failed] = True
    return Refitted(parameters, psnr, int(refitted.sum()))
