"""What reads the features of a whole network: a multilayer perceptron."""

import itertools
from collections.abc import Sequence

from torch import nn


def multilayer_head(widths: Sequence[int], dropout: float = 0.0) -> nn.Sequential:
    """Linear maps between the widths, with relu, and dropout if there is any, between them."""
    modules: list[nn.Module] = []
    for in_width, out_width in itertools.pairwise(widths):
        modules += [nn.Linear(in_width, out_width), nn.ReLU()]
        if dropout > 0:
            modules.append(nn.Dropout(dropout))
    last = 2 if dropout > 0 else 1
    return nn.Sequential(*modules[:-last])
