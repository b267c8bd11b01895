"""DWSNet: linear layers that respect the permutation symmetry of weight spaces.

Navon et al. (2023), "Equivariant Architectures for Learning in Deep Weight Spaces".

Its layers are those of ``dws_layer``. On CPUs they run in lanes (``dws_lanes``).
"""

from contextlib import nullcontext

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lightning_dws.models.architecture_check import check_architecture
from lightning_dws.models.batch_norm import PositionBatchNorm
from lightning_dws.models.dws_lanes import LaneNetwork, takes_lanes
from lightning_dws.models.dws_layer import DWSLayer, Features
from lightning_dws.models.dws_tables import fits_tables
from lightning_dws.models.graph_features import without_autocast
from lightning_dws.models.options import check_choice, check_heads, check_options
from lightning_dws.models.parameter_axes import fold_tensors, parameter_tensors, unfold_tensors
from lightning_dws.models.pooling import REDUCTIONS, pool
from lightning_dws.models.recorded import recorded
from lightning_dws.models.standardize import Standardize
from lightning_dws.parallel import one_thread_per_operation
from lightning_dws.weight_space import Architecture, WeightBatch

SET_LAYERS = ("attention", "deepsets")


@recorded
class DWSNet(nn.Module):
    """Classify INRs, or other networks, by their weights with DWSNet (Navon et al., 2023).

    ``Standardize``, then ``num_hidden + 1`` equivariant layers with batch norm, relu and dropout
    between them, then relu, pooling over all positions, and a linear layer. With hooks on its
    layers it leaves its kernels on a CPU, which would not call them, and takes twice as long.

    Args:
        architecture: Of the INRs: any number of layers from two, any widths; or of other networks.
        num_classes: Number of logits.
        hidden_dim: Channels per entry of a weight or bias.
        num_hidden: Number of equivariant layers before the last one.
        set_layer: Along a shared axis: self-``"attention"`` or ``"deepsets"``.
        reduction: How to pool: ``"max"``, ``"mean"`` or ``"sum"``.
        num_heads: Of attention, all layers but the last, which has one; divides ``hidden_dim``.
        batch_norm: One batch norm per parameter tensor, over batch and positions.
        dropout: Probability of dropping a feature, in [0, 1).

    Raises:
        ValueError: An option is out of its range.
    """

    def __init__(
        self,
        architecture: Architecture,
        num_classes: int,
        hidden_dim: int = 32,
        num_hidden: int = 4,
        set_layer: str = "attention",
        reduction: str = "max",
        num_heads: int = 8,
        batch_norm: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_options(
            dropout,
            num_classes=num_classes,
            hidden_dim=hidden_dim,
            num_hidden=num_hidden,
            num_heads=num_heads,
        )
        check_choice("set_layer", set_layer, SET_LAYERS)
        check_choice("reduction", reduction, REDUCTIONS)
        if set_layer == "attention":
            check_heads(num_heads, "hidden_dim", hidden_dim)
        self.standardize = Standardize(architecture)
        self.architecture = architecture
        self.tensors = parameter_tensors(architecture)
        self.set_layer, self.reduction = set_layer, reduction
        self.layers = nn.ModuleList(
            DWSLayer(
                self.tensors,
                None if layer == 0 else hidden_dim,
                hidden_dim,
                set_layer,
                reduction,
                num_heads if layer < num_hidden else 1,
            )
            for layer in range(num_hidden + 1)
        )
        self.norms = nn.ModuleList(
            nn.ModuleList(PositionBatchNorm(hidden_dim) for _ in self.tensors)
            for _ in range(num_hidden if batch_norm else 0)
        )
        self.dropout = nn.Dropout(dropout)
        self.parameter_channels = hidden_dim
        self._lanes: LaneNetwork | None = None
        self.head = nn.Linear(hidden_dim * sum(tensor.fold for tensor in self.tensors), num_classes)

    def forward(self, batch: WeightBatch) -> Float[Tensor, "batch classes"]:
        """Give logits."""
        with without_autocast(batch.parameters):
            in_lanes = self._takes_lanes(batch.parameters)
        # Else threads that torch uses for the head would spin beside those of the next lanes.
        with one_thread_per_operation() if in_lanes else nullcontext():
            return self.head(self.embed(batch))  # type: ignore[no-any-return]

    def embed(self, batch: WeightBatch) -> Float[Tensor, "batch features"]:
        """Give invariant features: what the linear head takes."""
        with without_autocast(batch.parameters):
            if self._takes_lanes(batch.parameters):
                pooled = self._pool_in_lanes(batch)
            else:
                pooled = [self._pool_all(x) for x in self.equivariant_features(batch)]
        last = sum(spec.is_weight for spec in self.architecture.tensors)
        weights, biases = pooled[:last], pooled[last:]
        return torch.cat([*weights[1:-1], weights[0], weights[-1], *biases], 1)

    def parameter_features(self, batch: WeightBatch) -> Float[Tensor, "batch parameters channels"]:
        """Give features of every parameter, in row order: permuted as the neurons are."""
        features = self.equivariant_features(batch)
        rows = unfold_tensors(features, self.architecture, self.parameter_channels)
        return torch.relu(rows).to(batch.parameters.dtype)

    def equivariant_features(self, batch: WeightBatch) -> Features:
        """Give features of all weights, then of all biases, by their permutable axes."""
        check_architecture(self.architecture, batch)
        parameters = self.standardize(batch.parameters)
        device = parameters.device.type
        if torch.is_autocast_enabled(device):
            parameters = parameters.to(torch.get_autocast_dtype(device))
        with torch.autocast(device, enabled=False):
            features = fold_tensors(batch.replace(parameters=parameters))
            for number, layer in enumerate(self.layers):
                if number > 0:
                    features = [self._activate(number - 1, i, x) for i, x in enumerate(features)]
                features = layer(features)
        return features

    def _activate(self, layer: int, tensor: int, x: Tensor) -> Tensor:
        source = self.layers[layer]
        if self.norms:
            source = self.norms[layer][tensor]  # type: ignore[index]
            x = source(x)
        # In place where it is a tensor of its own, not a part of a merged product, nor a hook's.
        x = torch.relu(x) if x.ndim == 2 or _is_hooked(source) else torch.relu_(x)
        return self.dropout(x) if self.dropout.p > 0 else x

    def _pool_all(self, x: Tensor) -> Tensor:
        """Pool relu(x) over all positions; the largest of relu(x) is relu of the largest."""
        if x.ndim == 2:
            return torch.relu(x)
        if self.reduction == "max":
            return torch.relu(pool(x.flatten(2), self.reduction))
        return pool(torch.relu(x).flatten(2), self.reduction)

    def _takes_lanes(self, parameters: Tensor) -> bool:
        """Whether compiled kernels compute the features: in float32 on a CPU."""
        norms = [norm for of_layer in self.norms for norm in of_layer]  # type: ignore[attr-defined]
        return (
            takes_lanes(parameters)
            and self.head.weight.dtype == torch.float32
            and fits_tables(self.layers[0])  # type: ignore[arg-type]
            and len({norm.training for norm in norms}) < 2
            and not any(norm.synchronised and norm.training for norm in norms)
            and not any(map(_is_hooked, [*self.layers, *norms, self.dropout]))
        )

    def _pool_in_lanes(self, batch: WeightBatch) -> Features:
        """Do ``_pool_all`` of ``equivariant_features``."""
        check_architecture(self.architecture, batch)
        layers: list[DWSLayer] = list(self.layers)  # type: ignore[arg-type]
        if self._lanes is None:
            with torch.inference_mode(False):  # a training may come after a first evaluation
                self._lanes = LaneNetwork(self.architecture, layers)
        return self._lanes.embed(
            self.standardize(batch.parameters),
            layers,
            [list(norms) for norms in self.norms],  # type: ignore[call-overload]
            self.dropout.p if self.dropout.training else 0.0,
        )


def _is_hooked(module: nn.Module) -> bool:
    """Whether somebody looks at what goes in or out of a module, or changes it."""
    return bool(
        module._forward_pre_hooks
        or module._forward_hooks
        or module._backward_pre_hooks
        or module._backward_hooks
    )
