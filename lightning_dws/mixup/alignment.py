"""Weight matching: reorder the hidden neurons of networks to be close to others (Git Re-Basin).

Coordinate descent of Ainsworth et al. (2023) over hidden layers, each step a linear assignment,
for a whole batch of pairs at once; extended to signed permutations for sine networks, whose
hidden neurons match up to their sign, and for others that are odd.

On a CPU threads match one pair after another (``matching_kernel``); on CUDA all pairs of a batch
are matched at once (``matching_triton``), and nothing waits for the device. That is for INRs; other
networks, such as CNNs, are always matched on the CPU.
"""

from importlib.util import find_spec
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from lightning_dws.augmentations.symmetry import permute_neurons
from lightning_dws.weight_space import ODD, INRArchitecture, WeightBatch, require_functions

Symmetry = Literal["permutation", "signed_permutation"]
SYMMETRIES: tuple[Symmetry, ...] = ("permutation", "signed_permutation")

# A step must lower the squared distance by more than rounding can feign, or it might cycle.
_RELATIVE_GAIN = 1e-12


class Alignment(NamedTuple):
    """What ``align`` found.

    Neuron ``i`` of hidden layer ``l``, or of another group, of ``aligned`` is ``signs[l][:, i]``
    times neuron ``permutations[l][:, i]`` of the INR that was aligned; signs are ±1, in the
    parameters' dtype.
    """

    aligned: WeightBatch
    permutations: list[Int64[Tensor, "batch _neurons"]]
    signs: list[Float[Tensor, "batch _neurons"]]


@torch.no_grad()
def align(a: WeightBatch, b: WeightBatch, symmetry: Symmetry = "permutation") -> Alignment:
    """Move every INR of b, by symmetries of its function, as close as possible to that of a.

    Assigns layer by layer from the incoming weights, then by coordinate descent until no
    assignment changes. The search by signed permutations starts both from the incoming weights
    and from the permutations' result and keeps the closer end. A step is taken only if it
    lowers the squared distance (in float64), and a pair that ends farther apart than it was is
    redone from the identity, so an aligned pair is never farther apart than the given one,
    nor by signed permutations than by permutations.

    Args:
        a: B INRs.
        b: B INRs of the same architecture, on the same device.
        symmetry: ``"permutation"``, for every activation, or ``"signed_permutation"``, for sine
            and other odd activations alone.

    Returns:
        The moved b, and how to move it: ``permute_neurons(b, permutations, signs)``.

    Raises:
        ValueError: An unknown symmetry, signed permutations of networks without an odd
            activation, or batches that differ in architecture or size.
        DataError: A weight is not finite, or so large that its square is not; on CUDA, where to
            look would wait for the device, such a pair stays as it is.
    """
    _check_pair(a, b, symmetry)
    signed = symmetry == "signed_permutation"
    permutation, sign = _match(a, b, signed, _RELATIVE_GAIN)
    widths = list(b.architecture.groups.values())
    permutations = list(permutation.split(widths, dim=1))
    signs = list(sign.to(b.parameters.dtype).split(widths, dim=1))
    return Alignment(permute_neurons(b, permutations, signs), permutations, signs)


def _match(
    a: WeightBatch, b: WeightBatch, signed: bool, relative_gain: float
) -> tuple[Int64[Tensor, "batch neurons"], Float64[Tensor, "batch neurons"]]:
    """Search where the batch is: compiled on CPUs, by Triton on CUDA; otherwise on the CPU."""
    is_inr = isinstance(b.architecture, INRArchitecture)
    if is_inr and b.device.type == "cuda" and find_spec("triton") is not None:
        from lightning_dws.mixup.matching_triton import match_on_gpu

        return match_on_gpu(a, b, signed, relative_gain)
    from lightning_dws.mixup.matching_kernel import match_on_cpu  # loads Numba

    found = match_on_cpu(a.to("cpu"), b.to("cpu"), signed, relative_gain)
    return found[0].to(b.device), found[1].to(b.device)


def _check_pair(a: WeightBatch, b: WeightBatch, symmetry: str) -> None:
    if symmetry not in SYMMETRIES:
        raise ValueError(f"symmetry must be one of {SYMMETRIES}, got {symmetry!r}")
    if a.architecture != b.architecture or len(a) != len(b):
        raise ValueError(
            "INRs to align must be of one architecture and as many, got "
            f"{len(a)} of {a.architecture} and {len(b)} of {b.architecture}"
        )
    if symmetry == "signed_permutation":
        require_functions(symmetry, ODD, "it needs an odd activation", a.architecture)
