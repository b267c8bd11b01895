"""Trained networks used on anything: images, arrays, networks and stores that nobody labelled."""

from lightning_dws.prediction.shared_checkpoints import load_pretrained
from lightning_dws.prediction.trained_classifier import (
    Predictions,
    TrainedClassifier,
    load_checkpoint,
)

__all__ = ["Predictions", "TrainedClassifier", "load_checkpoint", "load_pretrained"]
