"""Functions compiled by Numba for CPUs, once a machine where a file can keep them."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from numba import njit

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function, sources: Sequence[Path] = ()) -> Function:
    """Compile a function of NumPy arrays and numbers; it holds no lock while it runs.

    What was compiled is kept beside the source or in the user's cache; where neither can be
    written, every process compiles anew.

    Args:
        function: What to compile.
        sources: Files whose change makes what was kept invalid, where that is not the function's
            own file alone: Numba does not look at those of the functions that it calls.
    """
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
    try:
        kept: Any = njit(cache=True, **options)(function)
    except RuntimeError:  # no place to keep it
        kept = njit(**options)(function)
    else:
        if sources:
            texts = b"".join(path.read_bytes() for path in sources)
            kept._cache._cache_file._source_stamp = hashlib.sha256(texts).hexdigest()
    result: Function = kept
    return result
