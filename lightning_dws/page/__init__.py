"""INRs as one web page: their weights, and the code that evaluates and augments them."""

from lightning_dws.page.contents import PageContents, choose_inrs
from lightning_dws.page.document import write_page

__all__ = ["PageContents", "choose_inrs", "write_page"]
