"""Batch norm of features with positions behind the channels."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

_OVER = (0, 1, 3)  # batch, folds, positions


class PositionBatchNorm(nn.Module):
    """Batch norm of (B, fold * C, *axes), per channel C over batch, folds and positions.

    The same numbers as ``nn.BatchNorm1d``, whose kernel is slow on the CPU where the channels do
    not come last.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise with the batch's statistics in training, with the running ones otherwise."""
        wide = x.to(self.weight.dtype)
        if self.training:
            out, mean, variance = _BatchNorm.apply(  # type: ignore[no-untyped-call]
                wide, self.weight, self.bias, self.eps
            )
            count = x.numel() // len(self.weight)
            with torch.no_grad():
                self.num_batches_tracked += 1
                self.running_mean.lerp_(mean, self.momentum)
                self.running_var.lerp_(variance * (count / max(count - 1, 1)), self.momentum)
        else:
            scale = self.weight * (self.running_var + self.eps).rsqrt()
            shift = self.bias - self.running_mean * scale
            split = _split(wide, len(self.weight))
            out = torch.addcmul(shift[:, None], split, scale[:, None]).view(x.shape)
        return out.to(x.dtype)  # type: ignore[no-any-return]


def _split(x: Tensor, num_features: int) -> Tensor:
    """View (B, fold * C, *axes) as (B, fold, C, N)."""
    return x.reshape(len(x), -1, num_features, x[0, 0].numel())


class _BatchNorm(torch.autograd.Function):
    """Give the normalised features, and the batch's mean and biased variance."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        count = x.numel() // len(weight)
        split = _split(x, len(weight))
        mean = split.sum(_OVER) / count
        centred = split - mean[:, None]
        variance = torch.linalg.vector_norm(centred, dim=3).square_().sum((0, 1)) / count
        inverse_std = (variance + eps).rsqrt()
        ctx.save_for_backward(centred, weight, inverse_std)
        ctx.mark_non_differentiable(mean, variance)
        out = x.new_empty(x.shape)
        scale = (weight * inverse_std)[:, None]
        torch.addcmul(bias[:, None], centred, scale, out=_split(out, len(weight)))
        return out, mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor, *_: Tensor) -> Any:
        centred, weight, inverse_std = ctx.saved_tensors
        grad = grad_out.reshape(centred.shape)
        count = centred.numel() // len(weight)
        grad_bias = grad.sum(_OVER)
        grad_weight = torch.linalg.vecdot(grad, centred).sum((0, 1)) * inverse_std
        scale = weight * inverse_std
        slope = (scale * inverse_std * grad_weight / -count)[:, None]
        shift = (scale * grad_bias / -count)[:, None]
        grad_x = torch.addcmul(shift, grad, scale[:, None]).addcmul_(centred, slope)
        return grad_x.view(grad_out.shape), grad_weight, grad_bias, None
