"""Predict measures of networks from statistics of their weights alone: the baseline to beat.

Unterthiner et al. (2020), "Predicting Neural Network Accuracy from Weights": mean, variance and
quantiles of every tensor, read by a linear model or by boosted trees. They do not depend on the
order of neurons either, and need no training that is worth the name.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.stats import kendalltau
from torch import Tensor

from lightning_dws.errors import DataError
from lightning_dws.inrs.store import INRStore
from lightning_dws.weight_space import WeightBatch

QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)
PENALTIES = tuple(10.0**power for power in range(-4, 5))
LEAVES = (7, 15, 31)
LEARNING_RATES = (0.03, 0.1)
_NUM_RESAMPLES = 500

_Array = np.ndarray[Any, np.dtype[np.float64]]
_Predictor = Callable[[_Array], _Array]
_Fits = Callable[[_Array, _Array, int], list[_Predictor]]


@dataclass(frozen=True)
class BaselineScore:
    """How well a predictor does on the test split.

    Attributes:
        kendall_tau: Kendall's rank correlation, tau-b, for each seed.
        r2: The coefficient of determination, for each seed.
        interval: Of the mean Kendall's tau, 95 %, by resampling the test networks.
    """

    kendall_tau: tuple[float, ...]
    r2: tuple[float, ...]
    interval: tuple[float, float]


def weight_statistics(batch: WeightBatch) -> Tensor:
    """Give mean, variance and quantiles of every tensor, (B, 7 T) in float64.

    Raises:
        DataError: There are no networks.
    """
    if not len(batch):
        raise DataError("statistics of no networks")
    where = torch.tensor(QUANTILES, dtype=torch.float64)
    columns: list[Tensor] = []
    for tensor in batch.tensors:
        flat = tensor.flatten(1).double()
        columns += [flat.mean(dim=1), flat.var(dim=1, correction=0), *flat.quantile(where, dim=1)]
    return torch.stack(columns, dim=1)


def score_baselines(
    store: INRStore, target: str, seeds: Sequence[int], num_train_objects: int | None = None
) -> dict[str, BaselineScore]:
    """Train both predictors, choose their settings on the validation split, and test them.

    Args:
        store: The networks, with all three splits.
        target: The measure to predict.
        seeds: Of the boosting; the linear model knows none.
        num_train_objects: Only the first so many for training. Default: all.

    Returns:
        By name: ``linear`` and ``boosting``.

    Raises:
        DataError: The store lacks the measure or a split, or a value is not finite.
    """
    data = {
        split: _read(store, target, split, num_train_objects if split == "train" else None)
        for split in ("train", "val", "test")
    }
    features, true = data["test"]
    return {
        name: _score([_choose(fits, data, seed)(features) for seed in seeds], true)
        for name, fits in (("linear", _linear_models), ("boosting", _boosted_trees))
    }


def _choose(fits: _Fits, data: Mapping[str, tuple[_Array, _Array]], seed: int) -> _Predictor:
    features, target = data["val"]
    return max(fits(*data["train"], seed), key=lambda predict: _r2(predict(features), target))


def _score(predictions: Sequence[_Array], true: _Array) -> BaselineScore:
    draws = np.random.default_rng(0).integers(len(true), size=(_NUM_RESAMPLES, len(true)))
    resampled = [np.mean([_tau(own[rows], true[rows]) for own in predictions]) for rows in draws]
    low, high = np.nanquantile(resampled, (0.025, 0.975))
    taus = tuple(_tau(own, true) for own in predictions)
    r2 = tuple(_r2(own, true) for own in predictions)
    return BaselineScore(taus, r2, (float(low), float(high)))


def _tau(predicted: _Array, true: _Array) -> float:
    return float(kendalltau(predicted, true).statistic)


def _read(
    store: INRStore, target: str, split: str, num_objects: int | None
) -> tuple[_Array, _Array]:
    values = store.columns((target,), split, num_objects, 1)[:, 0].double()
    if not values.isfinite().all():
        raise DataError(f"{store.directory}: {target} of some {split} networks is not finite")
    features = weight_statistics(store.split(split, num_objects=num_objects, views=1))
    return features.numpy(), values.numpy()


def _linear_models(features: _Array, target: _Array, seed: int) -> list[_Predictor]:
    """Ridge regression on standardised statistics, of every penalty."""
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    models = [make_pipeline(StandardScaler(), Ridge(penalty)) for penalty in PENALTIES]
    return [model.fit(features, target).predict for model in models]


def _boosted_trees(features: _Array, target: _Array, seed: int) -> list[_Predictor]:
    """Gradient boosting of every setting, stopped early on a tenth of the training split."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    models = [
        HistGradientBoostingRegressor(
            learning_rate=rate,
            max_leaf_nodes=leaves,
            max_iter=1000,
            early_stopping=True,
            n_iter_no_change=20,
            random_state=seed,
        )
        for leaves in LEAVES
        for rate in LEARNING_RATES
    ]
    return [model.fit(features, target).predict for model in models]


def _r2(predicted: _Array, true: _Array) -> float:
    spread = float(np.square(true - true.mean()).sum())
    return 1 - float(np.square(true - predicted).sum()) / spread if spread else float("nan")
