"""Arrays of numbers as signals: series, fields of several channels, and volumes."""

from lightning_dws.inrs.signals.arrays.array_folder import ArrayFolder

__all__ = ["ArrayFolder"]
