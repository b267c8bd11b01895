"""What ``--help`` says of the classes that an option takes."""

import inspect
import re
from argparse import Action
from importlib import import_module

from jsonargparse import DefaultHelpFormatter

_KNOWN = re.compile(r", known subclasses: ([\w., ]+)")
_OF_A_NETWORK = {"architecture", "num_classes"}  # arguments of every network's constructor
_BASE = "<class 'torch.nn.modules.module.Module'>"


class HelpFormatter(DefaultHelpFormatter):
    """jsonargparse's formatter, which names the networks among the hundreds of torch's modules."""

    def _get_help_string(self, action: Action) -> str:
        text = super()._get_help_string(action)
        if str(getattr(action, "_typehint", None)) != _BASE:
            return text
        return _KNOWN.sub(lambda known: _networks_of(known[1].split(", ")), text)


def _networks_of(paths: list[str]) -> str:
    networks = [path for path in paths if _arguments_of(path) >= _OF_A_NETWORK]
    return f", such as: {', '.join(networks)}"


def _arguments_of(path: str) -> set[str]:
    module, _, name = path.rpartition(".")
    try:
        return set(inspect.signature(getattr(import_module(module), name)).parameters)
    except (ImportError, AttributeError, ValueError, TypeError):  # nothing that could be named
        return set()
