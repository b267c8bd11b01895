"""A fitting step's element-wise work on GPUs, in one pass over memory where Triton is at hand.

CPUs have the kernel of ``sine_kernel``, and chunks that stay in the cache.
"""

import warnings
from collections.abc import Callable
from importlib.util import find_spec

import torch
from torch import Tensor

_ADAM_EPSILON = 1e-8


class Fused:
    """A function of tensors that ``torch.compile`` fuses, called as it is where it cannot.

    Args:
        function: Writes its results into its arguments.
    """

    def __init__(self, function: Callable[..., None]) -> None:
        self.function = function
        self._compiled: Callable[..., None] | None = None
        self._can_compile = True

    def __call__(self, *arguments: Tensor) -> None:
        """Call it, compiled if all tensors are on a GPU that Triton compiles for."""
        if not (self._can_compile and can_compile_for(arguments)):
            self.function(*arguments)
            return
        if self._compiled is None:
            self._compiled = torch.compile(self.function, dynamic=True, fullgraph=True)
        try:
            self._compiled(*arguments)
        except torch._dynamo.exc.TorchDynamoException as error:
            self._can_compile = False
            reason = str(error).strip().partition("\n")[0]
            warnings.warn(f"fitting goes on without torch.compile: {reason}", stacklevel=2)
            self.function(*arguments)


def can_compile_for(tensors: tuple[Tensor, ...]) -> bool:
    """Say whether all tensors are on a GPU that Triton compiles for."""
    return all(tensor.is_cuda for tensor in tensors) and find_spec("triton") is not None


@Fused
def sine_and_cosine_(argument: Tensor, sine: Tensor) -> None:
    """Write the argument's sine into ``sine``, and its cosine over the argument."""
    cosine = torch.cos(argument)
    sine.copy_(torch.sin(argument))
    argument.copy_(cosine)


@Fused
def adam_(
    weights: Tensor,
    mean: Tensor,
    square: Tensor,
    gradient: Tensor,
    scratch: Tensor,
    rates: Tensor,
    decays: Tensor,
) -> None:
    """Take a step of Adam (Kingma and Ba, 2015, algorithm 1).

    Args:
        weights: Any shape, overwritten.
        mean: Of the gradient, overwritten.
        square: Mean of its square, overwritten.
        gradient: Of this step.
        scratch: Overwritten.
        rates: (2,) minus the learning rate over the mean's bias correction, and one over the root
            of the square's.
        decays: (2,) of mean and square.
    """
    mean.lerp_(gradient, 1 - decays[0])
    square.mul_(decays[1]).addcmul_(gradient, gradient * (1 - decays[1]))
    torch.sqrt(square, out=scratch)
    scratch.mul_(rates[1]).add_(_ADAM_EPSILON)
    torch.div(mean, scratch, out=scratch)
    weights.addcmul_(scratch, rates[0])
