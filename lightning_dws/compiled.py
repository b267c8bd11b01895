"""Functions compiled by Numba for CPUs, once a machine where a file can keep them."""

from collections.abc import Callable
from typing import Any, TypeVar

from numba import njit

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """Compile a function of NumPy arrays and numbers; it holds no lock while it runs.

    What was compiled is kept beside the source or in the user's cache; where neither can be
    written, every process compiles anew.
    """
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
    try:
        kept: Function = njit(cache=True, **options)(function)
    except RuntimeError:  # no place to keep it
        kept = njit(**options)(function)
    return kept
