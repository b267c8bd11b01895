"""The LightningModules."""

from lightning_dws.tasks.base import WeightSpaceTask
from lightning_dws.tasks.classification import ClassificationTask

__all__ = ["ClassificationTask", "WeightSpaceTask"]
