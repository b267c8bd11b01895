"""Sounds as signals: amplitude over time, as INRs with one input and one output."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lightning_dws.inrs.signals.base import SignalDataset, line_coordinates
from lightning_dws.inrs.siren import evaluate_inrs
from lightning_dws.weight_space import WeightBatch

SNR = "snr"


class SoundSignals(SignalDataset):
    """Sounds of one length in samples; subclasses give their amplitudes, with a peak of at most 1.

    Time runs from -1 to 1. Beside the PSNR, for a peak of 1, of every INR its signal-to-noise ratio
    is kept, in dB: the signal's power over the error's.

    Attributes:
        rate: Samples in a second.
        normalise: Whether files become such signals by making their peaks 1; else a file's full
            scale is 1.
    """

    rate: int
    normalise: bool = False
    measures = (SNR,)

    @property
    def preparation(self) -> dict[str, Any]:
        return {"kind": "sounds", "rate": self.rate, "normalise": self.normalise}

    @property
    def coordinates(self) -> Tensor:
        return line_coordinates(*self.grid_shape)

    def measure(self, inrs: WeightBatch) -> dict[str, Tensor]:
        points = self.coordinates.to(inrs.device)
        ratios = []
        with torch.no_grad():
            for inr in inrs:  # one by one: on CPUs no bit depends on the others
                found = evaluate_inrs(inr, points)[0].cpu()
                signal = self.values(inr.object_id.cpu())[0].double()
                error = found.double() - signal
                ratios.append(10 * torch.log10(signal.square().sum() / error.square().sum()))
        return {SNR: torch.stack(ratios).float() if ratios else torch.empty(0)}


def encodes_sound(measures: Sequence[str]) -> bool:
    """Tell by what is known of INRs with one input whether they encode sounds."""
    return SNR in measures
