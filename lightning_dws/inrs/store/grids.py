"""The points to draw INRs at, where nobody says which they were fitted on."""

from lightning_dws.errors import DataError
from lightning_dws.weight_space import Architecture, INRArchitecture

_LINE_SIZE = 1024  # points of a signal with one input
_IMAGE_SIZE = 28  # of MNIST and Fashion-MNIST; CIFAR-10's INRs have three outputs
_COLOUR_IMAGE_SIZE = 32
_SHAPE_GRID_SIZE = 32


def choose_grid(architecture: Architecture) -> tuple[int, ...]:
    """Choose a grid for INRs: as many points along each axis as their kind usually has.

    Other networks have none: ().

    Raises:
        DataError: They are of no line, image or shape.
    """
    if not isinstance(architecture, INRArchitecture):
        return ()
    if architecture.in_features == 3:
        return (_SHAPE_GRID_SIZE,) * 3
    if architecture.in_features == 2:
        return (_COLOUR_IMAGE_SIZE if architecture.out_features == 3 else _IMAGE_SIZE,) * 2
    if architecture.in_features == 1:
        return (_LINE_SIZE,)
    raise DataError(
        f"INRs of widths {architecture.widths} with {architecture.in_features} inputs, expected 1 "
        "(a line's), 2 (an image's) or 3 (a shape's); of an encoding's features, give the encoding"
    )
