"""From disk to device."""

from lightning_dws.data.datamodule import INRDataModule

__all__ = ["INRDataModule"]
