"""Ways to make a network's passes on a GPU take fewer launches."""

from collections.abc import Callable
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor, nn

from lightning_dws.errors import DataError
from lightning_dws.weight_space import Architecture, WeightBatch

CompileMode = Literal["default", "reduce-overhead", "max-autotune", "cuda-graph"]


def compile_network(
    network: nn.Module, mode: bool | CompileMode, trainer: pl.Trainer
) -> Callable[[WeightBatch], Tensor] | None:
    """Speed a network up for the device of a trainer, at its first batch.

    Returns:
        What is to be called in the network's place, or None where that is the network itself.

    Raises:
        DataError: The mode is not for the device.
    """
    device = trainer.strategy.root_device
    if mode == "cuda-graph":
        if device.type != "cuda":
            raise DataError(f"compile cuda-graph is for GPUs of CUDA, this run is on {device}")
        if trainer.world_size > 1:
            rank_zero_warn(
                "compile cuda-graph is for one GPU; on several the network runs as it is"
            )
            return None
        return GraphedNetwork(network, adds_gradients=trainer.accumulate_grad_batches > 1)
    try:
        torch.compile(torch.sin)(torch.zeros(2, device=device))
    except Exception as error:  # whatever a missing compiler leads to
        reason = str(error).strip().splitlines() or [type(error).__name__]
        rank_zero_warn(f"the network is not compiled, torch.compile does not work: {reason[0]}")
        return None
    torch._dynamo.config.suppress_errors = True  # what cannot be compiled runs as it is
    network.compile(mode="default" if isinstance(mode, bool) else mode)
    if mode in ("reduce-overhead", "max-autotune"):  # the next batch's logits take their place
        return lambda batch: network(batch).clone()
    return None


class GraphedNetwork:
    """A network whose passes in training are recorded once as CUDA graphs, and replayed.

    These networks take hundreds of small kernels a step, and most of a step's time is the CPU's
    that launches them. Other batches than that of the recorded shape, and evaluation, go through
    the network as it is.

    Args:
        network: Takes a ``WeightBatch``; only its ``parameters`` may matter, and nothing may wait
            for the GPU.
        adds_gradients: Whether the gradients of several batches are added up before a step.

    Raises:
        DataError: In the first batch: the network cannot be recorded.
    """

    def __init__(self, network: nn.Module, adds_gradients: bool) -> None:
        self.network, self.adds_gradients = network, adds_gradients
        self._replay: Any = None
        self._shape: torch.Size | None = None

    def __call__(self, batch: WeightBatch) -> Tensor:
        if self.network.training and torch.is_grad_enabled() and self._replay is None:
            self._record(batch)
        if not self.network.training or batch.parameters.shape != self._shape:
            return self.network(batch)  # type: ignore[no-any-return]
        return self._replay(batch.parameters).clone()  # type: ignore[no-any-return]

    def _record(self, batch: WeightBatch) -> None:
        """Record forward and backward pass; leave the network and the generator as they were."""
        device = batch.device
        buffers = {name: buffer.clone() for name, buffer in self.network.named_buffers()}
        generator_state = torch.cuda.get_rng_state(device)
        if hasattr(torch.autograd.graph, "set_warn_on_accumulate_grad_stream_mismatch"):
            # recorded on another stream than it is replayed on, as PyTorch does it itself
            torch.autograd.graph.set_warn_on_accumulate_grad_stream_mismatch(False)
        network = _OfRows(self.network, batch.architecture, torch.is_autocast_enabled("cuda"))
        try:
            with torch.autocast("cuda", enabled=False):  # the backward pass is not in autocast
                self._replay = torch.cuda.make_graphed_callables(
                    network, (batch.parameters.clone(),), allow_unused_input=True
                )
        except RuntimeError as error:
            raise DataError(
                f"{type(self.network).__name__} cannot be recorded as a CUDA graph, compile it in "
                f"another way or not at all: {str(error).splitlines()[0]}"
            ) from error
        self._shape = batch.parameters.shape
        for name, buffer in self.network.named_buffers():
            buffer.copy_(buffers[name])  # batch norm has counted the batches of the recording
        torch.cuda.set_rng_state(generator_state, device)
        if self.adds_gradients:  # else the first batch's gradients are where the next one's will be
            for parameter in self.network.parameters():
                if parameter.requires_grad:
                    parameter.register_hook(torch.clone)


class _OfRows(nn.Module):
    """A network as a function of rows (B, P), in autocast or not.

    Autocast keeps no cache: it would hold the weights of the recording.
    """

    def __init__(self, network: nn.Module, architecture: Architecture, autocast: bool) -> None:
        super().__init__()
        self.network, self.architecture = network, architecture
        self.autocast, self.dtype = autocast, torch.get_autocast_dtype("cuda")

    def forward(self, rows: Tensor) -> Tensor:
        batch = WeightBatch.from_parameters(self.architecture, rows)
        with torch.autocast("cuda", self.dtype, enabled=self.autocast, cache_enabled=False):
            return self.network(batch)  # type: ignore[no-any-return]
