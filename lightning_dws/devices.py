"""Find the device that an option names."""

import torch


def find_device(name: str, option: str) -> torch.device:
    """Give the device of a name: ``auto`` is a GPU where there is one.

    Args:
        name: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        option: What the name was given for, to be told in an error.

    Raises:
        ValueError: Another name, or a GPU where there is none.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda") or not (number.isdecimal() or number == ""):
        raise ValueError(f"{option} must be auto, cpu, cuda or cuda:N, got {name!r}")
    if kind == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"{option} is {name!r}, but torch finds no GPU")
    return torch.device(name)
