"""How strong which frequencies are when, as an image."""

import math

import torch
from torch import Tensor

_COLUMNS = 96
_RANGE_DB = 60.0  # below the loudest, from white to black


def spectrogram(lines: Tensor) -> Tensor:
    """Draw lines as spectrograms.

    Args:
        lines: (B, points, out), of which the first output is drawn.

    Returns:
        (B, frequencies, times, 1) in [0, 1], decibels below each line's loudest: time runs to the
        right, and frequency up to half of the points' rate.
    """
    points = lines.shape[1]
    window = 2 ** max(2, min(8, int(math.log2(points)) - 3))
    found = torch.stft(
        lines[..., 0].float(),
        window,
        hop_length=max(1, points // _COLUMNS),
        window=torch.hann_window(window),
        pad_mode="constant",
        return_complex=True,
    )
    power = found.abs().square()
    loudest = power.amax(dim=(1, 2), keepdim=True).clamp_min(torch.finfo(power.dtype).tiny)
    decibels = 10 * torch.log10((power / loudest).clamp_min(10 ** (-_RANGE_DB / 10)))
    return (1 + decibels / _RANGE_DB).flip(1)[..., None]
