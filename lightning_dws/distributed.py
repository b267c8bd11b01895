"""Several processes that train one network: what they share, and how they end together."""

import os
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from subprocess import TimeoutExpired

import pytorch_lightning as pl
import torch.distributed as dist
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.strategies.launchers import _SubprocessScriptLauncher
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from lightning_dws.errors import DataError

_PATIENCE = timedelta(seconds=3)  # for what another process has to say, and for its end
_FIRST_FAILED = "lightning_dws: rank 0 failed"
_REPORTS = "lightning_dws: reports"
_LOST_WORDS = (  # gloo's and NCCL's
    "Connection closed by peer",
    "Connection reset by peer",
    "remote process exited",
)
_LOST = "another process of this run ended before it was done"


def in_one_line(error: Exception) -> str | None:
    """Say what an error that a user can do something about means; None for any other."""
    if isinstance(error, DataError):
        return str(error)
    if isinstance(error, MisconfigurationException):  # Lightning's, of options and data together
        return " ".join(str(error).split())
    if isinstance(error, OSError):  # a full or read-only disk, under a log or a checkpoint
        return f"{error.filename or 'a file'}: {error.strerror or error}"
    return None


@contextmanager
def ending_together(trainer: pl.Trainer) -> Iterator[None]:
    """Let an error in one process of several end them all, with exit status 1 and one message.

    Args:
        trainer: What runs in the block.
    """
    try:
        yield
    except Exception as error:
        if trainer.world_size == 1 or not dist.is_initialized():
            raise
        lost = _is_lost_connection(error)
        if _should_tell(trainer.global_rank, lost):
            line = _LOST if lost else in_one_line(error)
            text = "".join(traceback.format_exception(error)) if line is None else f"error: {line}"
            sys.stderr.write(f"{text}\n")
            sys.stderr.flush()
        if trainer.global_rank == 0:
            _end_others(trainer)
        sys.exit(1)


def _should_tell(rank: int, lost: bool) -> bool:
    """Whether no other process tells what went wrong: rank 0 before all, else the first.

    Of a lost connection rank 0 alone tells: if it is itself the one that is gone, it has told why.
    """
    if lost and rank > 0:
        return False
    try:
        store = TCPStore(
            os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), timeout=_PATIENCE
        )
        if rank == 0:
            store.set(_FIRST_FAILED, "")
        elif _appears(_FIRST_FAILED, store):
            return False
        return int(store.add(_REPORTS, 1)) == 1
    except RuntimeError:  # rank 0, which keeps the store, has ended
        return rank == 0


def _appears(key: str, store: TCPStore) -> bool:
    """Wait a little for a key; the store's own wait would write about its end to the terminal."""
    end = time.monotonic() + _PATIENCE.total_seconds()
    while time.monotonic() < end:
        if store.check([key]):
            return True
        time.sleep(0.05)
    return False


def _is_lost_connection(error: Exception) -> bool:
    """Whether a collective failed because its partner is gone."""
    return any(words in str(error) for words in _LOST_WORDS)


def _end_others(trainer: pl.Trainer) -> None:
    """End the processes that rank 0 started, as Lightning does at Ctrl-C but after no error.

    Meanwhile those that failed too learn, from the store that ends with rank 0, that it has told.
    """
    launcher = trainer.strategy.launcher
    started = launcher.procs if isinstance(launcher, _SubprocessScriptLauncher) else []
    for process in started:
        try:
            process.wait(_PATIENCE.total_seconds())
        except TimeoutExpired:
            process.kill()
    if not started:  # SLURM or torchrun did, and ends them
        time.sleep(1)
