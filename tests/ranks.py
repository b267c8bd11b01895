"""Two processes that make up a run, forked from one that has everything imported already."""

import io
import multiprocessing
import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

_CONTEXT = multiprocessing.get_context("forkserver")
_SECONDS = 180


def on_two_ranks(function: Callable[..., Any], *args: Any, stderr: Path | None = None) -> list[Any]:
    """Call a function in two processes, in the environment of Lightning's own launcher.

    Args:
        function: Of a module that another process can import.
        args: Its arguments.
        stderr: Where both write their standard error.

    Returns:
        What it returned in each: tensors and plain data, or the exit status it ended with.
    """
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    pipes = [_CONTEXT.Pipe(duplex=False) for _ in range(2)]
    processes = [
        _CONTEXT.Process(target=_run, args=(rank, port, stderr, pipes[rank][1], function, args))
        for rank in range(2)
    ]
    for process in processes:
        process.start()
    try:
        end = time.monotonic() + _SECONDS
        for receiver, _ in pipes:
            assert receiver.poll(max(0.0, end - time.monotonic())), "a rank hangs, or was killed"
        return [torch.load(io.BytesIO(receiver.recv_bytes())) for receiver, _ in pipes]
    finally:
        for process in processes:
            process.join(5)
            process.kill()


def _run(
    rank: int,
    port: int,
    stderr: Path | None,
    sender: Any,
    function: Callable[..., Any],
    args: Any,
) -> None:
    if stderr:
        os.dup2(os.open(stderr, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
        sys.stderr = open(stderr, "a", buffering=1)  # noqa: SIM115
    os.environ.update(
        LOCAL_RANK=str(rank),
        RANK=str(rank),
        NODE_RANK="0",
        WORLD_SIZE="2",
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
    )
    torch.set_num_threads(1)
    try:
        result = function(*args)
    except SystemExit as stop:
        result = stop.code
    content = io.BytesIO()
    torch.save(result, content)
    sender.send_bytes(content.getvalue())
    sys.stdout.flush()
