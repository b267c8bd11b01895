"""What decides the INRs of a dataset."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lightning_dws.inrs.fitting import Recipe
from lightning_dws.inrs.fitting.recipes import RecipeChanges, find_recipe
from lightning_dws.inrs.signals import SignalDataset
from lightning_dws.inrs.signals.base import check_grid
from lightning_dws.inrs.store import StoreHeader
from lightning_dws.inrs.store.convention import ImageConvention
from lightning_dws.weight_space import INRArchitecture


@dataclass(frozen=True)
class INRDatasetSpec:
    """What decides the INRs of a dataset: equal specs give equal INRs.

    Attributes:
        signals: What the INRs are fitted to.
        architecture: Of every INR.
        recipe: How they are fitted: a name in ``RECIPES``, such as ``fast``, whose learning rate
            is lowered where the architecture needs it, or the settings.
        seed: Of the initialisation.
        recipe_changes: Settings that replace those of ``recipe``, by name: ``{"steps": 20}``. On
            the command line ``--recipe.steps 20`` is one. Those of a later config file replace
            those of an earlier one.
    """

    signals: SignalDataset
    architecture: INRArchitecture = field(default_factory=INRArchitecture)
    recipe: str | Recipe = "fast"
    seed: int = 0
    recipe_changes: RecipeChanges = field(default_factory=RecipeChanges, hash=False)

    def __post_init__(self) -> None:
        _ = self.recipe_settings  # raises ValueError where there are none

    @property
    def recipe_settings(self) -> Recipe:
        return find_recipe(self.recipe, self.recipe_changes, self.architecture)

    @property
    def header(self) -> StoreHeader:
        return StoreHeader(
            architecture=self.architecture,
            classes=tuple(self.signals.classes),
            signals=self.signals.name,
            grid_shape=self.signals.grid_shape,
            recipe=self.recipe_settings.settings,
            seed=self.seed,
            convention=ImageConvention(
                has_alpha=self.signals.has_alpha, is_volume=self.signals.is_volume
            ),
            measures=self.signals.measures,
            preparation=_worth_saying(self.signals.preparation),
        )

    def check(self) -> None:
        """Make sure, before anything is fitted, that these INRs can be stored and drawn."""
        self.header.check()
        check_grid(self.signals)

    @property
    def store_name(self) -> str:
        """A folder name that differs wherever the INRs would: readable, then a hash."""
        widths = "-".join(map(str, self.architecture.widths))
        unchanged = find_recipe(self.recipe, {}, self.architecture)
        is_named = isinstance(self.recipe, str) and self.recipe_settings == unchanged
        recipe = self.recipe if is_named else "custom"
        return f"{self.signals.name}_{widths}_{recipe}_{self.header.fingerprint[:8]}"


def _worth_saying(preparation: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Give how files are prepared as plain data; images are what 2-D INRs are taken for anyway."""
    if preparation is None or preparation == {"kind": "images"}:
        return None
    return dict(json.loads(json.dumps(preparation)))
