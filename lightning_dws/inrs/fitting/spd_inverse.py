"""Inverses of many small symmetric positive definite matrices."""

from collections.abc import Callable
from functools import cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Array = npt.NDArray[np.float32] | npt.NDArray[np.float64]


def invert_spd(matrices: Tensor) -> Tensor:
    """Invert symmetric positive definite matrices.

    On a CPU, a matrix's inverse is the same, bit for bit, whatever it is inverted together with.

    Args:
        matrices: (B, n, n) float32 or float64, contiguous. Overwritten on CPUs.

    Returns:
        (B, n, n); NaN or infinite where a matrix is zero, and of no meaning where it is otherwise
        not positive definite.
    """
    if matrices.device.type == "cpu":
        inversion_kernel()(matrices.numpy())
        return matrices
    factor, info = torch.linalg.cholesky_ex(matrices)
    failed = (info != 0)[:, None, None]
    identity = torch.eye(matrices.shape[-1], dtype=matrices.dtype, device=matrices.device)
    inverse = torch.cholesky_inverse(torch.where(failed, identity, factor))
    return inverse.masked_fill(failed, torch.nan)


@cache
def inversion_kernel() -> Callable[[Array], None]:
    """Compile, once a process, ``kernel(matrices)``, which holds no lock while it runs.

    Gauss-Jordan elimination in place, which needs no pivoting where a matrix is positive definite.
    """
    import numba

    def kernel(matrices: Array) -> None:
        size = matrices.shape[1]
        for number in range(matrices.shape[0]):
            for pivot in range(size):
                reciprocal = matrices.dtype.type(1) / matrices[number, pivot, pivot]
                matrices[number, pivot, pivot] = 1
                for column in range(size):
                    matrices[number, pivot, column] *= reciprocal
                for row in range(size):
                    if row != pivot:
                        factor = matrices[number, row, pivot]
                        matrices[number, row, pivot] = 0
                        for column in range(size):
                            matrices[number, row, column] -= (
                                factor * matrices[number, pivot, column]
                            )

    signatures = ["void(float32[:, :, ::1])", "void(float64[:, :, ::1])"]
    compiled: Callable[[Array], None] = numba.njit(signatures, nogil=True, error_model="numpy")(
        kernel
    )
    return compiled
