"""What a file of published weights holds: the tensors of one network, and perhaps a label."""

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import Tensor

from lightning_dws.errors import DataError
from lightning_dws.inrs.formats.source import MAX_FILE_BYTES
from lightning_dws.inrs.formats.torch_files import parse_torch_file

LABEL_KEY = "label"
_WRAPPERS = ("state_dict", "model_state_dict")
_OPTIMIZER_KEY = "param_groups"
_MAX_DEPTH = 4
_FREQUENCY = re.compile(
    r"(.*[._])?((first|hidden)_)?(w0|w_0|omega_0|omega0)(_(initial|first|hidden))?", re.IGNORECASE
)


@dataclass(frozen=True)
class SavedState:
    """What a file holds of one network.

    Attributes:
        tensors: By name.
        label: None where the file does not tell.
        frequencies: Numbers beside the tensors that are named as a SIREN's frequency is.
        is_ordered: Whether the order of the tensors says in which they were registered.
    """

    tensors: dict[str, Tensor]
    label: int | None = None
    frequencies: dict[str, float] = field(default_factory=dict)
    is_ordered: bool = True


def parse_state_dict(content: bytes, is_safetensors: bool) -> SavedState:
    """Read a state dict, alone or in a checkpoint, whose other plain data is passed over.

    Raises:
        DataError: The file is damaged, or holds several networks or something else.
    """
    if is_safetensors:
        try:
            saved: dict[str, Any] = dict(load_safetensors(content))
        # for hostile headers it raises whatever building the tensors raises
        except (SafetensorError, ValueError, LookupError, TypeError, RuntimeError) as error:
            raise DataError(f"damaged ({str(error)[:200]})") from error
    else:
        saved = parse_torch_file(content, MAX_FILE_BYTES)
    dicts = dict(_find_dicts(saved))
    state = _choose_state(dicts)
    labels = {_read_label(part[LABEL_KEY]) for part in (saved, state) if LABEL_KEY in part}
    if len(labels) > 1:
        raise DataError(f"holds two labels, {' and '.join(map(str, sorted(labels)))}")
    frequencies = {
        name: float(value)
        for part in dicts.values()
        for name, value in part.items()
        if isinstance(name, str) and _is_number(value) and _FREQUENCY.fullmatch(name)
    }
    tensors = {
        str(name): value
        for name, value in state.items()
        if isinstance(value, Tensor) and name != LABEL_KEY and name not in frequencies
    }
    return SavedState(tensors, next(iter(labels), None), frequencies, not is_safetensors)


def _find_dicts(saved: dict[str, Any]) -> Iterator[tuple[str, dict[Any, Any]]]:
    """Give a dict and those inside it, with the names that lead there; none of an optimizer."""
    seen = {id(saved)}
    queue = deque([("", saved, 0)])
    while queue:
        path, part, depth = queue.popleft()
        yield path, part
        for name, value in part.items():
            inside = isinstance(value, dict) and isinstance(name, str)
            if inside and depth < _MAX_DEPTH and id(value) not in seen:
                seen.add(id(value))
                if _OPTIMIZER_KEY not in value:
                    queue.append((f"{path}.{name}" if path else name, value, depth + 1))


def _choose_state(dicts: dict[str, dict[Any, Any]]) -> dict[Any, Any]:
    """Choose the one dict that is a network's.

    Raises:
        DataError: Several could be.
    """
    found = [path for path, part in dicts.items() if _is_state(part, is_inside=path != "")]
    if len(found) > 1 and "" not in found:
        named = [path for path in found if path.rsplit(".", 1)[-1] in _WRAPPERS]
        found = named if len(named) == 1 else found
    if len(found) > 1:
        names = ", ".join(repr(path[:80]) if path else "the file itself" for path in found[:8])
        raise DataError(f"holds the tensors of several networks ({names}): which one is not said")
    return dicts[found[0] if found else ""]


def _is_state(part: dict[Any, Any], is_inside: bool) -> bool:
    values = list(part.values())
    plain = not is_inside or all(isinstance(value, Tensor | int | float) for value in values)
    return plain and any(isinstance(value, Tensor) and value.ndim == 2 for value in values)


def _is_number(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.ndim == 0 and not value.is_complex()
    return isinstance(value, int | float) and not isinstance(value, bool)


def _read_label(label: Any) -> int:
    if isinstance(label, Tensor):
        if label.numel() != 1 or label.is_floating_point() or label.is_complex():
            raise DataError(f"label is {label.dtype} of shape {tuple(label.shape)}")
        return int(label)
    if type(label) is not int:
        raise DataError(f"label is a {type(label).__name__}, expected an integer")
    return label
