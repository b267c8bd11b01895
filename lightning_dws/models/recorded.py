"""Networks that remember how they were made, so that a checkpoint can say it."""

import functools
import inspect
from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from lightning_dws.weight_space import Architecture

_ATTRIBUTE = "_recorded_arguments"
_STATE = (*vars(nn.Module()), _ATTRIBUTE)  # what every module has: its weights, mode and hooks
Network = TypeVar("Network", bound=type[nn.Module])


def recorded(network_class: Network) -> Network:
    """Let every instance of a network's class keep the arguments that it was made with.

    Decorate an own network with it, and the checkpoints of a trainer in Python say what the
    network is, as those of the command line always do.
    """
    make = network_class.__init__
    signature = inspect.signature(make)

    @functools.wraps(make)
    def record(self: nn.Module, *args: Any, **kwargs: Any) -> None:
        make(self, *args, **kwargs)
        if type(self) is network_class:  # a subclass has arguments of its own
            bound = signature.bind(self, *args, **kwargs)
            bound.apply_defaults()
            named = dict(list(bound.arguments.items())[1:])
            for name, parameter in signature.parameters.items():
                if parameter.kind is parameter.VAR_KEYWORD:
                    named |= named.pop(name)
            object.__setattr__(self, _ATTRIBUTE, named)

    network_class.__init__ = record  # type: ignore[method-assign]
    return network_class


def describe(network: nn.Module, known: Mapping[str, Any]) -> dict[str, Any] | None:
    """Give what a network is, as plain data.

    Of a class that is not decorated the arguments are taken from ``known``, from attributes of
    their names and from defaults, and believed only if a network made of them is the same.

    Args:
        network: Any network.
        known: Arguments that its user knows, by name: ``architecture`` and ``num_classes``.

    Returns:
        ``class_path`` and ``init_args``; None for a network that cannot be made again from its
        class's name and plain data.
    """
    kind = type(network)
    if "<locals>" in kind.__qualname__:
        return None
    arguments = getattr(network, _ATTRIBUTE, None)
    believed = arguments is not None
    if arguments is None:
        arguments = _find_arguments(network, known)
    try:
        plain = {name: _plain(value) for name, value in (arguments or {}).items()}
    except TypeError:
        return None
    if not believed and (arguments is None or not _makes_again(network, arguments)):
        return None
    return {"class_path": f"{kind.__module__}.{kind.__qualname__}", "init_args": plain}


def _find_arguments(network: nn.Module, known: Mapping[str, Any]) -> dict[str, Any] | None:
    found = {}
    for name, parameter in list(inspect.signature(type(network).__init__).parameters.items())[1:]:
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        value = vars(network).get(name, known.get(name, parameter.default))
        if value is parameter.empty:
            return None
        found[name] = value
    return found


def _makes_again(network: nn.Module, arguments: dict[str, Any]) -> bool:
    """Whether arguments make the same network, all but the values that checkpoints hold."""
    try:
        with torch.device("meta"):  # no memory, and no random numbers
            other = type(network)(**arguments)
    except Exception:  # whatever an own network does with arguments that are not its own
        return False
    ours, others = dict(network.named_modules()), dict(other.named_modules())
    return ours.keys() == others.keys() and all(
        _is_alike(module, others[name]) for name, module in ours.items()
    )


def _is_alike(module: nn.Module, other: nn.Module) -> bool:
    if type(module) is not type(other) or module._non_persistent_buffers_set:
        return False
    state, other_state = module.state_dict(), other.state_dict()
    if {n: v.shape for n, v in state.items()} != {n: v.shape for n, v in other_state.items()}:
        return False
    settings, other_settings = (
        {name: value for name, value in vars(m).items() if name not in _STATE}
        for m in (module, other)
    )
    return settings.keys() == other_settings.keys() and all(
        not isinstance(value, Tensor) and bool(value == other_settings[name])
        for name, value in settings.items()
    )


def _plain(value: Any) -> Any:
    """Give an argument as numbers, text, lists and dicts.

    Raises:
        TypeError: It is something else.
    """
    if isinstance(value, Architecture):
        return value.to_dict()
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if isinstance(value, dict) and all(type(name) is str for name in value):
        return {name: _plain(part) for name, part in value.items()}
    raise TypeError(f"{value!r} is not plain data")
