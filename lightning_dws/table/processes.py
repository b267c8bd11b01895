"""Fresh processes that are cheap: forked from one that has imported everything already.

Each ends when the process that asked for it does, however that ends.
"""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from multiprocessing import connection, forkserver
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

_PRELOADED = ["lightning_dws.table.worker"]


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
        forkserver.ensure_running()
    finally:
        os.environ.pop("PYTHONPATH")
        if path is not None:
            os.environ["PYTHONPATH"] = path
    return context


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
