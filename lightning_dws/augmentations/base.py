"""What every augmentation shares: draw parameters, transform a batch, replay a draw."""

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from lightning_dws.errors import DataError
from lightning_dws.weight_space import Architecture, WeightBatch

GATE = "gate"

Params = dict[str, Tensor]


class Augmentation(ABC):
    """A random change of a batch of INRs, on the batch's device, without a device sync.

    A subclass writes two methods: ``draw`` gives the random parameters, one row per INR, and
    ``transform`` applies them. Who is changed at all is drawn beside them, with probability
    ``p`` per INR: the base class adds that ``"gate"`` to what ``draw`` returns, so the
    parameters hold everything random and a call with them replays the draw exactly. Only
    ``parameters`` of the transformed batch counts; labels and ids stay the batch's own.

    A subclass may refuse architectures that it is wrong for in ``check_architecture``.

    Args:
        p: Probability that an INR is changed, drawn per INR.

    Raises:
        ValueError: ``p`` is not in [0, 1].
    """

    def __init__(self, p: float = 1.0) -> None:
        check_probability("p", p)
        self.p = p

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "draw" in cls.__dict__:
            cls.draw = _with_gate(cls.draw)  # type: ignore[method-assign]

    @abstractmethod
    def draw(self, batch: WeightBatch, generator: torch.Generator) -> Params:
        """Draw the random parameters of one application, every tensor (B, ...)."""

    @abstractmethod
    def transform(self, batch: WeightBatch, params: Params) -> WeightBatch:
        """Apply drawn parameters to every INR of the batch, without writing into it."""

    def check_architecture(self, architecture: Architecture) -> None:  # noqa: B027  a choice
        """Raise ``ValueError`` where this augmentation is wrong for the architecture."""

    def __call__(
        self,
        batch: WeightBatch,
        generator: torch.Generator | None = None,
        params: Params | None = None,
    ) -> WeightBatch:
        """Augment a batch.

        Args:
            batch: B INRs; not changed.
            generator: Where the parameters are drawn from, on the batch's device. None makes a
                generator with a seed from the operating system: another draw at every call,
                never reproducible, and the global random state stays untouched.
            params: The result of an earlier ``draw``, replayed instead of drawing.

        Returns:
            The augmented INRs; one that the gate left out is bit-equal to the input.

        Raises:
            ValueError: The augmentation is wrong for the batch's architecture, or both a
                generator and parameters are given.
        """
        if params is None:
            if generator is None:
                generator = torch.Generator(batch.device)
                generator.seed()
            params = self.draw(batch, generator)
        elif generator is not None:
            raise ValueError("give a generator to draw, or params to replay, not both")
        else:
            self.check_architecture(batch.architecture)
        with torch.autocast(batch.device.type, enabled=False):  # a rounded map is another one
            result = self.transform(batch, params)
        found = f"a {type(result).__name__}"
        if isinstance(result, WeightBatch):
            found = f"parameters of shape {tuple(result.parameters.shape)}"
        if not isinstance(result, WeightBatch) or result.parameters.shape != batch.parameters.shape:
            raise DataError(
                f"{type(self).__name__}.transform gives {found}, expected a WeightBatch with "
                f"parameters of shape {tuple(batch.parameters.shape)}"
            )
        parameters = result.parameters
        if GATE in params:
            parameters = torch.where(params[GATE][:, None], parameters, batch.parameters)
        return batch.replace(parameters=parameters)


def _with_gate(draw: Callable[..., Params]) -> Callable[..., Params]:
    """Let a subclass's ``draw`` check the architecture and return the gate of ``p`` as well."""

    @functools.wraps(draw)
    def draw_with_gate(
        self: Augmentation, batch: WeightBatch, generator: torch.Generator
    ) -> Params:
        self.check_architecture(batch.architecture)
        with torch.autocast(batch.device.type, enabled=False):
            params = draw(self, batch, generator)
        if self.p == 1 or GATE in params:  # a super().draw() has already drawn it
            return params
        return {**params, GATE: draw_bernoulli(batch, self.p, generator)}

    return draw_with_gate


def check_probability(name: str, value: float) -> None:
    """Raise ``ValueError`` unless the value is in [0, 1]."""
    check_range(name, value, 0, 1)


def check_range(name: str, value: float, low: float, high: float = float("inf")) -> None:
    """Raise ``ValueError`` unless the value is finite and in [low, high]."""
    if not low <= value <= high or value == float("inf"):
        wanted = f"in [{low:g}, {high:g}]" if high < float("inf") else f"finite and >= {low:g}"
        raise ValueError(f"{name} must be {wanted}, got {value}")


def draw_uniform(
    batch: WeightBatch, low: float, high: float, generator: torch.Generator, *shape: int
) -> Float[Tensor, "batch *shape"]:
    """Draw numbers uniform in [low, high), in float32 or, for such INRs, float64."""
    size = (len(batch), *shape)
    numbers = torch.rand(size, generator=generator, device=batch.device, dtype=draw_dtype(batch))
    return low + (high - low) * numbers


def draw_bernoulli(
    batch: WeightBatch, probability: float, generator: torch.Generator, *shape: int
) -> Bool[Tensor, "batch *shape"]:
    """Draw booleans, true with the given probability (exactly so for 0 and 1)."""
    return draw_uniform(batch, 0, 1, generator, *shape) < probability


def draw_permutations(
    batch: WeightBatch, n: int, generator: torch.Generator
) -> Int64[Tensor, "batch n"]:
    """Draw one permutation of n elements per INR."""
    keys = draw_uniform(batch, 0, 1, generator, n)
    if keys.is_cuda:
        return keys.argsort(dim=1)
    # NumPy sorts with the CPU's vector instructions, in a sixth of torch's time.
    return torch.from_numpy(np.argsort(keys.numpy(), axis=1))


def draw_dtype(batch: WeightBatch) -> torch.dtype:
    """Give the dtype to draw in: the batch's own, but no less than float32."""
    return torch.promote_types(batch.parameters.dtype, torch.float32)


def copy_parameters(batch: WeightBatch) -> WeightBatch:
    """Give a batch with its own copy of the parameters, to be changed in place."""
    return batch.replace(parameters=batch.parameters.clone())
