"""Sounds as signals: folders of WAV files, and spoken digits that are synthesised."""

from lightning_dws.inrs.sounds.audio_folder import AudioFolder
from lightning_dws.inrs.sounds.base import SoundSignals
from lightning_dws.inrs.sounds.spoken_digits import SpokenDigits

__all__ = ["AudioFolder", "SoundSignals", "SpokenDigits"]
