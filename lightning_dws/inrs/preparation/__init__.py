"""A store made to hold what is wanted: fitted, extended, shared among processes."""

from lightning_dws.inrs.preparation.plan import Wanted
from lightning_dws.inrs.preparation.prepare import prepare_store
from lightning_dws.inrs.preparation.spec import INRDatasetSpec

__all__ = ["INRDatasetSpec", "Wanted", "prepare_store"]
