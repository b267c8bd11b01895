"""The LightningModules."""

from lightning_dws.tasks.classification import ClassificationTask

__all__ = ["ClassificationTask"]
