"""Walk through the modules of a network and name the axes of their parameters."""

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from lightning_dws.errors import DataError
from lightning_dws.inr_modules import Sine
from lightning_dws.weight_space.tensor_specs import Axis, TensorSpec

_CONVOLUTIONS: dict[type, int] = {nn.Conv1d: 1, nn.Conv2d: 2, nn.Conv3d: 3}  # axes of positions
_POOLINGS: dict[type, tuple[str, int]] = {
    getattr(nn, f"{adaptive}{kind}Pool{axes}d"): (f"{kind.lower()}_pool", axes)
    for adaptive in ("", "Adaptive")
    for kind in ("Max", "Avg")
    for axes in (1, 2, 3)
}
_ACTIVATIONS: dict[type, str] = {
    kind: kind.__name__.lower()
    for kind in (
        nn.CELU,
        nn.ELU,
        nn.GELU,
        nn.Hardsigmoid,
        nn.Hardswish,
        nn.Hardtanh,
        nn.LeakyReLU,
        nn.Mish,
        nn.ReLU,
        nn.ReLU6,
        nn.SELU,
        nn.SiLU,
        nn.Sigmoid,
        Sine,
        nn.Softplus,
        nn.Softsign,
        nn.Tanh,
    )
}
_NOTHING = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)
_EXPECTED = (
    "expected Linear, Conv1d to Conv3d, activations without parameters, max and average pooling, "
    "Flatten and dropout in nn.Sequential"
)


def walk_module(
    module: nn.Module, input_shape: tuple[int, ...]
) -> tuple[list[TensorSpec], dict[str, list[str]]]:
    """Give the tensors of a network, and what is applied to each group of its hidden neurons.

    Args:
        module: The network.
        input_shape: Of one input, channels first.

    Raises:
        DataError: A module that is not known, or that is used in another way; it is named.
    """
    layers = list(_layers(module, ""))
    while layers and not any(True for _ in layers[-1][1].parameters()):
        layers.pop()  # it works on the outputs, which are fixed
    mapping = [layer for _, layer in layers if _is_mapping(layer)]
    if len({id(layer) for layer in mapping}) < len(mapping):
        raise DataError(f"{type(module).__name__} uses a layer twice; give its tensors yourself")
    walk = _Walk(input_shape)
    for number, (name, layer) in enumerate(layers, start=1):
        place = f"module {name or 'itself'} ({type(layer).__name__})"
        if _is_mapping(layer):
            walk.map(layer, name, place, is_last=number == len(layers))
        else:
            walk.apply(layer, place)
        walk.advance(layer, place)
    return walk.tensors, {group: names or ["identity"] for group, names in walk.functions.items()}


def _layers(module: nn.Module, name: str) -> Iterator[tuple[str, nn.Module]]:
    if type(module) is nn.Sequential:
        for child, layer in module._modules.items():  # named_children leaves out repetitions
            assert layer is not None
            yield from _layers(layer, f"{name}.{child}" if name else child)
    else:
        yield name, module


def _is_mapping(layer: nn.Module) -> bool:
    return type(layer) is nn.Linear or type(layer) in _CONVOLUTIONS


class _Walk:
    """Where in a network we are: what the signal's channels are, and its shape."""

    def __init__(self, input_shape: tuple[int, ...]) -> None:
        self.tensors: list[TensorSpec] = []
        self.functions: dict[str, list[str]] = {}
        self.group: Axis = None  # of the channels now; None for the inputs and the outputs
        self.width = 0  # neurons of the group
        self.signal = torch.empty(1, *input_shape, device="meta")

    def map(self, layer: nn.Module, name: str, place: str, is_last: bool) -> None:
        """Name the axes of a layer's parameters, and go on with the neurons that it maps to."""
        positions = _CONVOLUTIONS.get(type(layer), 0)
        self._require_axes(positions, place)
        if getattr(layer, "groups", 1) != 1:
            raise DataError(f"{place}: groups must be 1, got {layer.groups}")
        target = None if is_last else f"h{len(self.functions) + 1}"
        weight, bias = layer.weight, layer.bias
        assert isinstance(weight, Tensor)
        shape, axes = tuple(weight.shape), (target, self.group) + (None,) * positions
        if self.group is not None and shape[1] != self.width:  # a flattened feature map
            shape = (shape[0], self.width, shape[1] // self.width)
            axes = (target, self.group, None)
        prefix = f"{name}." if name else ""
        self.tensors.append(TensorSpec(f"{prefix}weight", shape, axes))
        if bias is not None:
            self.tensors.append(TensorSpec(f"{prefix}bias", shape[:1], (target,)))
        self.group, self.width = target, shape[0]
        if target is not None:
            self.functions[target] = []

    def apply(self, layer: nn.Module, place: str) -> None:
        """Note what a layer without parameters does with the neurons."""
        kind = type(layer)
        if kind in _POOLINGS:
            name, positions = _POOLINGS[kind]
            self._require_axes(positions, place)
            self._note(name)
        elif kind in _ACTIVATIONS:
            self._note(_ACTIVATIONS[kind])
        elif isinstance(layer, nn.Flatten):
            if (layer.start_dim, layer.end_dim) != (1, -1):
                raise DataError(f"{place}: must flatten all axes but the batch's")
        elif kind not in _NOTHING:
            raise DataError(f"{place} is not known; {_EXPECTED}")

    def advance(self, layer: nn.Module, place: str) -> None:
        """Let the signal's shape through a layer."""
        try:
            signal = copy.deepcopy(layer).to("meta").eval()(self.signal)
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            reason = " ".join(str(error).split())
            raise DataError(
                f"{place} cannot take inputs of shape {tuple(self.signal.shape[1:])}: {reason}"
            ) from error
        if not isinstance(signal, Tensor):
            raise DataError(f"{place} must give one tensor, got a {type(signal).__name__}")
        self.signal = signal

    def _note(self, name: str) -> None:
        if self.group is not None and name not in self.functions[self.group]:
            self.functions[self.group].append(name)

    def _require_axes(self, positions: int, place: str) -> None:
        """Refuse layers that would take an axis for another one."""
        if self.signal.ndim != 2 + positions:
            wanted = "(features,)" if positions == 0 else f"channels and {positions} axes more"
            raise DataError(f"{place} needs inputs of {wanted}, got {tuple(self.signal.shape[1:])}")
