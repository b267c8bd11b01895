"""Zoos of small CNNs: trained here, many at once, or published ones; and the baseline to beat."""

from lightning_dws.zoo.statistics_baseline import score_baselines
from lightning_dws.zoo.zoo_import import import_zoo
from lightning_dws.zoo.zoo_preparation import prepare_zoo
from lightning_dws.zoo.zoo_recipe import ZooRecipe
from lightning_dws.zoo.zoo_spec import ZooSpec

__all__ = ["ZooRecipe", "ZooSpec", "import_zoo", "prepare_zoo", "score_baselines"]
