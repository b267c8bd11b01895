"""The one data type: a batch of rows of weights."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor, nn
from torch.utils.data._utils.collate import default_collate_fn_map

from lightning_dws.errors import DataError
from lightning_dws.inr_modules import Encode, OutputOffset, Sine, find_conflict
from lightning_dws.weight_space.inr_architecture import INRArchitecture, require_inrs
from lightning_dws.weight_space.tensor_specs import Architecture


@dataclass(eq=False)
class WeightBatch:
    """A batch of INRs, or other networks, of one architecture: one flat row of weights per INR.

    A row is in the order of ``torch.nn.utils.parameters_to_vector`` of the network; of an INR that
    is the equivalent ``nn.Sequential`` of ``nn.Linear``: weight 0, bias 0, weight 1, bias 1, ...,
    weights (out, in).

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

    architecture: Architecture
    parameters: Float[Tensor, "batch parameters"]
    label: Int64[Tensor, "batch"]
    object_id: Int64[Tensor, "batch"]
    view: Int64[Tensor, "batch"]
    target: Float[Tensor, "batch classes"] | None = None

    def __post_init__(self) -> None:
        expected = self.architecture.num_parameters
        if self.parameters.ndim != 2 or self.parameters.shape[1] != expected:
            raise DataError(
                f"parameters must have shape (B, {expected}) for {self.architecture.summary}, "
                f"got {tuple(self.parameters.shape)}"
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
        architecture: Architecture,
        parameters: Float[Tensor, "batch parameters"],
        label: Int64[Tensor, "batch"] | None = None,
        object_id: Int64[Tensor, "batch"] | None = None,
        view: Int64[Tensor, "batch"] | None = None,
    ) -> Self:
        """Wrap rows; what is not given is label 0, objects numbered from 0, view 0."""
        size, device = len(parameters), parameters.device

        def zeros() -> Tensor:  # of each field its own: safetensors takes no shared memory
            return torch.zeros(size, dtype=torch.int64, device=device)

        return cls(
            architecture,
            parameters,
            zeros() if label is None else label,
            torch.arange(size, device=device) if object_id is None else object_id,
            zeros() if view is None else view,
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
    def from_tensors(
        cls,
        architecture: Architecture,
        tensors: Sequence[Float[Tensor, "batch *_"]],
        label: Int64[Tensor, "batch"] | None = None,
        object_id: Int64[Tensor, "batch"] | None = None,
        view: Int64[Tensor, "batch"] | None = None,
    ) -> Self:
        """Flatten tensors (B, *shape), as ``tensors`` gives them, into rows."""
        shapes = [spec.shape for spec in architecture.tensors]
        found = [tuple(tensor.shape[1:]) for tensor in tensors]
        if found != shapes:
            raise DataError(f"expected tensors of shapes (B, *{shapes}), got {found}")
        rows = torch.cat([tensor.flatten(1) for tensor in tensors], dim=1)
        return cls.from_parameters(architecture, rows, label, object_id, view)

    @classmethod
    def from_state_dicts(
        cls,
        architecture: Architecture,
        state_dicts: Sequence[Mapping[str, Tensor]],
        label: Int64[Tensor, "batch"] | None = None,
    ) -> Self:
        """Read networks saved as state dicts: every tensor in its place, under any name."""
        specs = architecture.tensors
        rows = []
        for number, state in enumerate(state_dicts):
            found = {name: tuple(tensor.shape) for name, tensor in state.items()}
            if len(found) != len(specs) or not all(
                spec.holds(shape) for spec, shape in zip(specs, found.values(), strict=True)
            ):
                raise DataError(
                    f"state dict {number} must hold tensors of shapes "
                    f"{[spec.shape for spec in specs]} for {architecture.summary}, got {found}"
                )
            rows.append(torch.cat([tensor.flatten() for tensor in state.values()]))
        table = torch.stack(rows) if rows else torch.empty(0, architecture.num_parameters)
        return cls.from_parameters(architecture, table, label)

    @classmethod
    def from_sequentials(cls, architecture: Architecture, networks: Sequence[nn.Module]) -> Self:
        """Read networks by their parameters, in order: an INR's are those of ``nn.Linear`` layers.

        Raises:
            DataError: One has other layers, or its modules say that it computes something else.
        """
        for number, network in enumerate(networks):
            if not isinstance(architecture, INRArchitecture):
                continue
            function = architecture.activation, architecture.w0, architecture.output_offset
            if (conflict := find_conflict(network, *function, architecture.encoding)) is not None:
                raise DataError(f"network {number}: {conflict}")
        return cls.from_state_dicts(
            architecture, [dict(network.named_parameters()) for network in networks]
        ).detach()

    def to_sequential(self, index: int) -> nn.Sequential:
        """Give one INR as an ``nn.Sequential`` that computes its function, coordinates (N, d)."""
        architecture = require_inrs(self.architecture, "to_sequential")
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

    def named_parameters(self, module: nn.Module) -> dict[str, Float[Tensor, "batch *_"]]:
        """Give every network's parameters by their names in a module, shaped as its own are.

        With ``torch.func.functional_call``, under ``torch.vmap``, it then computes what the
        networks do.

        Raises:
            DataError: The module has other parameters.
        """
        shapes = {name: tuple(own.shape) for name, own in module.named_parameters()}
        specs = self.architecture.tensors
        if len(shapes) != len(specs) or not all(
            spec.holds(shape) for spec, shape in zip(specs, shapes.values(), strict=True)
        ):
            raise DataError(
                f"the module must have the parameters of {self.architecture.summary}, got {shapes}"
            )
        parts = zip(shapes.items(), self.architecture.tensor_slices, strict=True)
        return {name: self.parameters[:, where].view(-1, *shape) for (name, shape), where in parts}

    @property
    def tensors(self) -> list[Float[Tensor, "batch *_"]]:
        """Every tensor of the architecture, views of ``parameters``."""
        return [
            self.parameters[:, where].view(-1, *spec.shape)
            for spec, where in zip(
                self.architecture.tensors, self.architecture.tensor_slices, strict=True
            )
        ]

    @property
    def weights(self) -> list[Float[Tensor, "batch _out _in *_"]]:
        """Weight of every layer, views of ``parameters``."""
        return self._views(is_weight=True)

    @property
    def biases(self) -> list[Float[Tensor, "batch _out"]]:
        """Bias of every layer that has one, views of ``parameters``."""
        return self._views(is_weight=False)

    def _views(self, is_weight: bool) -> list[Tensor]:
        specs, slices = self.architecture.tensors, self.architecture.tensor_slices
        return [
            self.parameters[:, where].view(-1, *spec.shape)
            for spec, where in zip(specs, slices, strict=True)
            if spec.is_weight == is_weight
        ]

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
