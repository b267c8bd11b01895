"""Many INRs fitted at once, and the recipes that say how."""

from lightning_dws.inrs.fitting.fitting import fit_inrs
from lightning_dws.inrs.fitting.recipes import RECIPES, Recipe

__all__ = ["RECIPES", "Recipe", "fit_inrs"]
