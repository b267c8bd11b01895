"""Learning in deep weight spaces with PyTorch Lightning."""

from lightning_dws.weight_space import INRArchitecture, WeightBatch

__all__ = ["INRArchitecture", "WeightBatch"]
__version__ = "0.1.0"
