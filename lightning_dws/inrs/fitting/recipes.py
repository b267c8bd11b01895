"""How an INR is fitted, as plain data, and the recipes that we ship."""

import math
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, TypedDict

from lightning_dws.weight_space import INRArchitecture

SCHEDULES = ("constant", "cosine", "linear")
OPTIMIZER_NAMES = ("adam", "kfac")
INITS = ("random", "shared", "shared_noise")


@dataclass(frozen=True)
class Recipe:
    """How every INR of a dataset is fitted: the mean squared error over its points, minimised.

    The learning rate rises linearly over ``warmup_steps`` (step ``t``, counted from 1, gets the
    share ``t / (warmup_steps + 1)``), then follows ``schedule`` down to zero after the last step.

    Attributes:
        steps: Updates.
        learning_rate: Adam's, at its highest; for ``"kfac"`` a factor of the steps that its line
            search finds, normally 1.
        schedule: ``"constant"``, ``"cosine"`` or ``"linear"``.
        warmup_steps: Steps before the learning rate is at its highest.
        betas: Adam's decay of the mean and of the square of the gradient.
        target_psnr: Peak signal-to-noise ratio in dB, for a peak of 1, at which an INR stops: its
            weights freeze. None fits all steps.
        check_every: After how many updates, again and again, an INR is looked at: whether it
            reached ``target_psnr``, and whether it is still finite.
        first_layer_bound: Other bound for the initial first layer, see ``initialise_inrs``.
        points_per_step: At most so many points in every step of Adam, which take turns; None uses
            all. The order in which they do is random, and the same for all signals.
        optimizer: ``"adam"``, or ``"kfac"`` for Gauss-Newton steps with Kronecker-factored
            curvature, see ``KroneckerFactored``.
        damping: K-FAC's, relative to the curvature, in its first step; at least 1e-8 is used.
        damping_decay: Factor of the damping from one step to the next.
        init: Where INRs start: ``"random"``, each at its own weights; ``"shared"``, all objects of
            a view at the same ones, and each view at others; ``"shared_noise"``, at the shared ones
            with a share of random, see ``initialise_inrs``.
        init_noise: For ``"shared_noise"``, the random share of the initial weights' variance, in
            (0, 1); else None.

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
    init: str = "random"
    init_noise: float | None = None

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
        if self.optimizer not in OPTIMIZER_NAMES:
            raise ValueError(f"optimizer must be one of {OPTIMIZER_NAMES}, got {self.optimizer!r}")
        if self.points_per_step is not None:
            if self.points_per_step < 1:
                raise ValueError(f"points_per_step must be at least 1, got {self.points_per_step}")
            if self.optimizer != "adam":
                raise ValueError("points_per_step must be None for kfac, which needs all points")
        if not (self.damping > 0 and math.isfinite(self.damping)):
            raise ValueError(f"damping must be positive and finite, got {self.damping}")
        if not 0 < self.damping_decay <= 1:
            raise ValueError(f"damping_decay must be in (0, 1], got {self.damping_decay}")
        if self.init not in INITS:
            raise ValueError(f"init must be one of {INITS}, got {self.init!r}")
        if self.init == "shared_noise":
            if self.init_noise is None or not 0 < self.init_noise < 1:
                raise ValueError(
                    f"init_noise must be in (0, 1) for init shared_noise, got {self.init_noise}"
                )
        elif self.init_noise is not None:
            raise ValueError(
                f"init_noise is for init shared_noise alone, got {self.init_noise} with init "
                f"{self.init}"
            )

    @property
    def shared_start(self) -> float:
        """The share of the initial weights' variance that all objects of a view have in common."""
        return {"random": 0.0, "shared": 1.0}.get(self.init, 1 - (self.init_noise or 0))

    @property
    def settings(self) -> dict[str, Any]:
        """Everything as plain data, but what a store need not say.

        Settings that joined after the first release are left out where they are as they were
        before, so that stores keep their names.
        """
        later = (
            *("points_per_step", "optimizer", "damping", "damping_decay"),
            *("init", "init_noise"),
        )
        defaults = {field.name: field.default for field in fields(self) if field.name in later}
        return {
            name: value
            for name, value in asdict(self).items()
            if name not in defaults or value != defaults[name]
        }

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


class RecipeChanges(TypedDict, total=False):
    """Settings of a ``Recipe`` that replace those of another one."""

    steps: int
    learning_rate: float
    schedule: str
    warmup_steps: int
    betas: tuple[float, float]
    target_psnr: float | None
    check_every: int
    first_layer_bound: float | None
    points_per_step: int | None
    optimizer: str
    damping: float
    damping_decay: float
    init: str
    init_noise: float | None


def find_recipe(
    recipe: "str | Recipe", changes: RecipeChanges, architecture: INRArchitecture
) -> Recipe:
    """Give a recipe, named or given, with changes on top of it.

    The learning rate of a named one is the named one, or the highest that the architecture bears.

    Example:
        >>> find_recipe("fast", {"steps": 20}, INRArchitecture((2, 32, 32, 1))).schedule
        'cosine'

    Raises:
        ValueError: No recipe of that name, or settings that do not fit together.
    """
    if isinstance(recipe, str) and recipe not in RECIPES:
        raise ValueError(f"recipe must be one of {sorted(RECIPES)}, got {recipe!r}")
    unknown = changes.keys() - RecipeChanges.__annotations__.keys()
    if unknown:
        raise ValueError(f"recipe_changes has {sorted(unknown)}, which no recipe has")
    if not isinstance(recipe, str):
        return replace(recipe, **changes)
    chosen = RECIPES[recipe]
    if chosen.optimizer == "adam":
        rate = min(chosen.learning_rate, highest_rate(architecture))
        chosen = replace(chosen, learning_rate=rate)
    return replace(chosen, **changes)


def highest_rate(architecture: INRArchitecture) -> float:
    """Give Adam's highest learning rate with which SIRENs of an architecture can be fitted.

    Found by trial (``benchmarks/architectures.py``): it falls with the number of hidden layers and
    with their width; INRs of one hidden layer bear any rate of our recipes.

    Example:
        >>> highest_rate(INRArchitecture((2, 32, 32, 1)))
        0.012
        >>> highest_rate(INRArchitecture((2, 64, 64, 1)))
        0.006
    """
    depth, width = len(architecture.hidden_widths), max(architecture.hidden_widths, default=0)
    if depth < 2:
        return math.inf
    return _HIGHEST_RATE * min(1.0, 32 / width) * float((depth - 1) ** -1.25)


_HIGHEST_RATE = 0.012  # of two hidden layers of up to 32 neurons


RECIPES = {
    "published": Recipe(steps=1000, learning_rate=5e-4, target_psnr=40.0),
    "fast": Recipe(
        steps=350,
        learning_rate=7e-3,
        schedule="cosine",
        warmup_steps=5,
        betas=(0.8, 0.95),
        points_per_step=112,
        check_every=100,
    ),
    "sharp": Recipe(
        steps=1050,
        learning_rate=1.2e-2,
        schedule="cosine",
        warmup_steps=5,
        betas=(0.9, 0.99),
        points_per_step=112,
        check_every=150,
    ),
    "wide": Recipe(
        steps=115,
        learning_rate=1e-2,
        schedule="cosine",
        warmup_steps=5,
        betas=(0.8, 0.95),
        points_per_step=112,
        check_every=115,
        first_layer_bound=0.5,
    ),
    "exact": Recipe(
        steps=40, learning_rate=1.0, optimizer="kfac", damping=1e-2, first_layer_bound=0.5
    ),
}
"""The recipes that can be named, with what they reach on Fashion-MNIST with 2-32-32-1.

``published`` follows the description of the published 2-D datasets: Adam 5e-4, 1,000 steps,
stop at 40 dB; 21.5 dB. ``fast`` reaches 22 dB for a twentieth of its arithmetic, by steps on 112
points each at a higher rate that falls. ``sharp`` goes on to 30 dB in the same way. ``wide``
reaches 30 dB for a ninth of that, from the wider first layer of Sitzmann et al. (2020), and
``exact`` from there 52 dB, by K-FAC.

PSNR alone does not choose one: weights that moved farther from their initialisation, or began with
a wider first layer, say less. Networks trained on them classify worse than on those of ``fast``.
"""
