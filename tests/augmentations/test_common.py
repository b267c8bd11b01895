"""What holds for every augmentation."""

import pytest
import torch
from augmentation_examples import EXAMPLES, IMAGE, Example, generator, random_batch

from lightning_dws import WeightBatch, augmentations
from lightning_dws.augmentations import Augmentation, Compose, OneOf, RandomOrder


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
class TestEveryAugmentation:
    def test_changes_parameters_alone(self, example: Example) -> None:
        batch = random_batch(example.architecture, 16)
        augmented = example.make()(batch, generator())
        assert not torch.equal(augmented.parameters, batch.parameters)
        assert augmented.architecture == batch.architecture
        for name in ("label", "object_id", "view"):
            assert torch.equal(getattr(augmented, name), getattr(batch, name))

    def test_leaves_its_input_untouched(self, example: Example) -> None:
        batch = random_batch(example.architecture, 16)
        before = batch.parameters.clone()
        example.make(p=0.5)(batch, generator())
        assert torch.equal(batch.parameters, before)

    def test_same_generator_same_result(self, example: Example) -> None:
        batch, augmentation = random_batch(example.architecture, 16), example.make(p=0.5)
        first, second, other = (augmentation(batch, generator(seed)) for seed in (3, 3, 4))
        assert torch.equal(first.parameters, second.parameters)
        assert not torch.equal(first.parameters, other.parameters)

    @pytest.mark.parametrize("p", [0.0, 0.5, 1.0])
    def test_replays_a_draw(self, example: Example, p: float) -> None:
        batch, augmentation = random_batch(example.architecture, 16), example.make(p=p)
        params = augmentation.draw(batch, generator(3))
        replayed = augmentation(batch, params=params)
        assert torch.equal(replayed.parameters, augmentation(batch, generator(3)).parameters)
        assert torch.equal(replayed.parameters, augmentation(batch, params=params).parameters)
        assert all(len(value) == len(batch) for value in params.values())

    def test_p_zero_is_bit_equal(self, example: Example) -> None:
        batch = random_batch(example.architecture, 16, dtype=torch.float32)
        batch.parameters[0, 0] = torch.nan
        augmented = example.make(p=0.0)(batch, generator()).parameters
        assert torch.equal(augmented.view(torch.int32), batch.parameters.view(torch.int32))

    def test_p_is_per_sample(self, example: Example) -> None:
        batch = random_batch(example.architecture, 400)
        augmentation = example.make(p=0.5)
        gate = augmentation.draw(batch, generator())["gate"]
        unchanged = augmentation(batch, generator()).parameters.eq(batch.parameters).all(dim=1)
        assert unchanged[~gate].all()
        assert 0.4 < gate.double().mean() < 0.6

    def test_samples_differ(self, example: Example) -> None:
        row = random_batch(example.architecture, 1).parameters
        batch = WeightBatch.from_parameters(example.architecture, row.expand(32, -1))
        augmented = example.make()(batch, generator()).parameters
        assert len(augmented.unique(dim=0)) > 1

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
    def test_keeps_the_dtype(self, example: Example, dtype: torch.dtype) -> None:
        batch = random_batch(example.architecture, 4, dtype=dtype)
        augmented = example.make(p=0.5)(batch, generator())
        assert augmented.parameters.dtype == dtype
        assert augmented.parameters.isfinite().all()

    def test_autocast_changes_nothing(self, example: Example) -> None:
        """What is exact stays so."""
        batch = random_batch(example.architecture, 16, dtype=torch.float32)
        augmentation = example.make(p=0.5)
        expected = augmentation(batch, generator(3)).parameters
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(augmentation(batch, generator(3)).parameters, expected)

    @pytest.mark.parametrize("size", [0, 1])
    def test_takes_small_batches(self, example: Example, size: int) -> None:
        batch = random_batch(example.architecture, size)
        augmented = example.make()(batch, generator())
        assert augmented.parameters.shape == batch.parameters.shape
        assert augmented.parameters.isfinite().all()

    def test_never_uses_the_global_generator(self, example: Example) -> None:
        batch, state = random_batch(example.architecture, 4), torch.get_rng_state()
        example.make(p=0.5)(batch, generator())
        example.make(p=0.5)(batch)
        assert torch.equal(torch.get_rng_state(), state)

    def test_refuses_generator_and_params(self, example: Example) -> None:
        batch, augmentation = random_batch(example.architecture, 4), example.make()
        params = augmentation.draw(batch, generator())
        with pytest.raises(ValueError, match="not both"):
            augmentation(batch, generator(), params)

    @pytest.mark.parametrize("p", [-0.1, 1.3, float("nan")])
    def test_refuses_a_wrong_p(self, example: Example, p: float) -> None:
        with pytest.raises(ValueError, match=r"p must be in \[0, 1\], got"):
            example.make(p=p)


def test_examples_cover_every_augmentation() -> None:
    names = {example.name.split("-")[0] for example in EXAMPLES}
    assert names >= set(augmentations.__all__) - {"Augmentation"}


def test_without_generator_every_call_draws_anew() -> None:
    batch, augmentation = random_batch(IMAGE, 4), augmentations.Translation()
    assert not torch.equal(augmentation(batch).parameters, augmentation(batch).parameters)


class Halve(Augmentation):
    """An own augmentation, as somebody outside of the package writes it."""

    def draw(self, batch: WeightBatch, generator: torch.Generator) -> dict[str, torch.Tensor]:
        return {"factor": torch.full((len(batch),), 0.5)}

    def transform(self, batch: WeightBatch, params: dict[str, torch.Tensor]) -> WeightBatch:
        parameters = params["factor"][:, None] * batch.parameters
        return batch.replace(parameters=parameters, label=batch.label + 1)


class HalveSome(Halve):
    """Draws by its parent's method: one gate, not two."""

    def draw(self, batch: WeightBatch, generator: torch.Generator) -> dict[str, torch.Tensor]:
        return super().draw(batch, generator)


@pytest.mark.parametrize("kind", [Halve, HalveSome])
def test_own_augmentation_gets_its_gate(kind: type[Halve]) -> None:
    batch = random_batch(IMAGE, 100)
    augmented = kind(p=0.5)(batch, generator())
    halved = augmented.parameters.eq(batch.parameters / 2).all(dim=1)
    assert 30 < halved.sum() < 70
    assert augmented.parameters[~halved].eq(batch.parameters[~halved]).all()
    assert torch.equal(augmented.label, batch.label)


def test_compose_is_one_after_the_other() -> None:
    batch, parts = random_batch(IMAGE, 8), [augmentations.Translation(), augmentations.Rotation()]
    composed = Compose(parts)
    params = composed.draw(batch, generator())
    one_by_one = parts[1](
        parts[0](batch, params={"shift": params["0.shift"]}), params={"matrix": params["1.matrix"]}
    )
    assert torch.equal(composed(batch, params=params).parameters, one_by_one.parameters)


def test_one_of_applies_one_of_each() -> None:
    batch, parts = (
        random_batch(IMAGE, 300),
        [augmentations.Flip(), Halve(), augmentations.Scaling()],
    )
    one_of = OneOf(parts)
    params = one_of.draw(batch, generator())
    augmented = one_of(batch, params=params).parameters
    for number, part in enumerate(parts):
        own = {key[2:]: value for key, value in params.items() if key[:2] == f"{number}."}
        expected = part(batch, params=own).parameters
        chosen = params["choice"] == number
        assert 60 < chosen.sum() < 140
        assert torch.equal(augmented[chosen], expected[chosen])


def test_random_order_applies_all_in_either_order() -> None:
    batch = random_batch(IMAGE, 100)
    parts = [augmentations.Translation(), augmentations.Rotation()]
    both = RandomOrder(parts)
    params = both.draw(batch, generator())
    augmented = both(batch, params=params).parameters
    shift, matrix = {"shift": params["0.shift"]}, {"matrix": params["1.matrix"]}
    translated_first = parts[1](parts[0](batch, params=shift), params=matrix).parameters
    rotated_first = parts[0](parts[1](batch, params=matrix), params=shift).parameters
    first = params["order"][:, 0] == 0
    assert 30 < first.sum() < 70
    assert torch.equal(augmented[first], translated_first[first])
    assert torch.equal(augmented[~first], rotated_first[~first])


@pytest.mark.parametrize("kind", [Compose, OneOf, RandomOrder])
def test_no_augmentations_keep_the_batch(kind: type[Compose | OneOf | RandomOrder]) -> None:
    batch = random_batch(IMAGE, 4)
    assert torch.equal(kind([])(batch, generator()).parameters, batch.parameters)
