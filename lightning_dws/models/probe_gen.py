"""ProbeGen: INRs told apart by what they compute at learned inputs.

Kahana et al. (2024), "Deep Linear Probe Generators for Weight Space Learning".

The weights are not looked at: every INR is evaluated at the same probes, and a multilayer
perceptron reads its outputs. So whatever leaves an INR's function alone leaves the logits alone,
with permutations of neurons every symmetry that there is. The probes are learned, not as they are
but as what a deep linear network makes of latent codes: it can give no other probes than learning
them directly could, but gradient descent prefers simpler ones.
"""

import itertools

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lightning_dws.models.architecture_check import check_architecture
from lightning_dws.models.multilayer_head import multilayer_head
from lightning_dws.models.options import check_options
from lightning_dws.models.probe_outputs import probe_outputs
from lightning_dws.models.recorded import recorded
from lightning_dws.weight_space import INRArchitecture, WeightBatch, require_inrs


@recorded
class ProbeGen(nn.Module):
    """Classify INRs by their outputs at generated probes (Kahana et al., 2024).

    The defaults are the published ones for INRs: 303,980 parameters for widths 2-32-32-1 and ten
    classes. It reads raw weights, and has nothing that is to be standardised.

    Args:
        architecture: Of the INRs.
        num_classes: Number of logits.
        num_probes: Inputs at which every INR is evaluated.
        latent_dim: Numbers in a probe's latent code, and width of the generator.
        generator_layers: Linear maps from a code to a probe; 0 learns the probes themselves, which
            the paper calls vanilla probing.
        hidden_dim: Width of the classifier's hidden layers.
        num_layers: Linear maps of the classifier, from 2.
        dropout: Probability of dropping a hidden feature of the classifier, in [0, 1).

    Raises:
        ValueError: An option is out of its range.
        DataError: Networks that are no INRs, which have no coordinates for inputs.
    """

    def __init__(
        self,
        architecture: INRArchitecture,
        num_classes: int,
        num_probes: int = 128,
        latent_dim: int = 32,
        generator_layers: int = 2,
        hidden_dim: int = 256,
        num_layers: int = 6,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_options(
            dropout,
            num_classes=num_classes,
            num_probes=num_probes,
            latent_dim=latent_dim,
            hidden_dim=hidden_dim,
        )
        if generator_layers < 0:
            raise ValueError(f"generator_layers must not be negative, got {generator_layers}")
        if num_layers < 2:
            raise ValueError(f"num_layers must be at least 2, got {num_layers}")
        self.architecture = require_inrs(architecture, "ProbeGen")
        widths = [latent_dim] * generator_layers + [architecture.in_features]
        self.latent = nn.Parameter(torch.randn(num_probes, widths[0]))
        self.generator = nn.Sequential(*(nn.Linear(n, m) for n, m in itertools.pairwise(widths)))
        outputs = num_probes * architecture.out_features
        self.hidden = nn.Sequential(
            multilayer_head([outputs, *[hidden_dim] * (num_layers - 1)], dropout),
            nn.ReLU(),
            nn.Dropout(dropout),
        )
        self.head = nn.Linear(hidden_dim, num_classes)

    def forward(self, batch: WeightBatch) -> Float[Tensor, "batch classes"]:
        """Give logits."""
        return self.head(self.embed(batch))  # type: ignore[no-any-return]

    def embed(self, batch: WeightBatch) -> Float[Tensor, "batch features"]:
        """Give features: what the linear head takes."""
        check_architecture(self.architecture, batch)
        with torch.autocast(batch.device.type, enabled=False):  # w0 would multiply its rounding
            outputs = probe_outputs(batch, self.probes().to(batch.parameters.dtype))
        return self.hidden(outputs.flatten(1))  # type: ignore[no-any-return]

    def probes(self) -> Float[Tensor, "probes coordinates"]:
        """Give the inputs at which INRs are evaluated."""
        return self.generator(self.latent)  # type: ignore[no-any-return]
