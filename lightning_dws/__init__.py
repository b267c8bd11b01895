"""Learning in deep weight spaces with PyTorch Lightning."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lightning_dws.program import __version__

if TYPE_CHECKING:
    from lightning_dws.prediction import load_checkpoint
    from lightning_dws.weight_space import (
        INRArchitecture,
        NetworkArchitecture,
        TensorSpec,
        WeightBatch,
    )

__all__ = [
    "INRArchitecture",
    "NetworkArchitecture",
    "TensorSpec",
    "WeightBatch",
    "__version__",
    "load_checkpoint",
]

_HOMES = {
    "INRArchitecture": "weight_space",
    "NetworkArchitecture": "weight_space",
    "TensorSpec": "weight_space",
    "WeightBatch": "weight_space",
    "load_checkpoint": "prediction",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for, and torch with it, which takes seconds, only then."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    return value
