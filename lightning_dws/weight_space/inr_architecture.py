"""INRs as networks: the one kind whose inputs are coordinates, and that has widths and no more."""

import itertools
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, ClassVar

from lightning_dws.errors import DataError
from lightning_dws.fourier_encoding import FourierEncoding
from lightning_dws.weight_space.tensor_specs import Architecture, Axis, TensorSpec

ACTIVATIONS = ("sine", "relu")


@dataclass(frozen=True)
class INRArchitecture(Architecture):
    """What kind of network a row of weights is.

    The network is ``x -> W_L act(... act(W_1 x + b_1) ...) + b_L + output_offset``, where
    ``act`` is ``sin(w0 z)`` (a SIREN; Sitzmann et al., 2020) or ``relu(z)``.

    Attributes:
        widths: Number of neurons of every layer, inputs first, e.g. ``(2, 32, 32, 1)``. Behind an
            encoding the first is the number of its features.
        activation: ``"sine"`` or ``"relu"``, on hidden layers.
        w0: Frequency of the sine; without meaning for ``"relu"``.
        output_offset: Added to the last layer's output (0.5 in the published 2-D datasets).
        encoding: Of the coordinates, whose features the first layer takes; None: the coordinates.

    Raises:
        ValueError: A width below 1, no hidden layer, an unknown activation, a ``w0`` that is not
            positive, an offset that is not finite, or features of no number of coordinates.
    """

    noun: ClassVar[str] = "INRs"

    widths: tuple[int, ...] = (2, 32, 32, 1)
    activation: str = "sine"
    w0: float = 30.0
    output_offset: float = 0.5
    encoding: FourierEncoding | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", tuple(int(width) for width in self.widths))
        if isinstance(self.encoding, Mapping):
            object.__setattr__(self, "encoding", FourierEncoding(**self.encoding))
        if len(self.widths) < 3 or min(self.widths) < 1:
            raise ValueError(
                "widths must be at least three positive integers (inputs, hidden, ..., outputs), "
                f"got {self.widths}"
            )
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation must be one of {ACTIVATIONS}, got {self.activation!r}")
        if not (self.w0 > 0 and math.isfinite(self.w0)):
            raise ValueError(f"w0 must be positive and finite, got {self.w0}")
        if not math.isfinite(self.output_offset):
            raise ValueError(f"output_offset must be finite, got {self.output_offset}")
        if self.encoding is not None:
            self.encoding.count_inputs(self.widths[0])

    @property
    def num_layers(self) -> int:
        """Number of linear layers L."""
        return len(self.widths) - 1

    @property
    def in_features(self) -> int:
        """Number of coordinates."""
        encoding = self.encoding
        return self.widths[0] if encoding is None else encoding.count_inputs(self.widths[0])

    @property
    def out_features(self) -> int:
        return self.widths[-1]

    @property
    def hidden_widths(self) -> tuple[int, ...]:
        return self.widths[1:-1]

    @cached_property
    def weight_shapes(self) -> tuple[tuple[int, int], ...]:
        """(out, in) of every layer, as in ``nn.Linear``."""
        return tuple((n_out, n_in) for n_in, n_out in itertools.pairwise(self.widths))

    @cached_property
    def weight_slices(self) -> tuple[slice, ...]:
        """Where each layer's flattened weight stands in a row."""
        starts = [
            0,
            *itertools.accumulate((n_in + 1) * n_out for n_out, n_in in self.weight_shapes),
        ]
        return tuple(
            slice(start, start + n_out * n_in)
            for start, (n_out, n_in) in zip(starts, self.weight_shapes, strict=False)
        )

    @cached_property
    def bias_slices(self) -> tuple[slice, ...]:
        """Where each layer's bias stands in a row: right behind its weight."""
        return tuple(
            slice(weight.stop, weight.stop + n_out)
            for weight, (n_out, _) in zip(self.weight_slices, self.weight_shapes, strict=True)
        )

    @property
    def num_parameters(self) -> int:
        """Length P of a row."""
        return sum((n_in + 1) * n_out for n_out, n_in in self.weight_shapes)

    @cached_property
    def tensors(self) -> tuple[TensorSpec, ...]:
        """Weight and bias of every layer; the groups of hidden neurons are h1, h2, ..."""
        names: list[Axis] = [f"h{layer}" for layer in range(1, self.num_layers)]
        layers = itertools.pairwise([None, *names, None])
        return tuple(
            spec
            for layer, ((source, target), shape) in enumerate(
                zip(layers, self.weight_shapes, strict=True)
            )
            for spec in (
                TensorSpec(f"weight{layer}", shape, (target, source)),
                TensorSpec(f"bias{layer}", shape[:1], (target,)),
            )
        )

    def functions_of(self, group: str) -> tuple[str, ...]:
        return (self.activation,)

    def to_dict(self) -> dict[str, Any]:
        """Give plain data, for JSON and checkpoints; ``INRArchitecture(**d)`` reads it."""
        plain = {**asdict(self), "widths": list(self.widths)}
        plain.pop("encoding")
        if self.encoding is not None:  # plain data without one is as it was before there were any
            plain["encoding"] = self.encoding.to_dict()
        return plain

    @property
    def summary(self) -> str:
        return f"widths {self.widths}"


def require_inrs(architecture: Architecture, what: str) -> INRArchitecture:
    """Give the architecture of INRs; other networks have no coordinates to be evaluated at.

    Raises:
        DataError: They are other networks; it names ``what`` is for INRs alone.
    """
    if isinstance(architecture, INRArchitecture):
        return architecture
    raise DataError(f"{what}: for INRs alone, got {architecture.summary}")
