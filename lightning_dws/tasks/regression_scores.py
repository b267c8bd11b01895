"""What is measured of a regression."""

import torch
from torch import Tensor
from torchmetrics import KendallRankCorrCoef, R2Score


class R2(R2Score):
    """The coefficient of determination, mean over the targets; of a single INR it is not known."""

    def compute(self) -> Tensor:
        if self.total < 2:
            return self.residual.new_tensor(torch.nan)
        score: Tensor = super().compute()
        return score


class KendallTau(KendallRankCorrCoef):
    """Kendall's tau-b, the mean over the targets; of constant predictions it is not known."""

    def compute(self) -> Tensor:
        tau = super().compute()
        assert isinstance(tau, Tensor)  # no p-value is asked for
        return tau.float().mean()
