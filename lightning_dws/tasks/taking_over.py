"""A network that another task has trained, taken over for this one."""

import sys
from collections.abc import Mapping
from typing import Any

from pytorch_lightning.utilities import rank_zero_only
from torch import nn

from lightning_dws.tasks.restoring import check_weights

_NETWORK, _HEAD = "network.", "head."


def take_network(network: nn.Module, state: Mapping[str, Any], where: str) -> None:
    """Load what a task's checkpoint holds of its network, and say what of it.

    That is all but its ``head``, whose outputs mean something else to another task: it stays as it
    was made. A network without a module of that name is taken whole.

    Args:
        network: It is changed.
        state: The ``state_dict`` of the checkpoint.
        where: Names the checkpoint, and its task.

    Raises:
        DataError: The checkpoint is of another network.
    """
    found = {n.removeprefix(_NETWORK): v for n, v in state.items() if n.startswith(_NETWORK)}
    new = {name: v for name, v in network.state_dict().items() if name.startswith(_HEAD)}
    merged = {name: v for name, v in found.items() if not name.startswith(_HEAD)} | new
    check_weights(network, merged, where)
    network.load_state_dict(merged)
    but = f" but for its head ({', '.join(new)}), which starts anew" if new else ""
    rank_zero_only(sys.stderr.write)(f"{where}: its network is taken over{but}\n")
