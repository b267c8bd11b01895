"""Pictures and logs never end a run: what fails is told once and left out."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_warn

_LOGGING = (
    "log_metrics",
    "log_hyperparams",
    "log_graph",
    "after_save_checkpoint",
    "save",
    "finalize",
)


@contextmanager
def left_out_if_it_fails(what: str, told: set[str]) -> Iterator[None]:
    """Let the block fail without ending the run; nothing in it may wait for other processes.

    Args:
        what: The block makes, for the message.
        told: What was told already; each thing is told once.
    """
    try:
        yield
    except Exception as error:  # whatever matplotlib, TensorBoard or a full disk leads to
        if what not in told:
            told.add(what)
            reason = str(error).strip().splitlines() or ["no reason given"]
            rank_zero_warn(f"{what} is left out ({type(error).__name__}: {reason[0]})")


def guard_logger(logger: Logger) -> None:
    """Let a logger's failures, such as a full disk, be told once and not end the run."""
    told: set[str] = set()
    what = f"what {type(logger).__name__} logs"
    for name in _LOGGING:
        setattr(logger, name, _guarded(getattr(logger, name), what, told))


def _guarded(method: Callable[..., Any], what: str, told: set[str]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        with left_out_if_it_fails(what, told):
            return method(*args, **kwargs)
        return None

    return call
