"""What a report says of how its figures came about."""

import textwrap
from collections.abc import Sequence

from lightning_dws.table.statistics import NUM_RESAMPLES
from lightning_dws.table.table_score import TableScore

_OF_ACCURACIES = f"""\
Accuracy is measured on the test split at the checkpoint of the best validation accuracy; mean ±
standard deviation over the seeds, in %. **Bold** is the best of a column. *Gain* is the difference
to no augmentation in points, of runs of the same seed on the same objects, with its 95 % interval:
a paired bootstrap over test objects ({NUM_RESAMPLES} resamples), and Student's t for the seeds, too
few to be resampled; with one seed it speaks of the test objects alone. No interval is corrected for
their number: of a hundred true zeros, five are expected outside."""

_GAINS = f"""\
mean ± standard deviation over the seeds. **Bold** is the best of a column. *Gain* is the difference
to no augmentation, above zero where the row is better, of runs of the same seed on the same
objects, with its 95 % interval: a paired bootstrap over test objects ({NUM_RESAMPLES} resamples; of
a score that is no mean over objects, such as R2, over their jackknife values), and Student's t for
the seeds, too few to be resampled; with one seed it speaks of the test objects alone. Where single
objects have no score, it is Student's t for the seeds alone, and one seed has no interval. No
interval is corrected for their number: of a hundred true zeros, five are expected outside."""


def describe_method(scores: Sequence[TableScore]) -> str:
    """Say how figures came about.

    Args:
        scores: What the cells of a table are compared by, each once.
    """
    if all(score.is_accuracy for score in scores):
        return _OF_ACCURACIES
    parts = "; ".join(map(_describe, scores))
    return textwrap.fill(f"Measured on the test split: {parts}. Shown: {_GAINS}", width=100)


def _describe(score: TableScore) -> str:
    best = "lower is better" if score.kind.mode == "min" else "higher is better"
    unit = ", in %, gains in points" if score.kind.in_percent else ""
    return (
        f"{score.kind.words} of {score.task} ({best}{unit}), at the checkpoint of the best "
        f"validation {score.chosen_by.words}"
    )
