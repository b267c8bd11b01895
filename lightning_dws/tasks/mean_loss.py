"""The mean loss of an epoch."""

import torch
from torch import Tensor
from torchmetrics import Metric


class MeanLoss(Metric):
    """The mean over all INRs of all batches and ranks, whatever each one's number of INRs.

    Lightning's own mean averages that number over the ranks as an integer, so rounded down;
    torchmetrics' ``MeanMetric`` (1.9) ignores weights unless it looks for NaNs, which makes a GPU
    wait at every step.
    """

    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, loss: Tensor, batch_size: int) -> None:
        """Add the mean loss of a batch."""
        self.total += loss * batch_size
        self.count += batch_size

    def compute(self) -> Tensor:
        return self.total / self.count
