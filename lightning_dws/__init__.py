"""Learning in deep weight spaces with PyTorch Lightning."""

from typing import TYPE_CHECKING, Any

from lightning_dws.weight_space import INRArchitecture, WeightBatch

if TYPE_CHECKING:
    from lightning_dws.prediction import load_checkpoint

__all__ = ["INRArchitecture", "WeightBatch", "load_checkpoint"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import ``load_checkpoint`` when it is asked for: it needs all of Lightning."""
    if name == "load_checkpoint":
        from lightning_dws.prediction import load_checkpoint

        return load_checkpoint
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
