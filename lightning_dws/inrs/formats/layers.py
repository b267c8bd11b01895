"""Between state dicts and rows of weights."""

from collections.abc import Mapping

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import Tensor

from lightning_dws.errors import DataError
from lightning_dws.inrs.formats.source import MAX_FILE_BYTES, natural_key
from lightning_dws.inrs.formats.torch_files import parse_torch_file
from lightning_dws.weight_space import INRArchitecture

LABEL_KEY = "label"
_MAX_LAYERS = 64


def parse_state_dict(content: bytes, is_safetensors: bool) -> tuple[dict[str, Tensor], int | None]:
    """Read the tensors of a file, and the label if there is one.

    Raises:
        DataError: The file is damaged, or holds something else.
    """
    if is_safetensors:
        try:
            tensors: dict[str, Tensor | int] = dict(load_safetensors(content))
        # for hostile headers it raises whatever building the tensors raises
        except (SafetensorError, ValueError, LookupError, TypeError, RuntimeError) as error:
            raise DataError(f"damaged ({str(error)[:200]})") from error
        # its own order is by dtype and name: a bias would precede its weight
        names = sorted(tensors, key=natural_key)
        tensors = {name: tensors[name] for name in names}
    else:
        tensors = parse_torch_file(content, MAX_FILE_BYTES)
    label = tensors.pop(LABEL_KEY, None)
    if isinstance(label, Tensor):
        if label.numel() != 1 or label.is_floating_point():
            raise DataError(f"label is {label.dtype} of shape {tuple(label.shape)}")
        label = int(label)
    return {name: value for name, value in tensors.items() if isinstance(value, Tensor)}, label


def flatten_layers(tensors: Mapping[str, Tensor]) -> tuple[tuple[int, ...], Tensor]:
    """Make a row of the weights and biases of an MLP's layers, in their order.

    Returns:
        The widths, and the row (P,).

    Raises:
        DataError: They are not float32, not finite, or not those of consecutive linear layers.
    """
    for name, tensor in tensors.items():
        if tensor.dtype != torch.float32:
            raise DataError(f"{name[:80]} is {tensor.dtype}, expected torch.float32")
    shapes = {name[:80]: tuple(tensor.shape) for name, tensor in list(tensors.items())[:8]}
    weights = [tensor for tensor in tensors.values() if tensor.ndim == 2]
    biases = [tensor for tensor in tensors.values() if tensor.ndim == 1]
    if not (
        2 <= len(weights) == len(biases) <= _MAX_LAYERS
        and len(weights) + len(biases) == len(tensors)
        and all(w.shape[0] == len(b) > 0 for w, b in zip(weights, biases, strict=True))
        and all(w.shape[1] == len(b) for w, b in zip(weights[1:], biases, strict=False))
        and weights[0].shape[1] > 0
    ):
        raise DataError(f"not the weights and biases of linear layers in order: {shapes}")
    widths = (weights[0].shape[1], *(len(bias) for bias in biases))
    pairs = zip(weights, biases, strict=True)
    row = torch.cat([tensor.reshape(-1) for pair in pairs for tensor in pair])
    if not row.isfinite().all():
        raise DataError("its weights are not finite")
    return widths, row


def split_layers(architecture: INRArchitecture, row: Tensor, names: list[str]) -> dict[str, Tensor]:
    """Give a row (P,) as a state dict; ``names`` are the layers', without ``.weight``."""
    state = {}
    slices = zip(architecture.weight_slices, architecture.bias_slices, strict=True)
    for (weight, bias), shape, name in zip(slices, architecture.weight_shapes, names, strict=True):
        # clones: torch.save writes the whole storage of a view
        state[f"{name}.weight"] = row[weight].reshape(shape).clone()
        state[f"{name}.bias"] = row[bias].clone()
    return state
