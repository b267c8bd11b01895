"""Functions compiled by Numba for CPUs, once a machine where a file can keep them."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from numba import njit
from numba.core.dispatcher import Dispatcher

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function, sources: Sequence[Path] = ()) -> Function:
    """Compile a function of NumPy arrays and numbers; it holds no lock while it runs.

    What was compiled is kept beside the source or in the user's cache; where neither can be
    written, every process compiles anew. It is kept for as long as the text stays of its own file
    and of those of the compiled functions that this one knows by name, at which Numba does not
    look: kept with a callee's old text, it would go on with that.

    Args:
        function: What to compile.
        sources: More such files.
    """
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
    try:
        kept: Any = njit(cache=True, **options)(function)
    except RuntimeError:  # no place to keep it
        kept = njit(**options)(function)
    else:
        files = sorted({*sources, *_source_files(function)})
        texts = b"".join(path.read_bytes() for path in files)
        kept._cache._cache_file._source_stamp = hashlib.sha256(texts).hexdigest()
    result: Function = kept
    return result


def _source_files(function: Any) -> set[Path]:
    """Give the files of a function and of the compiled functions among its module's names."""
    files: set[Path] = set()
    functions = [function]
    while functions:
        one = functions.pop()
        path = Path(one.__code__.co_filename)
        if path not in files:
            files.add(path)
            names = one.__globals__.values()
            functions += [name.py_func for name in names if isinstance(name, Dispatcher)]
    return files
