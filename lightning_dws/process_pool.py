"""Apply a function to many items in several processes, whatever an item does to its process."""

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from lightning_dws.errors import DataError

Result = TypeVar("Result")

_METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
_function: Callable[[int], Any]
_barrier: Any  # of multiprocessing: where the processes of a pool meet


class Died:
    """Stands for the result of an item whose process died."""


def map_in_processes(
    function: Callable[[int], Result], items: Iterable[int], num_processes: int
) -> Iterator[tuple[int, Result | Died]]:
    """Give (item, result) of every item, in the order of their completion.

    Processes are started anew, not forked from this one, whose threads a fork would not survive.
    An item that kills its process gets the result ``Died``; the others are not affected.

    Args:
        function: Picklable; sent to every process once. It may be applied to an item again.
        items: What to apply it to.
        num_processes: 0 applies it in this process.

    Raises:
        DataError: Processes cannot be started at all.
    """
    if num_processes == 0:
        yield from ((item, function(item)) for item in items)
        return
    queue = deque(items)
    while queue:
        suspects = yield from _run(function, queue, num_processes)
        for suspect in suspects:
            died = yield from _run(function, deque([suspect]), 1)
            if died:
                yield suspect, Died()


def _run(
    function: Callable[[int], Result], queue: deque[int], num_processes: int
) -> Generator[tuple[int, Result], None, list[int]]:
    """Work a queue off until a process dies; return the items that may have killed it."""
    running: dict[Future[Result], int] = {}
    num_processes = min(num_processes, len(queue))
    context = multiprocessing.get_context(_METHOD)
    pool = ProcessPoolExecutor(
        num_processes,
        context,
        initializer=_start,
        initargs=(function, context.Barrier(num_processes)),
    )
    try:
        pool.submit(os.getpid).result()
        # All start before the first item: Python 3.11 never ends, in shutdown, a process that it
        # started while another died.
        for met in [pool.submit(_meet) for _ in range(num_processes)]:
            met.result()
    except BrokenProcessPool as error:
        pool.shutdown()
        raise DataError(
            "processes that sample shapes cannot be started: a script must be a file with its "
            "work under `if __name__ == '__main__':`, own classes must be in a module; or set "
            "num_processes to 0"
        ) from error
    try:
        while queue or running:
            while queue and len(running) < 2 * num_processes:
                future = pool.submit(_apply, queue[0])  # may raise: then the item is kept
                running[future] = queue.popleft()
            for done in wait(running, return_when=FIRST_COMPLETED).done:
                item, result = running[done], done.result()
                del running[done]
                yield item, result
    except BrokenProcessPool:
        return list(running.values())
    finally:
        pool.shutdown(cancel_futures=True)
    return []


def _start(function: Callable[[int], object], barrier: Any) -> None:
    global _function, _barrier
    os.environ["IGL_NUM_THREADS"] = "1"  # libigl reads it when it first computes
    import torch

    torch.set_num_threads(1)
    _function, _barrier = function, barrier


def _meet() -> None:
    _barrier.wait()


def _apply(item: int) -> Any:
    return _function(item)
