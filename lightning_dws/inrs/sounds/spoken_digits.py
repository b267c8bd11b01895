"""Ten spoken digits, synthesised: a data set of sounds that needs no download."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_dws.inrs.signals import SplitOrder
from lightning_dws.inrs.signals.splits import cut_stratified
from lightning_dws.inrs.sounds.base import SoundSignals
from lightning_dws.inrs.sounds.formant_synthesis import Phone, Speaker, synthesise
from lightning_dws.randomness import hashed_uniform

# Vowels are the men's means of Peterson and Barney (1952); the rest is rough, and enough.
_IY, _IH = Phone((270, 2290, 3010)), Phone((390, 1990, 2550))
_EH, _AH = Phone((530, 1840, 2480)), Phone((640, 1190, 2390))
_AA, _AO = Phone((730, 1090, 2440), length=1.3), Phone((570, 840, 2410), length=1.5)
_UW, _UH = Phone((300, 870, 2240)), Phone((440, 1020, 2240))
_R, _W = Phone((330, 1060, 1380), 0.7, length=0.7), Phone((290, 610, 2150), 0.6, length=0.7)
_N = Phone((280, 1700, 2600), 0.35, length=0.8)
_V = Phone((280, 1100, 2400), 0.3, 0.03, (2200, 900), length=0.7)
_Z = Phone((280, 1700, 2500), 0.25, 0.12, (3300, 400), length=0.8)
_S = Phone((320, 1700, 2500), 0.0, 0.25, (3400, 400), length=1.1)
_F = Phone((320, 1100, 2400), 0.0, 0.08, (2300, 1200), length=0.9)
_TH = Phone((320, 1400, 2500), 0.0, 0.06, (2600, 1000), length=0.8)
_STOP = Phone((320, 1700, 2500), 0.0, length=0.5)
_T = Phone((320, 1800, 2600), 0.0, 0.3, (3000, 700), length=0.35)
_K = Phone((320, 1900, 2400), 0.0, 0.25, (1800, 400), length=0.35)

_WORDS: dict[str, tuple[Phone, ...]] = {
    "zero": (_Z, _IH, _R, _AO, _UH),
    "one": (_W, _AH, _N),
    "two": (_T, _UW, _UW),
    "three": (_TH, _R, _IY, _IY),
    "four": (_F, _AO, _R),
    "five": (_F, _AA, _IH, _V),
    "six": (_S, _IH, _STOP, _K, _S),
    "seven": (_S, _EH, _V, _AH, _N),
    "eight": (_EH, _IH, _STOP, _T),
    "nine": (_N, _AA, _IH, _N),
}
_SPEAKERS = (
    Speaker(105, 0.97, 0.8),
    Speaker(125, 1.0, 1.0),
    Speaker(145, 1.05, 0.9),
    Speaker(180, 1.12, 1.3),
    Speaker(205, 1.16, 1.0),
    Speaker(230, 1.2, 1.4),
)
_TAKES = 30
_SEED = 0
_NUM_SINES = 40  # of the noise


class SpokenDigits(SoundSignals):
    """1,800 spoken digits of 0.4 s at 8 kHz, synthesised: no human voice is among them.

    Six speakers (three low voices and three high ones) say each of ten words 30 times; takes differ
    in pitch, speed, vocal tract, loudness of noise and when they begin. Every speaker is in every
    split: 1,260 are for training, 180 for validation and 360 for test, stratified by digit.

    An object's id is ``(10 * speaker + digit) * 30 + take``.
    """

    name = "spoken_digits"
    classes = tuple(_WORDS)
    grid_shape = (3200,)
    rate = 8000

    def split(self, name: str) -> SplitOrder:
        label = self._label(torch.arange(len(_SPEAKERS) * len(_WORDS) * _TAKES))
        return cut_stratified(label, 0, {"train": 1260, "val": 180, "test": 360})[name]

    def __init__(self) -> None:
        self._spoken: dict[int, Tensor] = {}

    def values(self, object_id: Tensor) -> Tensor:
        values = torch.empty(len(object_id), *self.grid_shape, 1)
        for row, index in enumerate(object_id.tolist()):
            if index not in self._spoken:
                self._spoken[index] = torch.from_numpy(self._speak(index)).float()
            values[row, :, 0] = self._spoken[index]
        return values

    def _label(self, object_id: Tensor) -> Tensor:
        return object_id // _TAKES % len(_WORDS)

    def _speak(self, object_id: int) -> NDArray[np.float64]:
        uniform = hashed_uniform(_SEED, (torch.tensor([object_id]),), 6 + _NUM_SINES)
        drawn: NDArray[np.float64] = uniform[0].double().numpy()
        usual = _SPEAKERS[object_id // _TAKES // len(_WORDS)]
        pitch, scale, breath, speed, start, loudness = 2 * drawn[:6] - 1
        speaker = Speaker(
            usual.pitch * (1 + 0.08 * pitch),
            usual.formant_scale * (1 + 0.04 * scale),
            usual.breathiness * (1 + 0.3 * breath),
        )
        phones = _WORDS[self.classes[object_id // _TAKES % len(_WORDS)]]
        duration = 0.3 * (1 + 0.12 * speed)
        word = synthesise(
            phones,
            speaker,
            start=0.045 + 0.02 * start,
            duration=duration,
            num_samples=self.grid_shape[0],
            rate=self.rate,
            phases=drawn[6:],
        )
        spoken: NDArray[np.float64] = (0.9 + 0.1 * loudness) * word
        return spoken
