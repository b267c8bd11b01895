"""The loss of SimCLR: of all INRs of a batch, which one shows the same object?"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional


def nt_xent(
    projections: Float[Tensor, "pairs features"],
    object_id: Int64[Tensor, "pairs"],
    temperature: float,
) -> Float[Tensor, ""]:
    """Compute the normalised, temperature-scaled cross-entropy (Chen et al., 2020, equation 1).

    Row i and row i + B of 2B are a pair. Other rows of the same object, such as its other neural
    views, are neither right nor wrong: they are left out of the sum.

    Args:
        projections: Of any length; their cosines count. Computed in float32 at least.
        object_id: Of each row.
        temperature: Positive; cosines are divided by it.

    Returns:
        The mean over all rows.
    """
    rows = functional.normalize(projections.to(torch.promote_types(projections.dtype, torch.float)))
    size = len(rows)
    place = torch.arange(size, device=rows.device)
    partner = (place + size // 2) % size
    is_pair = place == partner[:, None]
    left_out = (object_id == object_id[:, None]) & ~is_pair  # and so is the row itself
    cosines = (rows @ rows.T / temperature).masked_fill(left_out, -torch.inf)
    return functional.cross_entropy(cosines, partner)
