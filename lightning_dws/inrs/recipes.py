"""How an INR is fitted, as plain data, and the two recipes that we ship."""

import math
from dataclasses import dataclass

SCHEDULES = ("constant", "cosine", "linear")
OPTIMIZERS = ("adam", "kfac")


@dataclass(frozen=True)
class Recipe:
    """How every INR of a dataset is fitted: Adam on the mean squared error over all points.

    The learning rate rises linearly over ``warmup_steps`` (step ``t``, counted from 1, gets the
    share ``t / (warmup_steps + 1)``), then follows ``schedule`` down to zero after the last step.

    Attributes:
        steps: Updates, each on all points of the signal.
        learning_rate: Adam's, at its highest.
        schedule: ``"constant"``, ``"cosine"`` or ``"linear"``.
        warmup_steps: Steps before the learning rate is at its highest.
        betas: Adam's decay of the mean and of the square of the gradient.
        target_psnr: Peak signal-to-noise ratio in dB, for a peak of 1, at which an INR stops: its
            weights freeze. None fits all steps.
        check_every: After how many updates, again and again, an INR is looked at: whether it
            reached ``target_psnr``, and whether it is still finite.
        first_layer_bound: Other bound for the initial first layer, see ``initialise_inrs``.

    Raises:
        ValueError: An argument out of its range.
    """

    steps: int
    learning_rate: float
    schedule: str = "constant"
    warmup_steps: int = 0
    betas: tuple[float, float] = (0.9, 0.999)
    target_psnr: float | None = None
    check_every: int = 10
    first_layer_bound: float | None = None
    points_per_step: int | None = None
    optimizer: str = "adam"
    damping: float = 1e-5
    damping_decay: float = 0.8

    def __post_init__(self) -> None:
        object.__setattr__(self, "betas", tuple(self.betas))
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")
        if not (self.learning_rate > 0 and math.isfinite(self.learning_rate)):
            raise ValueError(f"learning_rate must be positive and finite, got {self.learning_rate}")
        if self.schedule not in SCHEDULES:
            raise ValueError(f"schedule must be one of {SCHEDULES}, got {self.schedule!r}")
        if not 0 <= self.warmup_steps < self.steps:
            raise ValueError(
                f"warmup_steps must be in [0, steps = {self.steps}), got {self.warmup_steps}"
            )
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas must be two numbers in [0, 1), got {self.betas}")
        if self.target_psnr is not None and not math.isfinite(self.target_psnr):
            raise ValueError(f"target_psnr must be finite or None, got {self.target_psnr}")
        if self.check_every < 1:
            raise ValueError(f"check_every must be at least 1, got {self.check_every}")
        bound = self.first_layer_bound
        if bound is not None and not (bound > 0 and math.isfinite(bound)):
            raise ValueError(f"first_layer_bound must be positive and finite or None, got {bound}")

    def learning_rate_at(self, step: int) -> float:
        """Give the learning rate of a step, counted from 1.

        Example:
            >>> Recipe(steps=4, learning_rate=1.0, schedule="linear").learning_rate_at(4)
            0.25
        """
        warmup = min(1.0, step / (self.warmup_steps + 1))
        progress = max(0, step - 1 - self.warmup_steps) / (self.steps - self.warmup_steps)
        if self.schedule == "cosine":
            share = 0.5 * (1 + math.cos(math.pi * progress))
        elif self.schedule == "linear":
            share = 1 - progress
        else:
            share = 1.0
        return self.learning_rate * warmup * share


RECIPES = {
    "published": Recipe(steps=1000, learning_rate=5e-4, target_psnr=40.0),
    "fast": Recipe(
        steps=195,
        learning_rate=7e-3,
        schedule="cosine",
        warmup_steps=5,
        betas=(0.7, 0.9),
        target_psnr=40.0,
    ),
}
"""``published`` follows the description of the published 2-D datasets: Adam 5e-4, 1,000 steps,
stop at 40 dB. ``fast`` reaches its mean PSNR in less than a fifth of the steps, by short averages
in Adam and a higher rate that falls.

Fewer steps at a higher rate, or a wider first layer, reach that PSNR sooner, but with weights that
say less: a DWSNet trained on them classified Fashion-MNIST worse the farther recipes went that way.
"""
