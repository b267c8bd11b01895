"""What the weights of a source compute, and how they become a row of a store that computes it too.

A store's SIRENs have one frequency. Another one, a, of a single layer is folded into its weights,
since sin(a (W x + b)) = sin(w0 ((a / w0) W x + (a / w0) b)).
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import linear

from lightning_dws.errors import DataError
from lightning_dws.fourier_encoding import FourierEncoding
from lightning_dws.inrs.formats.layers import SourceLayer
from lightning_dws.inrs.siren import evaluate_inrs
from lightning_dws.weight_space import INRArchitecture, WeightBatch

_FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
_NUM_POINTS = 64
_TOLERANCE = 1e-5  # of the largest output; float32 has 6e-8, and a layer may amplify it
_ROUNDINGS = 10  # in which an INR that amplifies more may differ as well
_SIREN_PYTORCH = re.compile(r"(.*\.)?(layers\.[0-9]+|last\.layer)")


@dataclass(frozen=True)
class SourceFunction:
    """How a source's weights are meant.

    Attributes:
        w0: Frequency of each hidden layer; the last is that of all that follow.
        w0_is_given: Whether it was said, and is not the layout's default.
        activation: ``"sine"`` or ``"relu"``, to which frequencies mean nothing.
        output_offset: What is added to the last layer.
        encoding: Of the coordinates, in front of the first layer.

    Raises:
        DataError: A frequency that is not positive and finite, or none.
    """

    w0: tuple[float, ...]
    w0_is_given: bool = False
    activation: str = "sine"
    output_offset: float = 0.0
    encoding: FourierEncoding | None = None

    def __post_init__(self) -> None:
        if not self.w0 or not all(0 < value < float("inf") for value in self.w0):
            raise DataError(f"w0 must be positive numbers, got {list(self.w0)}")
        if self.activation == "relu" and self.w0_is_given:
            raise DataError("w0 is a frequency of sines: it cannot be given for activation relu")

    def make_architecture(self, widths: tuple[int, ...]) -> INRArchitecture:
        """Describe the INRs as the store will hold them.

        Raises:
            DataError: There are more frequencies than hidden layers, or a value is out of range.
        """
        num_hidden = len(widths) - 2
        if len(self.w0) > max(num_hidden, 1):
            raise DataError(
                f"{len(self.w0)} values of w0 for INRs of widths {widths}, which have {num_hidden} "
                "hidden layers: give one for each, or one for all"
            )
        try:
            return INRArchitecture(
                widths, self.activation, self.w0[0], self.output_offset, self.encoding
            )
        except ValueError as error:
            raise DataError(str(error)) from error

    def layer_w0(self, num_hidden: int) -> tuple[float, ...]:
        """Give the frequency of each hidden layer."""
        return (*self.w0, *[self.w0[-1]] * num_hidden)[:num_hidden]

    @property
    def is_folded(self) -> bool:
        """Whether frequencies differ, so that weights are rewritten."""
        return len(set(self.w0)) > 1

    def check_meaning(self, layers: Sequence[SourceLayer], told: Mapping[str, float]) -> None:
        """Refuse a file that says, or by its names implies, other frequencies.

        Args:
            layers: In order.
            told: Numbers in the file that are named as frequencies are.

        Raises:
            DataError: It does.
        """
        if self.activation != "sine":
            return
        names = [layer.name for layer in layers]
        of_siren_pytorch = all(map(_SIREN_PYTORCH.fullmatch, names))
        if not self.w0_is_given and of_siren_pytorch and names[-1].endswith("last.layer"):
            raise DataError(
                "layers are named as siren-pytorch's, whose w0 is 30 in the first layer and 1 "
                "behind it unless it was made with others: give --w0 30 1, or what it was made with"
            )
        for name, value in told.items():
            if not any(math.isclose(value, own, rel_tol=1e-6) for own in self.w0):
                shown = " ".join(f"{own:g}" for own in self.w0)
                raise DataError(f"says that its {name[:80]} is {value:g}, imported with w0 {shown}")

    def make_row(self, layers: Sequence[SourceLayer]) -> Tensor:
        """Make a row (P,) float32 of layers in order; where nothing is folded, rounded at most.

        Raises:
            DataError: Weights that are no floating point numbers, or not finite in float32.
        """
        frequencies = self.layer_w0(len(layers) - 1) if self.is_folded else ()
        factors = [*(value / self.w0[0] for value in frequencies), *[1.0] * len(layers)]
        parts = []
        for layer, factor in zip(layers, factors, strict=False):
            for tensor in (layer.weight, layer.bias):
                if tensor.dtype not in _FLOATS:
                    expected = ", ".join(str(dtype).removeprefix("torch.") for dtype in _FLOATS)
                    raise DataError(f"{layer.name[:80]} is {tensor.dtype}, expected {expected}")
                part = tensor.reshape(-1)
                parts.append(part.float() if factor == 1 else (part.double() * factor).float())
        row = torch.cat(parts)
        if not row.isfinite().all():
            raise DataError("its weights are not finite in float32")
        return row

    def compute(self, layers: Sequence[SourceLayer], points: Tensor) -> Tensor:
        """Compute what the source's own layers do at points (N, d): (N, out), in their dtype."""
        hidden = points if self.encoding is None else self.encoding.encode(points)
        for layer, frequency in zip(layers, [*self.layer_w0(len(layers) - 1), None], strict=True):
            hidden = linear(hidden, layer.weight.to(points), layer.bias.to(points))
            if frequency is not None:
                sine = self.activation == "sine"
                hidden = torch.sin(frequency * hidden) if sine else torch.relu(hidden)
        return hidden + self.output_offset

    def compare(self, layers: Sequence[SourceLayer], row: Tensor) -> float | None:
        """Compare what a source's layers compute with what a store's row does.

        Returns:
            The largest difference at points of the INR's domain; None if an output is not finite.

        Raises:
            DataError: They differ by more than float32 rounds.
        """
        widths = (layers[0].weight.shape[1], *(len(layer.bias) for layer in layers))
        architecture = self.make_architecture(widths)
        inr = WeightBatch.from_parameters(architecture, row[None])
        generator = torch.Generator().manual_seed(0)
        points = 2 * torch.rand(_NUM_POINTS, architecture.in_features, generator=generator) - 1
        expected = self.compute(layers, points.double())
        found = evaluate_inrs(inr.to(torch.float64), points.double())[0]
        in_float32 = evaluate_inrs(inr, points)[0].double()
        if not (expected.isfinite().all() and in_float32.isfinite().all()):
            return None
        difference = float((found - expected).abs().max())
        rounding = float((in_float32 - found).abs().max())
        allowed = _TOLERANCE * float(expected.abs().max()) + _ROUNDINGS * rounding
        if difference > allowed:
            raise DataError(
                f"its own layers and the imported row differ by {difference:.3g} where float32 "
                f"allows {allowed:.3g}"
            )
        return difference
