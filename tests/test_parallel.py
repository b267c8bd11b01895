"""Chunks of work on threads, with torch's own kept out of their way."""

import threading

import pytest
import torch

from lightning_dws.parallel import map_in_threads, one_thread_per_operation


@pytest.fixture
def two_threads():
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("two_threads")
def test_chunks_go_to_threads_where_operations_stay_on_one():
    def where(chunk):
        return chunk, threading.current_thread() is not threading.main_thread()

    assert [chunk for chunk, _ in map_in_threads(where, range(4))] == [0, 1, 2, 3]
    with one_thread_per_operation() as outer, one_thread_per_operation() as inner:
        assert (outer, inner) == (2, 2)
        found = map_in_threads(where, range(4))
        assert torch.get_num_threads() == 1
    assert all(elsewhere for _, elsewhere in found)
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
def test_an_error_leaves_the_number_of_threads_as_it_was():
    with pytest.raises(ZeroDivisionError), one_thread_per_operation():
        map_in_threads(lambda chunk: 1 // chunk, [0, 1])
    assert torch.get_num_threads() == 2
