import torch

from lightning_dws.randomness import hashed_uniform, make_generator


def test_every_part_of_the_key_matters():
    def draw(seed=0, rank=0, counter=0, stream="a"):
        generator = make_generator(seed, rank=rank, counter=counter, stream=stream)
        return torch.rand(4, generator=generator)

    assert torch.equal(draw(), draw())
    for change in ({"seed": 1}, {"rank": 1}, {"counter": 1}, {"stream": "b"}):
        assert not torch.equal(draw(), draw(**change))


def test_hashed_numbers_depend_on_the_row_alone():
    objects, views = torch.arange(50), torch.arange(50) % 3
    whole = hashed_uniform(3, (objects, views), 20)
    order = torch.randperm(50, generator=torch.Generator().manual_seed(0))
    assert torch.equal(hashed_uniform(3, (objects[order], views[order]), 20), whole[order])
    assert torch.equal(hashed_uniform(3, (objects[7:8], views[7:8]), 12), whole[7:8, :12])
    assert not torch.equal(hashed_uniform(4, (objects, views), 20), whole)
    assert not torch.equal(hashed_uniform(3, (views, objects), 20), whole)


def test_hashed_numbers_are_uniform_and_independent():
    numbers = hashed_uniform(0, (torch.arange(2000), torch.zeros(2000, dtype=torch.int64)), 500)
    assert 0 <= numbers.min() < 1e-4
    assert 1 - 1e-4 < numbers.max() < 1
    assert abs(numbers.mean() - 0.5) < 1e-3
    assert abs(12 * numbers.var() - 1) < 5e-3
    for table in (numbers[:60], numbers.T[:60]):
        correlation = torch.corrcoef(table).fill_diagonal_(0).abs().max()
        assert correlation < 6 / table.shape[1] ** 0.5
