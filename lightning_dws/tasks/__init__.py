"""The LightningModules."""

from lightning_dws.tasks.base import WeightSpaceTask
from lightning_dws.tasks.choosing import DEFAULT_TASK, TASKS, find_task, named_task
from lightning_dws.tasks.classification import ClassificationTask
from lightning_dws.tasks.contrastive import ContrastiveTask
from lightning_dws.tasks.editing import EditingTask
from lightning_dws.tasks.measured import ScoreKind
from lightning_dws.tasks.regression import RegressionTask

__all__ = [
    "DEFAULT_TASK",
    "TASKS",
    "ClassificationTask",
    "ContrastiveTask",
    "EditingTask",
    "RegressionTask",
    "ScoreKind",
    "WeightSpaceTask",
    "find_task",
    "named_task",
]
