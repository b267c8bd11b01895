"""Put augmentations together; a draw of the whole is replayable like any other."""

from collections.abc import Sequence

import torch

from lightning_dws.augmentations.base import Augmentation, Params, draw_permutations
from lightning_dws.weight_space import Architecture, WeightBatch


class _Combination(Augmentation):
    """What combinations share: their members, which must all suit the architecture."""

    def __init__(self, augmentations: Sequence[Augmentation], p: float = 1.0) -> None:
        super().__init__(p)
        self.augmentations = tuple(augmentations)

    def check_architecture(self, architecture: Architecture) -> None:
        for augmentation in self.augmentations:
            augmentation.check_architecture(architecture)


class Compose(_Combination):
    """Apply augmentations one after the other.

    All of them draw before the first is applied, so each ``draw`` sees the batch as it came in.

    Args:
        augmentations: In the order of application; none at all keeps the batch.
        p: Probability that an INR is changed, on top of each augmentation's own.
    """

    def draw(self, batch: WeightBatch, generator: torch.Generator) -> Params:
        return _draw_all(self.augmentations, batch, generator)

    def transform(self, batch: WeightBatch, params: Params) -> WeightBatch:
        for number, augmentation in enumerate(self.augmentations):
            batch = augmentation(batch, params=_params_of(number, params))
        return batch


class OneOf(_Combination):
    """Apply one of the augmentations, drawn per INR with equal probability.

    Every augmentation transforms the whole batch and each INR keeps the chosen result, so
    nothing waits for the device.

    Args:
        augmentations: To choose from; none at all keeps the batch.
        p: Probability that an INR is changed, on top of each augmentation's own.
    """

    def draw(self, batch: WeightBatch, generator: torch.Generator) -> Params:
        number = max(len(self.augmentations), 1)
        choice = torch.randint(number, (len(batch),), generator=generator, device=batch.device)
        return {"choice": choice, **_draw_all(self.augmentations, batch, generator)}

    def transform(self, batch: WeightBatch, params: Params) -> WeightBatch:
        return _apply_chosen(self.augmentations, batch, params["choice"], params)


class RandomOrder(_Combination):
    """Apply all augmentations, in an order drawn per INR.

    In each of the n steps every augmentation transforms the whole batch and each INR keeps the
    one whose turn it is: n² transforms, and nothing waits for the device.

    Args:
        augmentations: To apply; none at all keeps the batch.
        p: Probability that an INR is changed, on top of each augmentation's own.
    """

    def draw(self, batch: WeightBatch, generator: torch.Generator) -> Params:
        order = draw_permutations(batch, len(self.augmentations), generator)
        return {"order": order, **_draw_all(self.augmentations, batch, generator)}

    def transform(self, batch: WeightBatch, params: Params) -> WeightBatch:
        for step in range(len(self.augmentations)):
            batch = _apply_chosen(self.augmentations, batch, params["order"][:, step], params)
        return batch


def _draw_all(
    augmentations: Sequence[Augmentation], batch: WeightBatch, generator: torch.Generator
) -> Params:
    """Draw the parameters of every augmentation, their names behind its number: ``0.shift``."""
    return {
        f"{number}.{name}": value
        for number, augmentation in enumerate(augmentations)
        for name, value in augmentation.draw(batch, generator).items()
    }


def _params_of(number: int, params: Params) -> Params:
    prefix = f"{number}."
    return {
        name.removeprefix(prefix): value
        for name, value in params.items()
        if name.startswith(prefix)
    }


def _apply_chosen(
    augmentations: Sequence[Augmentation],
    batch: WeightBatch,
    choice: torch.Tensor,
    params: Params,
) -> WeightBatch:
    """Give every INR the result of the augmentation that its choice (B,) names."""
    parameters = batch.parameters
    for number, augmentation in enumerate(augmentations):
        augmented = augmentation(batch, params=_params_of(number, params)).parameters
        parameters = torch.where((choice == number)[:, None], augmented, parameters)
    return batch.replace(parameters=parameters)
