"""Share out chunks of work over threads, each of which computes alone."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import TypeVar

import torch

Chunk = TypeVar("Chunk")
Result = TypeVar("Result")


def num_cores() -> int:
    """Count the cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on this system
        return os.cpu_count() or 1


_threads = ContextVar("threads that operations would use", default=0)


@contextmanager
def one_thread_per_operation() -> Iterator[int]:
    """Keep torch from splitting operations over threads; give how many it would have used.

    Split, an operation may round differently; and the threads it was split over go on spinning for
    milliseconds, on cores that ``map_in_threads`` within this context may use.

    The setting is the process's: what other Python threads compute meanwhile is slower.
    """
    before = torch.get_num_threads()
    threads = _threads.get() or before
    if threads == 1:
        yield 1
        return
    token = _threads.set(threads)
    torch.set_num_threads(1)
    try:
        yield threads
    finally:
        torch.set_num_threads(before)
        _threads.reset(token)


def map_in_threads(function: Callable[[Chunk], Result], chunks: Sequence[Chunk]) -> list[Result]:
    """Apply a function to every chunk, on as many threads as torch uses; results in order.

    The function runs without autograd, and must not call this one. What it calls must release
    Python's lock to run in parallel: operations of torch do.
    """

    def apply(chunk: Chunk) -> Result:
        with torch.no_grad():  # a setting of each thread
            return function(chunk)

    with one_thread_per_operation() as threads:
        if threads == 1 or len(chunks) < 2:
            return [apply(chunk) for chunk in chunks]
        return list(_pool(threads).map(apply, chunks))


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """Keep threads for the next call: new ones would touch new memory."""
    return ThreadPoolExecutor(threads, thread_name_prefix="lightning_dws")


os.register_at_fork(after_in_child=_pool.cache_clear)  # a child has none of its parent's threads
