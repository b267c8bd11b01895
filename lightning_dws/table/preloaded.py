"""What is imported once, by the process that the cells' processes are forked from.

They inherit it as what is no garbage: each would look through all of it, and so copy its memory.
"""

import gc

from lightning_dws.startup import importing

with importing():
    import lightning_dws.table.worker  # noqa: F401

gc.freeze()
