"""What INRs put out at probes, which learn from it."""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from lightning_dws.inrs.siren import evaluate_inrs
from lightning_dws.parallel import map_in_threads
from lightning_dws.sine_kernel import sine_kernel
from lightning_dws.weight_space import INRArchitecture, WeightBatch, require_inrs

_BYTES_AT_ONCE = 2**20  # of a layer's activations on one thread, which then stay in the cache


def probe_outputs(
    batch: WeightBatch, probes: Float[Tensor, "probes coordinates"]
) -> Float[Tensor, "batch probes outputs"]:
    """Evaluate every INR at the same probes, as ``evaluate_inrs`` does; differentiable.

    Where SIRENs are evaluated on a CPU and nobody asks for their own gradients, sine and cosine
    come from one kernel, and the outputs' derivatives by the probes are taken right away, a few
    INRs at a time: they have few outputs, and no activation has to be kept for the backward pass.
    """
    if not _takes_kernel(batch, probes):
        return evaluate_inrs(batch, probes)
    if torch.is_grad_enabled() and probes.requires_grad:
        return _Outputs.apply(probes, batch)  # type: ignore[no-any-return, no-untyped-call]
    return torch.cat([outputs for outputs, _ in _evaluate(batch, probes, derive=False)])


def _takes_kernel(batch: WeightBatch, probes: Tensor) -> bool:
    rows, architecture = batch.parameters, require_inrs(batch.architecture, "probes")
    return (
        architecture.activation == "sine"
        and architecture.widths[0] == probes.shape[1]  # coordinates go in as they are
        and rows.device.type == "cpu"
        and rows.dtype == probes.dtype == torch.float32
        and not (rows.requires_grad and torch.is_grad_enabled())
        and not torch.compiler.is_compiling()
    )


class _Outputs(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, probes: Tensor, batch: WeightBatch) -> Tensor:
        outputs, derivatives = zip(*_evaluate(batch, probes, derive=True), strict=True)
        ctx.save_for_backward(torch.cat(derivatives))
        return torch.cat(outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        (derivatives,) = ctx.saved_tensors
        return torch.einsum("bno,bnod->nd", grad, derivatives), None


def _evaluate(batch: WeightBatch, probes: Tensor, derive: bool) -> list[tuple[Tensor, Tensor]]:
    """Give outputs (b, N, out) of a few INRs at a time, and their derivatives (b, N, out, d)."""
    architecture = require_inrs(batch.architecture, "probes")
    widest = len(probes) * max(architecture.hidden_widths) * probes.element_size()
    size = max(1, _BYTES_AT_ONCE // widest)
    starts = range(0, max(1, len(batch)), size)  # of no INRs one chunk, which is empty too
    chunks = [batch[start : start + size] for start in starts]
    probes = probes.detach()
    return map_in_threads(lambda c: _evaluate_chunk(architecture, c, probes, derive), chunks)


def _evaluate_chunk(
    architecture: INRArchitecture, inrs: WeightBatch, probes: Tensor, derive: bool
) -> tuple[Tensor, Tensor]:
    w0, weights = architecture.w0, inrs.weights
    turns_of_one = w0 / (2 * math.pi)
    hidden = probes.T.expand(len(inrs), -1, -1)  # (b, n_l, N)
    cosines = []
    for weight, bias in zip(weights[:-1], inrs.biases[:-1], strict=True):
        turns = torch.baddbmm(
            bias[..., None], weight, hidden, alpha=turns_of_one, beta=turns_of_one
        )
        hidden = torch.empty_like(turns)
        sine_kernel()(turns.flatten(1).numpy(), hidden.flatten(1).numpy())
        cosines.append(turns)  # what the kernel left there
    outputs = torch.baddbmm(inrs.biases[-1][..., None], weights[-1], hidden).mT
    outputs = outputs + architecture.output_offset
    if not derive:
        return outputs, outputs
    derivatives = []
    for output in range(architecture.out_features):
        slope = weights[-1][:, output, :, None]
        for weight, cosine in zip(reversed(weights[:-1]), reversed(cosines), strict=True):
            slope = torch.bmm(weight.mT * w0, slope * cosine)
        derivatives.append(slope.mT)
    return outputs, torch.stack(derivatives, 2)
