"""What is measured of a regression."""

import torch
from jaxtyping import Float
from scipy.stats import kendalltau
from torch import Tensor
from torchmetrics import KendallRankCorrCoef, R2Score
from torchmetrics.utilities import dim_zero_cat

_ROWS_AT_ONCE = 64  # of pairs of all INRs


class R2(R2Score):
    """The coefficient of determination, mean over the targets; of a single INR it is not known."""

    def compute(self) -> Tensor:
        if self.total < 2:
            return self.residual.new_tensor(torch.nan)
        score: Tensor = super().compute()
        return score


class KendallTau(KendallRankCorrCoef):
    """Kendall's tau-b, the mean over the targets; of constant predictions it is not known.

    Computed by SciPy, in a hundredth of the time that torchmetrics takes for 5,000 INRs.
    """

    def compute(self) -> Tensor:
        predicted, target = (
            dim_zero_cat(values).reshape(-1, self.num_outputs).double().cpu().numpy()
            for values in (self.preds, self.target)
        )
        taus = [kendalltau(p, t).statistic for p, t in zip(predicted.T, target.T, strict=True)]
        return torch.tensor(taus, device=self.device).float().mean()


def shares_in_r2(
    predicted: Float[Tensor, "inrs targets"], true: Float[Tensor, "inrs targets"]
) -> Float[Tensor, "inrs"]:
    """Give what each INR adds to R2 (the mean over the targets): its jackknife value.

    Their mean is R2, and their spread that of R2 over samples of INRs, up to terms of 1 / N.
    """
    error = (true - predicted) ** 2
    count = len(true)
    spread = (true - true.mean(dim=0)) ** 2
    rest = spread.sum(dim=0) - spread * count / (count - 1)  # around the mean of the others
    without = 1 - (error.sum(dim=0) - error) / rest
    return _around(1 - error.sum(dim=0) / spread.sum(dim=0), without)


def shares_in_tau(
    predicted: Float[Tensor, "inrs targets"], true: Float[Tensor, "inrs targets"]
) -> Float[Tensor, "inrs"]:
    """Give likewise what each INR adds to Kendall's tau-b."""
    agreement, by_predicted, by_true = (torch.zeros_like(true) for _ in range(3))
    for rows in torch.arange(len(true)).split(_ROWS_AT_ONCE):
        p = (predicted[rows, None] - predicted).sign()  # (rows, N, K)
        t = (true[rows, None] - true).sign()
        agreement[rows] = (p * t).sum(dim=1)
        by_predicted[rows], by_true[rows] = (p * p).sum(dim=1), (t * t).sum(dim=1)

    def tau(removed: float) -> Tensor:
        """Of all pairs, in which each INR is counted twice, but for those of an INR."""
        s, p, t = (x.sum(dim=0) - removed * x for x in (agreement, by_predicted, by_true))
        return s / (p * t).sqrt()

    return _around(tau(0)[0], tau(2))


def _around(score: Tensor, without: Tensor) -> Tensor:
    """Give jackknife values (N,) of scores (K,) and those without each INR (N, K)."""
    values = score + (len(without) - 1) * (without.mean(dim=0) - without)
    return values.mean(dim=1)
