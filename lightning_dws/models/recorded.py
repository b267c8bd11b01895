"""Networks that remember how they were made, so that a checkpoint can say it."""

import functools
import inspect
from typing import Any, TypeVar

from torch import nn

from lightning_dws.weight_space import INRArchitecture

_ATTRIBUTE = "_recorded_arguments"
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


def describe(network: nn.Module) -> dict[str, Any] | None:
    """Give what a recorded network is, as plain data.

    Returns:
        ``class_path`` and ``init_args``; None for a network that is not recorded, or whose
        arguments are not plain data.
    """
    arguments = getattr(network, _ATTRIBUTE, None)
    if arguments is None or "<locals>" in type(network).__qualname__:
        return None
    try:
        plain = {name: _plain(value) for name, value in arguments.items()}
    except TypeError:
        return None
    return {
        "class_path": f"{type(network).__module__}.{type(network).__qualname__}",
        "init_args": plain,
    }


def _plain(value: Any) -> Any:
    """Give an argument as numbers, text, lists and dicts.

    Raises:
        TypeError: It is something else.
    """
    if isinstance(value, INRArchitecture):
        return value.to_dict()
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if isinstance(value, dict) and all(type(name) is str for name in value):
        return {name: _plain(part) for name, part in value.items()}
    raise TypeError(f"{value!r} is not plain data")
