"""Functions compiled by Numba for CPUs, once a machine where a file can keep them."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout
from numba import njit
from numba.core.compiler_lock import global_compiler_lock
from numba.core.dispatcher import Dispatcher

Function = TypeVar("Function", bound=Callable[..., Any])

_LONGEST_WAIT = 300  # seconds; longer than any function here takes to compile


def compiled(function: Function, sources: Sequence[Path] = ()) -> Function:
    """Compile a function of NumPy arrays and numbers; it holds no lock while it runs.

    What was compiled is kept beside the source or in the user's cache, and processes that want it
    at the same time wait for the one that compiles; where neither can be written, every process
    compiles anew. It is kept for as long as the text stays of its own file and of those of the
    compiled functions that this one knows by name, at which Numba does not look: kept with a
    callee's old text, it would go on with that.

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
        _compile_in_turn(kept)
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


def _compile_in_turn(kept: Any) -> None:
    """Let one process after the other compile a function, of which the others load what it kept."""
    name = f"{kept.py_func.__module__}.{kept.py_func.__qualname__}".replace("<locals>", "locals")
    path = Path(kept._cache.cache_path) / f"{name}.lock"
    compile_now = kept.compile

    def compile_in_turn(signature: Any) -> Any:
        # A lock made here, for one of before a fork is refused; and Numba's own lock comes first,
        # as it does where what is compiled compiles what it calls: threads wait in one order.
        with global_compiler_lock, _held(FileLock(path)):
            return compile_now(signature)

    kept.compile = compile_in_turn


@contextmanager
def _held(lock: FileLock) -> Iterator[None]:
    """Hold a lock, if there can be one, and nobody else holds it for too long."""
    try:
        Path(lock.lock_file).parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=_LONGEST_WAIT)
    except (OSError, NotImplementedError, Timeout):
        yield
        return
    try:
        yield
    finally:
        lock.release()
