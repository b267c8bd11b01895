"""Neural functional networks: weights read by equivariant linear layers, NP or HNP.

Zhou et al. (2023), "Permutation Equivariant Neural Functionals".
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from lightning_dws.models.architecture_check import check_architecture
from lightning_dws.models.multilayer_head import multilayer_head
from lightning_dws.models.nfn_layer import SYMMETRIES, FoldedTensor, NFNLayer, fold_tensors
from lightning_dws.models.options import check_choice, check_options
from lightning_dws.models.recorded import recorded
from lightning_dws.models.standardize import Standardize
from lightning_dws.weight_space import Architecture, TensorSpec, WeightBatch


class Encoding(nn.Module):
    """Channels of every entry of every tensor: what it is, and whose input or output it belongs to.

    Gaussian Fourier features of the weight (Tancik et al., 2020), then sines, cosines and the value
    of the place in [-1, 1] along the axes of inputs and of outputs, which are zero elsewhere.

    Args:
        tensors: The networks' parameter tensors.
        num_frequencies: Of the weight's features, at random and fixed; 0 gives the weight itself.
        scale: Standard deviation of these frequencies.
        bands: Number of frequencies of places; 0 leaves places out.
        max_frequency: Twice the highest of these; the lowest is 1.
    """

    frequencies: Float[Tensor, "frequencies"]

    def __init__(
        self,
        tensors: Sequence[TensorSpec],
        num_frequencies: int,
        scale: float,
        bands: int,
        max_frequency: float,
    ) -> None:
        super().__init__()
        self.channels = max(1, 2 * num_frequencies) + (2 * bands + 1 if bands else 0)
        self.bands, self.max_frequency = bands, max_frequency
        self.ends = [
            [i for i, name in enumerate(spec.axes[:2]) if name is None] for spec in tensors
        ]
        self.register_buffer("frequencies", scale * torch.randn(num_frequencies))

    def forward(
        self, tensors: list[Float[Tensor, "batch ..."]]
    ) -> list[Float[Tensor, "batch channels ..."]]:
        """Encode all tensors, channels before their own axes."""
        return [self._encode(x, ends) for x, ends in zip(tensors, self.ends, strict=True)]

    def _encode(self, x: Tensor, ends: list[int]) -> Tensor:
        channels = [x[:, None]]
        if len(self.frequencies):
            frequencies = 2 * math.pi * self.frequencies.to(x.dtype)
            angles = x[:, None] * frequencies.view(-1, *(1 for _ in x.shape[1:]))
            channels = [angles.sin(), angles.cos()]
        if self.bands:
            places = x.new_zeros(2 * self.bands + 1, *(1 for _ in x.shape[1:]))
            for axis in ends:
                places = places + self._encode_places(x, 1 + axis)
            channels.append(places.expand(len(x), -1, *x.shape[1:]))
        return torch.cat(channels, 1)

    def _encode_places(self, x: Tensor, axis: int) -> Tensor:
        """Give channels of an axis of a tensor, which is the only one behind them not of size 1."""
        options: dict[str, Any] = {"dtype": x.dtype, "device": x.device}
        places = torch.linspace(-1, 1, x.shape[axis], **options)
        frequencies = torch.linspace(1, self.max_frequency / 2, self.bands, **options)
        angles = math.pi * frequencies[:, None] * places
        waves = torch.cat([angles.sin(), angles.cos(), places[None]])
        return waves.view(-1, *(x.shape[i] if i == axis else 1 for i in range(1, x.ndim)))


@recorded
class NFN(nn.Module):
    """Classify networks by their weights with an NFN (Zhou et al., 2023).

    ``Standardize``, a Gaussian Fourier encoding of every weight, the encoding of positions, then
    equivariant layers with relu and dropout, the mean over permutable axes and a multilayer
    perceptron. The published sizes for INRs are ``hidden_dim=512``, ``num_layers=3``,
    ``fourier_features=128`` and ``head_dim=1000``, for a GPU; the defaults are for two cores.

    Args:
        architecture: Of the networks: INRs, or any feed-forward network.
        num_classes: Number of logits.
        layer: ``"NP"``, whose weights are fewer, or ``"HNP"``.
        hidden_dim: Channels per entry of a tensor.
        num_layers: Equivariant layers.
        fourier_features: Frequencies of the encoding of a weight; 0 gives a layer the weight alone.
        fourier_scale: Standard deviation of the frequencies, for standardised weights.
        io_bands: Frequencies of the encoding of inputs and outputs; 0 for none, which leaves an NP
            layer unable to tell them apart, and an HNP layer does not need.
        io_max_frequency: Twice the highest of them.
        pool: What the mean before the head is over: ``"HNP"``, hidden neurons alone, or ``"NP"``,
            inputs and outputs too.
        head_dim: Width of the head's two hidden layers.
        dropout: Probability of dropping a feature of the head, in [0, 1).
        feature_dropout: Probability of dropping a channel of a weight, or one of a bias's entries,
            behind an equivariant layer, in [0, 1).

    Raises:
        ValueError: An option is out of its range.
    """

    def __init__(
        self,
        architecture: Architecture,
        num_classes: int,
        layer: str = "NP",
        hidden_dim: int = 32,
        num_layers: int = 3,
        fourier_features: int = 16,
        fourier_scale: float = 0.3,
        io_bands: int = 3,
        io_max_frequency: float = 3.0,
        pool: str = "HNP",
        head_dim: int = 128,
        dropout: float = 0.1,
        feature_dropout: float = 0.1,
    ) -> None:
        super().__init__()
        check_options(
            dropout,
            num_classes=num_classes,
            hidden_dim=hidden_dim,
            num_layers=num_layers,
            head_dim=head_dim,
        )
        check_choice("layer", layer, SYMMETRIES)
        check_choice("pool", pool, SYMMETRIES)
        self._check_encodings(fourier_features, fourier_scale, io_bands, io_max_frequency)
        if not 0 <= feature_dropout < 1:
            raise ValueError(f"feature_dropout must be in [0, 1), got {feature_dropout}")
        self.standardize = Standardize(architecture)
        self.architecture = architecture
        self.layer = layer
        self.tensors = fold_tensors(architecture.tensors, layer)
        self.feature_dropout = feature_dropout
        self.encoding = Encoding(
            architecture.tensors, fourier_features, fourier_scale, io_bands, io_max_frequency
        )
        self.layers = nn.ModuleList(
            NFNLayer(
                self.tensors, self.encoding.channels if number == 0 else hidden_dim, hidden_dim
            )
            for number in range(num_layers)
        )
        self.pooled = [tensor.permutable for tensor in fold_tensors(architecture.tensors, pool)]
        outputs = sum(
            math.prod(n for i, n in enumerate(tensor.shape) if i not in pooled)
            for tensor, pooled in zip(self.tensors, self.pooled, strict=True)
        )
        self.head = multilayer_head(
            [outputs * hidden_dim, head_dim, head_dim, num_classes], dropout
        )

    @staticmethod
    def _check_encodings(
        fourier_features: int, fourier_scale: float, io_bands: int, io_max_frequency: float
    ) -> None:
        for name, count in (("fourier_features", fourier_features), ("io_bands", io_bands)):
            if count < 0:
                raise ValueError(f"{name} must not be negative, got {count}")
        scales = (("fourier_scale", fourier_scale), ("io_max_frequency", io_max_frequency))
        for name, scale in scales:
            if not (scale > 0 and math.isfinite(scale)):
                raise ValueError(f"{name} must be positive and finite, got {scale}")

    def forward(self, batch: WeightBatch) -> Float[Tensor, "batch classes"]:
        """Give logits."""
        return self.head(self.embed(batch))  # type: ignore[no-any-return]

    def embed(self, batch: WeightBatch) -> Float[Tensor, "batch features"]:
        """Give invariant features: what the head takes, by channel and then by tensor."""
        features = self.equivariant_features(batch)
        pooled = []
        for x, axes in zip(features, self.pooled, strict=True):
            means = x.mean(tuple(2 + axis for axis in axes)) if axes else x
            pooled.append(means.flatten(2) if means.ndim > 2 else means[..., None])
        return torch.cat(pooled, 2).flatten(1)

    def equivariant_features(self, batch: WeightBatch) -> list[Float[Tensor, "batch channels ..."]]:
        """Give features of all parameter tensors, channels before the tensors' own axes."""
        check_architecture(self.architecture, batch)
        tensors = batch.replace(parameters=self.standardize(batch.parameters)).tensors
        device = batch.device.type
        lower = torch.is_autocast_enabled(device)
        dtype = torch.get_autocast_dtype(device) if lower else batch.parameters.dtype
        with torch.autocast(device, enabled=False):
            features = [
                _fold(tensor, x).to(dtype)
                for tensor, x in zip(self.tensors, self.encoding(tensors), strict=True)
            ]
            for layer in self.layers:
                features = [
                    torch.relu_(self._drop(tensor, x))
                    for tensor, x in zip(self.tensors, layer(features), strict=True)
                ]
            return [_unfold(tensor, x) for tensor, x in zip(self.tensors, features, strict=True)]

    def _drop(self, tensor: FoldedTensor, x: Tensor) -> Tensor:
        """Drop channels of a weight, or entries of a bias, in place."""
        if not self.training or self.feature_dropout == 0:
            return x
        is_bias = len(tensor.shape) == 1
        ones = torch.ones_like(x) if is_bias else x.new_ones(x.shape[:2] + (1,) * (x.ndim - 2))
        return x.mul_(functional.dropout(ones, self.feature_dropout))


def _fold(tensor: FoldedTensor, x: Tensor) -> Tensor:
    """Give features (B, channels, *shape) as (B, channels * fold, *permutable axes)."""
    order = [2 + axis for axis in (*tensor.fixed, *tensor.permutable)]
    return x.permute(0, 1, *order).flatten(1, 1 + len(tensor.fixed))


def _unfold(tensor: FoldedTensor, x: Tensor) -> Tensor:
    """Turn ``_fold`` round."""
    fixed, permutable = tensor.fixed, tensor.permutable
    x = x.unflatten(1, (-1, *(tensor.shape[axis] for axis in fixed)))
    order = (*fixed, *permutable)
    return x.permute(0, 1, *(2 + order.index(axis) for axis in range(len(order))))
