"""Lightning callbacks: curves, pictures, embeddings, predictions, and the run's record."""

from lightning_dws.callbacks.best_checkpoints import BestCheckpoints
from lightning_dws.callbacks.curves import CALLBACK_METRICS, GradientNorm, Throughput
from lightning_dws.callbacks.edits import EditedStore, EditPictures
from lightning_dws.callbacks.embeddings import EmbeddingProjector
from lightning_dws.callbacks.folder import last_checkpoint, place_checkpoints, run_folder
from lightning_dws.callbacks.model_summary import ParameterSummary
from lightning_dws.callbacks.pictures import Pictures
from lightning_dws.callbacks.predictions import PredictionFile
from lightning_dws.callbacks.run_record import RunRecord, flatten
from lightning_dws.callbacks.scatter import ScatterPlot
from lightning_dws.callbacks.starting import start_loggers

__all__ = [
    "CALLBACK_METRICS",
    "BestCheckpoints",
    "EditPictures",
    "EditedStore",
    "EmbeddingProjector",
    "GradientNorm",
    "ParameterSummary",
    "Pictures",
    "PredictionFile",
    "RunRecord",
    "ScatterPlot",
    "Throughput",
    "flatten",
    "last_checkpoint",
    "place_checkpoints",
    "run_folder",
    "start_loggers",
]
