from itertools import chain

import pytest
import torch

from lightning_dws.data.sampler import EpochSampler, SequentialSampler


def epoch(sampler):
    return [batch.tolist() for batch in sampler]


def test_every_row_comes_once_an_epoch_in_another_order():
    sampler = EpochSampler(20, 6, seed=0, drop_last=False)
    first = epoch(sampler)
    assert [len(batch) for batch in first] == [6, 6, 6, 2]
    assert sorted(chain.from_iterable(first)) == list(range(20))
    sampler.set_epoch(1)
    assert sorted(chain.from_iterable(epoch(sampler))) == list(range(20))
    assert epoch(sampler) != first
    sampler.set_epoch(0)
    assert epoch(sampler) == first


def test_the_last_batch_is_dropped_unless_it_is_the_only_one():
    assert [len(b) for b in EpochSampler(20, 6, seed=0)] == [6, 6, 6]
    assert [len(b) for b in EpochSampler(5, 6, seed=0)] == [5]


@pytest.mark.parametrize("given", [0, 1, 3, 4])
def test_a_resumed_epoch_has_the_batches_that_were_left(given):
    straight, stopped = (EpochSampler(20, 5, seed=3) for _ in range(2))
    for sampler in (straight, stopped):
        sampler.set_epoch(2)
    expected = epoch(straight)
    batches = iter(stopped)
    seen = [next(batches).tolist() for _ in range(given)]
    resumed = EpochSampler(20, 5, seed=3)
    resumed.load_state_dict(stopped.state_dict())
    resumed.set_epoch(2)
    left = epoch(resumed) if given < 4 else []
    assert seen + left == expected
    resumed.set_epoch(3)
    straight.set_epoch(3)
    assert epoch(resumed) == epoch(straight)


@pytest.mark.parametrize(("rows", "batch_size"), [(24, 4), (26, 4), (7, 4)])
def test_two_ranks_together_see_what_one_process_sees(rows, batch_size):
    ranks = [EpochSampler(rows, batch_size, seed=1, rank=r, world_size=2) for r in (0, 1)]
    assert len(ranks[0]) == len(ranks[1])
    together = [a + b for a, b in zip(epoch(ranks[0]), epoch(ranks[1]), strict=True)]
    assert together == epoch(EpochSampler(rows, min(2 * batch_size, rows // 2 * 2), seed=1))


def test_evaluation_counts_every_row_once_over_all_ranks():
    parts = [epoch(SequentialSampler(11, 3, rank=r, world_size=3)) for r in range(3)]
    assert sorted(chain.from_iterable(chain.from_iterable(parts))) == list(range(11))
    assert epoch(SequentialSampler(11, 4)) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10]]


def test_bad_numbers_are_named():
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        EpochSampler(5, 0, seed=0)
    with pytest.raises(ValueError, match="1 training INR cannot be split over 2 ranks"):
        EpochSampler(1, 4, seed=0, world_size=2)
    with pytest.raises(ValueError, match="1 INR cannot be split over 2 ranks"):
        SequentialSampler(1, 4, world_size=2)


def test_order_depends_on_the_seed():
    assert not torch.equal(
        torch.cat(list(EpochSampler(50, 5, seed=0))), torch.cat(list(EpochSampler(50, 5, seed=1)))
    )
