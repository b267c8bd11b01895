"""A multilayer perceptron of the flattened weights: the baseline that knows no symmetry."""

from jaxtyping import Float
from torch import Tensor, nn

from lightning_dws.models.architecture_check import check_architecture
from lightning_dws.models.batch_norm import PositionBatchNorm
from lightning_dws.models.options import check_options
from lightning_dws.models.recorded import recorded
from lightning_dws.models.standardize import Standardize
from lightning_dws.weight_space import Architecture, WeightBatch


@recorded
class FlatMLP(nn.Module):
    """Classify an INR or another network by its row of parameters, as any vector.

    It is NOT invariant to permutations of hidden neurons: two rows of the same function are two
    inputs to it. What a weight-space network gains over it is what the symmetry is worth.

    Args:
        architecture: Of the networks.
        num_classes: Number of logits.
        hidden_dim: Width of the hidden layers.
        num_hidden: Hidden layers, at least 1.
        dropout: Probability of dropping a hidden feature in training, in [0, 1).
        batch_norm: Normalise hidden features over the batch.

    Raises:
        ValueError: An argument out of its range.
    """

    def __init__(
        self,
        architecture: Architecture,
        num_classes: int,
        hidden_dim: int = 256,
        num_hidden: int = 3,
        dropout: float = 0.0,
        batch_norm: bool = True,
    ) -> None:
        super().__init__()
        check_options(
            dropout, num_classes=num_classes, hidden_dim=hidden_dim, num_hidden=num_hidden
        )
        self.architecture = architecture
        self.standardize = Standardize(architecture)
        layers: list[nn.Module] = []
        width = architecture.num_parameters
        for _ in range(num_hidden):
            layers.append(nn.Linear(width, hidden_dim))
            if batch_norm:
                layers.append(PositionBatchNorm(hidden_dim))
            layers += [nn.ReLU(), nn.Dropout(dropout)]
            width = hidden_dim
        self.hidden = nn.Sequential(*layers)
        self.head = nn.Linear(hidden_dim, num_classes)

    def forward(self, batch: WeightBatch) -> Float[Tensor, "batch classes"]:
        """Give logits."""
        logits: Tensor = self.head(self.embed(batch))
        return logits

    def embed(self, batch: WeightBatch) -> Float[Tensor, "batch features"]:
        """Give features: what the linear head takes."""
        check_architecture(self.architecture, batch)
        features: Tensor = self.hidden(self.standardize(batch.parameters))
        return features
