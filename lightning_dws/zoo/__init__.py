"""Zoos of small CNNs: trained here, many at once, or published ones."""

from lightning_dws.zoo.zoo_preparation import prepare_zoo
from lightning_dws.zoo.zoo_recipe import ZooRecipe
from lightning_dws.zoo.zoo_spec import ZooSpec

__all__ = ["ZooRecipe", "ZooSpec", "prepare_zoo"]
