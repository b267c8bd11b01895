"""Predictions as a CSV file."""

import csv
import io
import math
from pathlib import Path

from lightning_dws.errors import DataError
from lightning_dws.files import make_directory, write_atomically
from lightning_dws.prediction.trained_classifier import Predictions


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Write a row for every INR: name, true class where it is known, prediction, PSNR, shares.

    Raises:
        DataError: The file cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    has_labels = any(label is not None for label in predictions.labels)
    writer.writerow(
        [
            "name",
            *(["label"] if has_labels else []),
            "prediction",
            "psnr",
            *(f"probability {name}" for name in predictions.classes),
        ]
    )
    psnr = [math.nan] * len(predictions) if predictions.psnr is None else predictions.psnr.tolist()
    for row, name in enumerate(predictions.names):
        writer.writerow(
            [
                name,
                *([predictions.labels[row] or ""] if has_labels else []),
                predictions.class_names[row],
                "" if math.isnan(psnr[row]) else f"{psnr[row]:.2f}",
                *(f"{share:.6f}" for share in predictions.probabilities[row].tolist()),
            ]
        )
    if path.is_dir():
        raise DataError(f"{path}: is a folder, expected the name of a file")
    make_directory(path.parent)
    write_atomically(path, text.getvalue().encode(errors="surrogateescape"))
