"""Batch norm of features with positions behind the channels."""

from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm as _TorchBatchNorm

_OVER = (0, 1, 3)  # batch, folds, positions

Folded = Float[Tensor, "batch folded_channels *axes"]


class PositionBatchNorm(_TorchBatchNorm):
    """Batch norm per channel over batch, folds and positions; folds come before channels.

    The same numbers as ``nn.BatchNorm1d``, whose kernel is slow on the CPU where the channels do
    not come last, and is used elsewhere. It is one of torch's batch norms to those that look for
    them: averages of weights take the statistics anew (``torch.optim.swa_utils.update_bn``,
    Lightning's ``StochasticWeightAveraging``), and what freezes a network stops them.

    Attributes:
        synchronised: Whether to take the statistics over the batches of all processes together, as
            ``nn.SyncBatchNorm`` does, which knows neither this layout nor the CPU.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__(num_features, eps, momentum)
        self.synchronised = False

    def _check_input_dim(self, input: Tensor) -> None:
        """Take rows of any shape."""

    def forward(self, x: Folded) -> Folded:
        """Normalise with the batch's statistics in training, with the running ones otherwise."""
        wide = x.to(self.weight.dtype)
        plain = wide.device.type != "cpu" and not self.synchronised
        if self.training and plain and wide.numel() > len(self.weight):  # of one value is no std
            rows = wide.reshape(-1, len(self.weight), wide.shape[2:].numel())
            out = super().forward(rows).view(x.shape)
        elif self.training:
            out, mean, unbiased = _BatchNorm.apply(  # type: ignore[no-untyped-call]
                wide, self.weight, self.bias, self.eps, self.synchronised and dist.is_initialized()
            )
            if len(x) > 0 or self.synchronised:
                self.track(mean, unbiased)
        else:
            scale = self.weight * (self.running_var + self.eps).rsqrt()
            shift = self.bias - self.running_mean * scale
            split = _split(wide, len(self.weight))
            out = torch.addcmul(shift[:, None], split, scale[:, None]).view(x.shape)
        return out.to(x.dtype)

    @torch.no_grad()
    def track(self, mean: Float[Tensor, "channels"], unbiased: Float[Tensor, "channels"]) -> None:
        """Move the running statistics towards a batch's mean and unbiased variance.

        A momentum of None makes them the means over all batches.
        """
        if not self.track_running_stats:
            return
        self.num_batches_tracked += 1
        share: Any = self.momentum
        if share is None:
            share = self.num_batches_tracked.to(mean.dtype).reciprocal()
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(unbiased, share)


def _split(x: Tensor, num_features: int) -> Tensor:
    """View (B, fold * C, *axes) as (B, fold, C, N)."""
    return x.reshape(len(x), x.shape[1] // num_features, num_features, x.shape[2:].numel())


class _BatchNorm(torch.autograd.Function):
    """Give the normalised features, and the batch's mean and unbiased variance."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float, synchronised: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        split = _split(x, len(weight))
        own_count = x.numel() // len(weight)
        count: int | Tensor = max(own_count, 1)
        mean = split.sum(_OVER) / count
        centred = split - mean[:, None]
        squares = torch.linalg.vector_norm(centred, dim=3).square_().sum((0, 1))
        if synchronised:
            own_mean = mean
            count, mean, squares = _join(own_count, mean, squares)
            centred += (own_mean - mean)[:, None]
        variance = squares / count
        inverse_std = (variance + eps).rsqrt()
        ctx.save_for_backward(centred, weight, inverse_std)
        ctx.count, ctx.synchronised = count, synchronised
        others = max(count - 1, 1) if isinstance(count, int) else (count - 1).clamp(min=1)
        unbiased = variance * (count / others)
        ctx.mark_non_differentiable(mean, unbiased)
        out = x.new_empty(x.shape)
        scale = (weight * inverse_std)[:, None]
        torch.addcmul(bias[:, None], centred, scale, out=_split(out, len(weight)))
        return out, mean, unbiased

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor, *_: Tensor) -> Any:
        centred, weight, inverse_std = ctx.saved_tensors
        grad = grad_out.reshape(centred.shape)
        grad_bias = grad.sum(_OVER)
        grad_weight = torch.linalg.vecdot(grad, centred).sum((0, 1)) * inverse_std
        # Every process's loss depends on the statistics; the parameters' own gradients stay those
        # of this process, which DistributedDataParallel averages.
        joint = torch.stack([grad_bias, grad_weight])
        if ctx.synchronised:
            dist.all_reduce(joint)
        joint_bias, joint_weight = joint
        scale = weight * inverse_std
        slope = (scale * inverse_std * joint_weight / -ctx.count)[:, None]
        shift = (scale * joint_bias / -ctx.count)[:, None]
        grad_x = torch.addcmul(shift, grad, scale[:, None]).addcmul_(centred, slope)
        return grad_x.view(grad_out.shape), grad_weight, grad_bias, None, None


def _join(count: int, mean: Tensor, squares: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Join each process's count, mean (C,) and sum of squared deviations (C,) (Chan et al., 1979).

    Exact for batches of unlike size; one message, and no wait for a GPU.
    """
    own = torch.cat([mean, squares, mean.new_full((1,), count)])
    all_of_them = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(all_of_them, own)
    means, sums, counts = torch.stack(all_of_them).split([len(mean), len(mean), 1], dim=1)
    total = counts.sum()
    joint_mean = (counts * means).sum(0) / total
    return total, joint_mean, (sums + counts * (means - joint_mean).square()).sum(0)
