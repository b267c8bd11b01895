"""How well the classes can be told apart by features that are not trained any further."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

_RIDGE = 1e-3  # per INR, of standardised features
_NEIGHBOURS, _TEMPERATURE = 20, 0.07  # of Wu et al., 2018


@dataclass(frozen=True)
class FrozenFeatures:
    """Features of INRs whose classes are known, and the linear probe that was fitted to them.

    Attributes:
        mean: Of the features.
        std: Of the features, 1 where there is none.
        weight: Of the probe, by feature and class, float64.
        bias: Of the probe, by class.
        rows: The features, of length 1.
        label: Their classes.
        num_classes: K.
    """

    mean: Float[Tensor, "features"]
    std: Float[Tensor, "features"]
    weight: Float[Tensor, "features classes"]
    bias: Float[Tensor, "classes"]
    rows: Float[Tensor, "inrs features"]
    label: Int64[Tensor, "inrs"]
    num_classes: int

    @classmethod
    def fit(
        cls,
        features: Float[Tensor, "inrs features"],
        label: Int64[Tensor, "inrs"],
        num_classes: int,
    ) -> "FrozenFeatures":
        """Fit the probe: ridge regression of one-hot labels, in closed form and float64."""
        x = features.double()
        mean, std = x.mean(dim=0), x.std(dim=0, correction=0)
        std = torch.where(std > 0, std, torch.ones_like(std))
        x = (x - mean) / std
        y = functional.one_hot(label, num_classes).double()
        bias = y.mean(dim=0)
        gram = x.T @ x + _RIDGE * len(x) * torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
        weight = torch.linalg.solve(gram, x.T @ (y - bias))
        rows = functional.normalize(features.float())
        return cls(mean, std, weight, bias, rows, label, num_classes)

    def probe(self, features: Float[Tensor, "batch features"]) -> Float[Tensor, "batch classes"]:
        """Give the linear probe's scores of the classes."""
        return (features.double() - self.mean) / self.std @ self.weight + self.bias

    def vote(self, features: Float[Tensor, "batch features"]) -> Float[Tensor, "batch classes"]:
        """Give the votes of the nearest known INRs, weighted by ``exp(cosine / 0.07)``."""
        cosines = functional.normalize(features.float()) @ self.rows.T
        nearest, which = cosines.topk(min(_NEIGHBOURS, len(self.rows)), dim=1)
        weights = ((nearest - 1) / _TEMPERATURE).exp()
        votes = weights.new_zeros(len(features), self.num_classes)
        return votes.scatter_add(1, self.label[which], weights)
