"""Loss and accuracies of an epoch."""

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.wrappers.abstract import WrapperMetric

_TOP = 5


class Scores(Metric):
    """Mean loss and accuracies over all INRs of all batches and ranks.

    They equal torchmetrics' ``MulticlassAccuracy`` (micro, top five, macro), whose updates, one of
    each, take ten times as long as counting once what all of them need, and make a GPU wait at
    every step for its counts. Nor do the means of others do for the loss: Lightning's averages the
    number of INRs over the ranks as an integer, so rounded down, and torchmetrics' (1.9) ignores
    weights unless it looks for NaNs, which makes a GPU wait.

    Args:
        num_classes: K. Of at most five classes the best five are not counted, they are always all.
    """

    full_state_update = False
    total_loss: Tensor
    count: Tensor
    right: Tensor
    labelled: Tensor
    predicted: Tensor
    right_in_top: Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.names = ["loss", "accuracy", "accuracy_top5", "accuracy_macro"]
        if num_classes <= _TOP:
            self.names.remove("accuracy_top5")
        self.add_state("total_loss", torch.tensor(0.0), dist_reduce_fx="sum")
        for name in ("count", "right_in_top"):
            self.add_state(name, torch.tensor(0), dist_reduce_fx="sum")
        for name in ("right", "labelled", "predicted"):  # by class
            counts = torch.zeros(num_classes, dtype=torch.int64)
            self.add_state(name, counts, dist_reduce_fx="sum")

    def update(self, loss: Tensor, logits: Tensor, label: Tensor) -> None:
        """Add a batch: its mean loss, logits (B, K) and labels (B,); a GPU is not waited for."""
        self.total_loss += loss * len(label)
        self.count += len(label)
        predictions = logits.argmax(dim=1)
        is_right = (predictions == label).to(torch.int64)
        self.right.index_add_(0, label, is_right)
        ones = torch.ones_like(label)
        self.labelled.index_add_(0, label, ones)
        self.predicted.index_add_(0, predictions, ones)
        if self.num_classes > _TOP:
            best = logits.topk(_TOP, dim=1).indices
            self.right_in_top += (best == label[:, None]).sum()

    def compute(self) -> dict[str, Tensor]:
        """Give the scores by name; a class that is neither a label nor predicted is left out."""
        scores = {
            "loss": self.total_loss / self.count,
            "accuracy": self.right.sum() / self.count,
            "accuracy_top5": self.right_in_top / self.count,
            "accuracy_macro": self._macro_average(),
        }
        return {name: scores[name] for name in self.names}

    def _macro_average(self) -> Tensor:
        shares = self.right / self.labelled.clamp(min=1)
        occurs = ((self.labelled + self.predicted) > 0).to(shares)
        return (shares * occurs / occurs.sum().clamp(min=1)).sum()


class Score(WrapperMetric):
    """One of the ``Scores``, which are updated, added up over ranks and computed once for all.

    Args:
        scores: Where it is read from.
        name: Of the score.
    """

    def __init__(self, scores: Scores, name: str) -> None:
        super().__init__()
        self.scores = scores
        self.name = name

    def update(self) -> None:
        """Do nothing: the scores are updated."""

    def compute(self) -> Tensor:
        score: Tensor = self.scores.compute()[self.name]
        return score

    def reset(self) -> None:
        self.scores.reset()


class MeanOfBatches(Metric):
    """The mean over all INRs of all batches and ranks; see ``Scores`` for why it is our own."""

    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, mean: Tensor, count: int) -> None:
        """Add a batch: its mean and its number of INRs."""
        self.total += mean * count
        self.count += count

    def compute(self) -> Tensor:
        return self.total / self.count
