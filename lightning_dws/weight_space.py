"""The one data type: what kind of network a row of weights is, and a batch of rows."""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, Self

import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor, nn
from torch.utils.data._utils.collate import default_collate_fn_map

from lightning_dws.errors import DataError
from lightning_dws.fourier_encoding import FourierEncoding
from lightning_dws.inr_modules import Encode, OutputOffset, Sine, find_conflict

ACTIVATIONS = ("sine", "relu")


@dataclass(frozen=True)
class INRArchitecture:
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

    def to_dict(self) -> dict[str, Any]:
        """Give plain data, for JSON and checkpoints; ``INRArchitecture(**d)`` reads it."""
        plain = {**asdict(self), "widths": list(self.widths)}
        plain.pop("encoding")
        if self.encoding is not None:  # plain data without one is as it was before there were any
            plain["encoding"] = self.encoding.to_dict()
        return plain


@dataclass(eq=False)
class WeightBatch:
    """A batch of INRs of one architecture: one flat row of weights per INR.

    A row is in the order of ``torch.nn.utils.parameters_to_vector`` of the equivalent
    ``nn.Sequential`` of ``nn.Linear``: weight 0, bias 0, weight 1, bias 1, ..., weights (out, in).

    Attributes:
        architecture: What network each row is.
        parameters: The rows.
        label: The class; stays the hard class when ``target`` is soft.
        object_id: Which image or shape, unique over all splits of a dataset.
        view: Which neural view (independently initialised fit) of the object.
        target: Soft labels, or what a regression is to predict, a column each; None where the
            hard label is all there is.

    As a dataset of ``torch.utils.data.DataLoader`` its items are INRs, the loader's batches are
    ``WeightBatch``.

    Raises:
        DataError: A field has another shape or dtype; the message says which and what was found.
    """

    architecture: INRArchitecture
    parameters: Float[Tensor, "batch parameters"]
    label: Int64[Tensor, "batch"]
    object_id: Int64[Tensor, "batch"]
    view: Int64[Tensor, "batch"]
    target: Float[Tensor, "batch classes"] | None = None

    def __post_init__(self) -> None:
        expected = self.architecture.num_parameters
        if self.parameters.ndim != 2 or self.parameters.shape[1] != expected:
            raise DataError(
                f"parameters must have shape (B, {expected}) for widths "
                f"{self.architecture.widths}, got {tuple(self.parameters.shape)}"
            )
        if not self.parameters.is_floating_point():
            raise DataError(f"parameters must be floating point, got {self.parameters.dtype}")
        size = self.parameters.shape[0]
        for name in ("label", "object_id", "view"):
            field = getattr(self, name)
            if field.shape != (size,) or field.dtype != torch.int64:
                raise DataError(
                    f"{name} must be int64 of shape ({size},), "
                    f"got {field.dtype} of shape {tuple(field.shape)}"
                )
        if self.target is not None and (self.target.ndim != 2 or self.target.shape[0] != size):
            raise DataError(f"target must have shape ({size}, K), got {tuple(self.target.shape)}")

    @classmethod
    def from_parameters(
        cls,
        architecture: INRArchitecture,
        parameters: Float[Tensor, "batch parameters"],
        label: Int64[Tensor, "batch"] | None = None,
        object_id: Int64[Tensor, "batch"] | None = None,
        view: Int64[Tensor, "batch"] | None = None,
    ) -> Self:
        """Wrap rows; what is not given is label 0, objects numbered from 0, view 0."""
        size, device = len(parameters), parameters.device
        zeros = torch.zeros(size, dtype=torch.int64, device=device)
        return cls(
            architecture,
            parameters,
            zeros if label is None else label,
            torch.arange(size, device=device) if object_id is None else object_id,
            zeros if view is None else view,
        )

    @classmethod
    def from_layers(
        cls,
        architecture: INRArchitecture,
        weights: Sequence[Float[Tensor, "batch _out _in"]],
        biases: Sequence[Float[Tensor, "batch _out"]],
        label: Int64[Tensor, "batch"] | None = None,
        object_id: Int64[Tensor, "batch"] | None = None,
        view: Int64[Tensor, "batch"] | None = None,
    ) -> Self:
        """Flatten weights and biases of every layer into rows."""
        for kind, tensors in (("weight", weights), ("bias", biases)):
            if len(tensors) != architecture.num_layers:
                raise DataError(
                    f"expected {architecture.num_layers} {kind} tensors for widths "
                    f"{architecture.widths}, got {len(tensors)}"
                )
        columns = []
        layers = zip(weights, biases, architecture.weight_shapes, strict=True)
        for layer, (weight, bias, shape) in enumerate(layers):
            for name, tensor, wanted in (("weight", weight, shape), ("bias", bias, shape[:1])):
                if tuple(tensor.shape[1:]) != wanted:
                    raise DataError(
                        f"{name} of layer {layer} must have shape (B, *{wanted}), "
                        f"got {tuple(tensor.shape)}"
                    )
                columns.append(tensor.flatten(1))
        return cls.from_parameters(architecture, torch.cat(columns, dim=1), label, object_id, view)

    @classmethod
    def from_state_dicts(
        cls,
        architecture: INRArchitecture,
        state_dicts: Sequence[Mapping[str, Tensor]],
        label: Int64[Tensor, "batch"] | None = None,
    ) -> Self:
        """Read MLPs saved as state dicts: (weight, bias) per layer in order, under any names."""
        shapes = [s for out, in_ in architecture.weight_shapes for s in ((out, in_), (out,))]
        rows = []
        for number, state in enumerate(state_dicts):
            found = {name: tuple(tensor.shape) for name, tensor in state.items()}
            if list(found.values()) != shapes:
                raise DataError(
                    f"state dict {number} must hold tensors of shapes {shapes} for widths "
                    f"{architecture.widths}, got {found}"
                )
            rows.append(torch.cat([tensor.flatten() for tensor in state.values()]))
        return cls.from_parameters(architecture, torch.stack(rows), label)

    @classmethod
    def from_sequentials(cls, architecture: INRArchitecture, networks: Sequence[nn.Module]) -> Self:
        """Read MLPs whose parameters are those of ``nn.Linear`` layers in order.

        Raises:
            DataError: One has other layers, or its modules say that it computes something else.
        """
        for number, network in enumerate(networks):
            function = architecture.activation, architecture.w0, architecture.output_offset
            if (conflict := find_conflict(network, *function, architecture.encoding)) is not None:
                raise DataError(f"network {number}: {conflict}")
        return cls.from_state_dicts(
            architecture, [dict(network.named_parameters()) for network in networks]
        ).detach()

    def to_sequential(self, index: int) -> nn.Sequential:
        """Give one INR as an ``nn.Sequential`` that computes its function, coordinates (N, d)."""
        architecture = self.architecture
        encoding = architecture.encoding
        modules: list[nn.Module] = [] if encoding is None else [Encode(encoding)]
        for layer, (n_out, n_in) in enumerate(architecture.weight_shapes):
            modules.append(nn.Linear(n_in, n_out))
            if layer < architecture.num_layers - 1:
                sine = architecture.activation == "sine"
                modules.append(Sine(architecture.w0) if sine else nn.ReLU())
        network = nn.Sequential(*modules, OutputOffset(architecture.output_offset))
        network.to(device=self.parameters.device, dtype=self.parameters.dtype)
        nn.utils.vector_to_parameters(self.parameters[index].detach().clone(), network.parameters())
        return network

    @property
    def weights(self) -> list[Float[Tensor, "batch _out _in"]]:
        """Weight of every layer, views of ``parameters``."""
        shapes = self.architecture.weight_shapes
        return [
            self.parameters[:, where].view(-1, *shape)
            for where, shape in zip(self.architecture.weight_slices, shapes, strict=True)
        ]

    @property
    def biases(self) -> list[Float[Tensor, "batch _out"]]:
        """Bias of every layer, views of ``parameters``."""
        return [self.parameters[:, where] for where in self.architecture.bias_slices]

    @property
    def device(self) -> torch.device:
        return self.parameters.device

    def __len__(self) -> int:
        return self.parameters.shape[0]

    def __getitem__(self, index: Int[Tensor, "selected"] | slice | list[int] | int) -> Self:
        """Select INRs by a slice, a list or an index tensor; by an integer, only one."""
        return self._map(lambda tensor: tensor[index].reshape(-1, *tensor.shape[1:]))

    def __iter__(self) -> Iterator[Self]:
        """Give every INR, as a batch of one."""
        return (self[row : row + 1] for row in range(len(self)))

    def __getitems__(self, indices: list[int]) -> Self:
        """Give what a ``DataLoader`` asks for: all INRs of a batch at once."""
        return self[indices]

    def replace(self, **fields: Any) -> Self:
        """Give a batch with some fields replaced and the others shared."""
        return replace(self, **fields)

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Move to a device, or convert the floating fields to a dtype, as ``Tensor.to``."""
        moved = self.parameters.to(*args, **kwargs)
        placement = {"device": moved.device, "non_blocking": kwargs.get("non_blocking", False)}
        return replace(
            self,
            parameters=moved,
            label=self.label.to(**placement),
            object_id=self.object_id.to(**placement),
            view=self.view.to(**placement),
            target=None if self.target is None else self.target.to(*args, **kwargs),
        )

    def pin_memory(self) -> Self:
        """Copy to page-locked memory, from where transfers to a GPU are asynchronous."""
        return self._map(Tensor.pin_memory)

    def detach(self) -> Self:
        return self._map(Tensor.detach)

    def _map(self, function: Callable[[Tensor], Tensor]) -> Self:
        return replace(
            self,
            parameters=function(self.parameters),
            label=function(self.label),
            object_id=function(self.object_id),
            view=function(self.view),
            target=None if self.target is None else function(self.target),
        )


def cat(batches: Sequence[WeightBatch]) -> WeightBatch:
    """Join batches of one architecture, all with targets or none, into one."""
    architectures = {batch.architecture for batch in batches}
    if len(architectures) != 1:
        raise ValueError(
            f"batches must be of one architecture, got {sorted(map(str, architectures))}"
        )
    targets = [batch.target for batch in batches if batch.target is not None]
    if targets and len(targets) < len(batches):
        raise ValueError(f"{len(targets)} of {len(batches)} batches have targets")
    joined = {
        name: torch.cat([getattr(batch, name) for batch in batches])
        for name in ("parameters", "label", "object_id", "view")
    }
    target = torch.cat(targets) if targets else None
    return WeightBatch(batches[0].architecture, **joined, target=target)


def _collate(inrs: WeightBatch | Sequence[WeightBatch], **_: Any) -> WeightBatch:
    return inrs if isinstance(inrs, WeightBatch) else cat(inrs)


default_collate_fn_map[WeightBatch] = _collate  # of every DataLoader that is given no other
