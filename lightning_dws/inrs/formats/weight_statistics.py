"""The mean and standard deviation of every weight, which the published layouts hold."""

import torch
from torch import Tensor

from lightning_dws.weight_space import INRArchitecture


class EntryStatistics:
    """Mean and standard deviation of every entry of a row, over rows that come in parts.

    Args:
        architecture: Of the INRs.
    """

    def __init__(self, architecture: INRArchitecture) -> None:
        self._architecture = architecture
        self._count = 0
        self._mean = torch.zeros(architecture.num_parameters, dtype=torch.float64)
        self._squares = torch.zeros_like(self._mean)  # summed squared distances from the mean

    def add(self, rows: Tensor) -> None:
        """Take in rows (B, P); the update is Chan et al.'s (1979)."""
        values = rows.double()
        mean = values.mean(dim=0)
        count = self._count + len(values)
        distance = mean - self._mean
        self._squares += (values - mean).square().sum(dim=0)
        self._squares += distance.square() * self._count * len(values) / count
        self._mean += distance * len(values) / count
        self._count = count

    def to_dict(self) -> dict[str, dict[str, list[Tensor]]]:
        """Give them as the published files do: per layer (in, out, 1) and (out, 1), float32."""
        std = (self._squares / max(self._count - 1, 1)).sqrt()
        columns = {"mean": self._mean.float(), "std": std.float()}
        shapes = self._architecture.weight_shapes
        weights, biases = self._architecture.weight_slices, self._architecture.bias_slices
        return {
            "weights": {
                name: [
                    values[where].reshape(shape).T[..., None].clone()
                    for where, shape in zip(weights, shapes, strict=True)
                ]
                for name, values in columns.items()
            },
            "biases": {
                name: [values[where][:, None].clone() for where in biases]
                for name, values in columns.items()
            },
        }
