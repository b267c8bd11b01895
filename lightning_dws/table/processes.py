"""Fresh processes that are cheap: forked from one that has imported everything already.

Each ends when the process that asked for it does, however that ends.
"""

import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import connection, forkserver, util
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

from filelock import BaseFileLock, FileLock, Timeout

_FOLDER_PREFIX = "lightning_dws-table-"
_lock: BaseFileLock | None = None
_PRELOADED = ["lightning_dws.table.preloaded"]


def start_process(
    function: Callable[..., None], arguments: tuple[Any, ...], log: Path | None
) -> ForkServerProcess:
    """Call a function in a fresh process.

    Args:
        function: Of a module; what it raises goes to its standard error.
        arguments: Of the function; they can be pickled.
        log: Takes the process's standard output and error; None leaves them.
    """
    context = _context()
    process = context.Process(target=_call, args=(function, arguments, log))
    process.start()
    return process


def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    path = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)  # where the server imports from
    try:
        with _own_temporary_folder():
            forkserver.ensure_running()
    finally:
        os.environ.pop("PYTHONPATH")
        if path is not None:
            os.environ["PYTHONPATH"] = path
    return context


@contextmanager
def _own_temporary_folder() -> Iterator[None]:
    """Let the server's socket be where a later table finds and removes it, if this one is killed.

    The folder is locked for as long as this process lives.
    """
    global _lock
    if _lock is not None:
        yield
        return
    remove_folders_left_behind()
    folder = tempfile.mkdtemp(prefix=_FOLDER_PREFIX)
    _lock = FileLock(Path(folder) / "lock")
    _lock.acquire()
    # behind multiprocessing's own, which removes its folder in this one at priority -100
    util.Finalize(None, shutil.rmtree, (folder, True), exitpriority=-200)
    before, tempfile.tempdir = tempfile.tempdir, folder
    try:
        yield
    finally:
        tempfile.tempdir = before


def remove_folders_left_behind() -> None:
    """Remove temporary folders of tables that were killed."""
    for path in Path(tempfile.gettempdir()).glob(f"{_FOLDER_PREFIX}*/lock"):
        with suppress(Timeout, OSError), FileLock(path).acquire(timeout=0):
            shutil.rmtree(path.parent, ignore_errors=True)


def _call(function: Callable[..., None], arguments: tuple[Any, ...], log: Path | None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if log is not None:
        redirect_output(log)
    function(*arguments)


def redirect_output(log: Path) -> None:
    """Let all that this process prints from now on go to the end of a file."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "ab", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)
