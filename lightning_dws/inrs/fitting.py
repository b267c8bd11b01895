"""Fit many INRs at once.

One INR is far too small to keep a machine busy, so INRs are fitted in chunks: every operation
works on all INRs of a chunk, without autograd, into buffers made once. On a CPU a chunk is small
enough to stay in the cache, every operation runs on one thread, and threads share out the chunks;
on a GPU a chunk is large.

On CPUs an INR's result is the same, bit for bit, whatever it is fitted together with, in which
order, in chunks of which size, and on how many threads. See ``_Chunk`` for what that takes.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor

from lightning_dws.errors import DataError
from lightning_dws.inrs.recipes import Recipe
from lightning_dws.inrs.sine_kernel import sine_kernel
from lightning_dws.inrs.siren import initialise_inrs
from lightning_dws.parallel import one_thread_per_operation
from lightning_dws.weight_space import INRArchitecture, WeightBatch

Progress = Callable[[int, Tensor], None]

_DIVERGED_GROWTH = 100.0  # of the error since the start
_MAX_PSNR = 150.0
_ADAM_EPSILON = 1e-8
_CPU_CHUNK_BYTES = 5 * 2**20
_GPU_MEMORY_SHARE = 0.25
_MAX_GPU_CHUNK = 16384


def fit_inrs(
    signals: Tensor,
    coordinates: Tensor,
    architecture: INRArchitecture,
    *,
    recipe: Recipe,
    seed: int,
    object_id: Tensor,
    view: Tensor,
    chunk_size: int | None = None,
    progress: Progress | None = None,
) -> tuple[WeightBatch, Tensor]:
    """Fit one INR to every signal, on the device that the signals are on.

    An INR's initial weights depend on (seed, object, view) alone, and on CPUs so do its fitted
    weights, given its signal: batch, order, chunk size and number of threads play no part.

    Args:
        signals: (B, N, out) values at the points, in their own range; PSNR takes 1 as the peak.
        coordinates: (N, d) points for all INRs, or (B, N, d) each INR's own.
        architecture: The INRs' architecture.
        recipe: How to fit.
        seed: The seed of the initial weights.
        object_id: (B,) int64, unique over all splits.
        view: (B,) int64.
        chunk_size: INRs fitted at once, per thread; None chooses from sizes and device.
        progress: Called after every chunk with the number of INRs fitted and their PSNR.

    Returns:
        B INRs in float32, with labels 0, and the PSNR in dB of exactly these weights, (B,)
        float32, at most 150.

    Raises:
        DataError: The tensors do not fit together, are not finite, or a fit diverged.
        ValueError: ``chunk_size`` is below 1.
    """
    _check_inputs(signals, coordinates, architecture, object_id, view)
    if chunk_size is not None and chunk_size < 1:
        raise ValueError(f"chunk_size must be at least 1, got {chunk_size}")
    device = signals.device
    signals = signals.detach().float()
    coordinates = coordinates.detach().to(device, torch.float32)
    object_id, view = object_id.to(device), view.to(device)
    fitted = initialise_inrs(
        architecture,
        seed=seed,
        object_id=object_id,
        view=view,
        first_layer_bound=recipe.first_layer_bound,
    )
    num_inrs, num_points = signals.shape[:2]
    psnr = torch.empty(num_inrs, device=device)
    workers = torch.get_num_threads() if device.type == "cpu" else 1
    if chunk_size is None:
        chunk_size = _choose_chunk_size(architecture, num_points, device)
        chunk_size = max(1, min(chunk_size, math.ceil(num_inrs / workers)))

    def fit_chunk(rows: Tensor) -> tuple[Tensor, Tensor]:
        size = len(rows)
        padding = max(2, size + size % 2) - size
        rows = torch.cat([rows, rows[-1:].expand(padding)])
        points = coordinates if coordinates.ndim == 2 else coordinates[rows]
        chunk = _Chunk(architecture, fitted.parameters[rows], signals[rows], points)
        try:
            parameters, chunk_psnr = chunk.fit(recipe)
        except _DivergedError as error:
            row = int(rows[error.row])
            raise DataError(
                f"the fit of object_id {int(object_id[row])}, view {int(view[row])} diverged by "
                f"step {error.step}: its loss is not finite, or {_DIVERGED_GROWTH:g} times "
                f"that of the start (learning_rate {recipe.learning_rate})"
            ) from None
        return parameters[:size], chunk_psnr[:size]

    chunks = torch.arange(num_inrs, device=device).split(chunk_size) if num_inrs else ()
    with (
        _full_precision(),
        one_thread_per_operation() if device.type == "cpu" else nullcontext(),
        ThreadPoolExecutor(workers) as pool,
    ):
        results = pool.map(fit_chunk, chunks) if workers > 1 else map(fit_chunk, chunks)
        try:
            for rows, (parameters, chunk_psnr) in zip(chunks, results, strict=True):
                fitted.parameters[rows], psnr[rows] = parameters, chunk_psnr
                if progress is not None:
                    progress(len(rows), chunk_psnr)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return fitted, psnr


def _check_inputs(
    signals: Tensor,
    coordinates: Tensor,
    architecture: INRArchitecture,
    object_id: Tensor,
    view: Tensor,
) -> None:
    out, d = architecture.out_features, architecture.in_features
    if signals.ndim != 3 or signals.shape[1] < 1 or signals.shape[2] != out:
        raise DataError(
            f"signals must have shape (B, N, {out}) for widths {architecture.widths}, "
            f"got {tuple(signals.shape)}"
        )
    num_inrs, num_points = signals.shape[:2]
    if tuple(coordinates.shape) not in ((num_points, d), (num_inrs, num_points, d)):
        raise DataError(
            f"coordinates must have shape ({num_points}, {d}) or ({num_inrs}, {num_points}, {d}), "
            f"got {tuple(coordinates.shape)}"
        )
    for name, field in (("signals", signals), ("coordinates", coordinates)):
        if not field.is_floating_point():
            raise DataError(f"{name} must be floating point, got {field.dtype}")
    for name, field in (("object_id", object_id), ("view", view)):
        if field.shape != (num_inrs,) or field.dtype != torch.int64:
            raise DataError(
                f"{name} must be int64 of shape ({num_inrs},), "
                f"got {field.dtype} of shape {tuple(field.shape)}"
            )
    if not bool(coordinates.isfinite().all()):
        raise DataError("coordinates must be finite, found a value that is not")
    finite = signals.isfinite().flatten(1).all(dim=1)
    if not bool(finite.all()):
        row = int(finite.logical_not().nonzero()[0])
        raise DataError(
            f"signals must be finite, found a value that is not in that of "
            f"object_id {int(object_id[row])}, view {int(view[row])}"
        )


def _choose_chunk_size(architecture: INRArchitecture, num_points: int, device: torch.device) -> int:
    bytes_per_inr = 4 * num_points * 3 * sum(architecture.widths)
    if device.type == "cpu":
        return max(2, _CPU_CHUNK_BYTES // bytes_per_inr)
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 2**31
    return max(2, min(_MAX_GPU_CHUNK, int(free * _GPU_MEMORY_SHARE) // bytes_per_inr))


@contextmanager
def _full_precision() -> Iterator[None]:
    """Keep products on GPUs in float32: a SIREN at w0 = 30 does not survive less."""
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(precision)


class _DivergedError(Exception):
    def __init__(self, row: int, step: int) -> None:
        super().__init__(row, step)
        self.row, self.step = row, step


class _Chunk:
    """INRs fitted together: their weights, Adam's moments and buffers for one pass.

    Activations are (B, n + 1, N): a row of ones below each layer's n neurons makes biases a
    row of the weights, (B, in + 1, out), and their gradients part of the same product.

    For results that depend on nothing else in the chunk, no element may meet another instruction
    sequence in another place: element-wise operations treat the end of an array that is no
    multiple of two SIMD registers differently, and a product of a single matrix goes through
    another kernel than batched products. So points are padded to a multiple of 16 (with zero
    error), weights to a multiple of 64, and a chunk holds an even number of INRs.
    """

    def __init__(
        self,
        architecture: INRArchitecture,
        parameters: Tensor,
        signals: Tensor,
        coordinates: Tensor,
    ) -> None:
        self.architecture, self.signals, self.coordinates = architecture, signals, coordinates
        size, num_points = signals.shape[:2]
        padded = 16 * math.ceil(num_points / 16)
        new = parameters.new_zeros
        self.sine = architecture.activation == "sine"
        self.frequency = architecture.w0 if self.sine else 1.0
        self.in_turns = (
            self.sine and parameters.dtype == torch.float32 and parameters.device.type == "cpu"
        )
        self.mean_factor = 1 / (num_points * architecture.out_features)

        points = new(size, architecture.in_features + 1, padded)
        points[:, :-1, :num_points] = coordinates.mT
        points[:, -1] = 1
        self.inputs = [points]
        self.slopes = []
        self.deltas = []
        for width in architecture.hidden_widths:
            hidden = new(size, width + 1, padded)
            hidden[:, -1] = 1
            self.inputs.append(hidden)
            self.slopes.append(new(size, width, padded))
            self.deltas.append(new(size, width, padded))
        self.output = new(size, architecture.out_features, padded)
        self.error = new(size, architecture.out_features, padded)
        self.target = (signals - architecture.output_offset).mT.contiguous()
        self.num_points = num_points

        total = 64 * math.ceil(parameters.numel() / 64)
        self.flat, self.gradient, self.mean, self.square, self.scratch = (
            new(total) for _ in range(5)
        )
        self.weights = self._split_layers(self.flat, size)
        self.gradients = self._split_layers(self.gradient, size)
        layers = zip(
            self.weights, architecture.weight_slices, architecture.bias_slices, strict=True
        )
        for weight, weight_slice, bias_slice in layers:
            bias = parameters[:, bias_slice]
            weight[:, :-1] = parameters[:, weight_slice].view(size, bias.shape[1], -1).mT
            weight[:, -1] = bias

    def _split_layers(self, flat: Tensor, size: int) -> list[Tensor]:
        shapes = [(size, n_in + 1, n_out) for n_out, n_in in self.architecture.weight_shapes]
        starts = itertools.accumulate((math.prod(shape) for shape in shapes), initial=0)
        return [
            flat[start : start + math.prod(shape)].view(shape)
            for start, shape in zip(starts, shapes, strict=False)
        ]

    def rows(self, layers: list[Tensor]) -> Tensor:
        """Give weights or their gradients as rows, (B, P)."""
        columns = []
        for layer in layers:
            columns += [layer[:, :-1].mT.flatten(1), layer[:, -1]]
        return torch.cat(columns, dim=1)

    def forward(self) -> None:
        """Compute the activations, their slopes and the error at every point."""
        scale = self.frequency / (2 * math.pi) if self.in_turns else self.frequency
        layers = zip(self.weights, self.inputs, self.inputs[1:], self.slopes, strict=False)
        for weight, below, above, slope in layers:
            torch.baddbmm(slope, weight.mT, below, beta=0, alpha=scale, out=slope)
            value = above[:, :-1]
            if self.in_turns:
                sine_kernel()(slope.flatten(1).numpy(), above.flatten(1).numpy())
            elif self.sine:
                torch.sin(slope, out=value)
                torch.cos(slope, out=slope)
            else:
                torch.clamp_min(slope, 0, out=value)
                slope.gt_(0)
        torch.bmm(self.weights[-1].mT, self.inputs[-1], out=self.output)
        valid = slice(0, self.num_points)
        torch.sub(self.output[:, :, valid], self.target, out=self.error[:, :, valid])

    def backward(self) -> None:
        """Compute the gradient of the mean squared error of the last forward pass."""
        delta, factor = self.error, 2 * self.mean_factor
        for layer in reversed(range(self.architecture.num_layers)):
            gradient = self.gradients[layer]
            torch.baddbmm(
                gradient, self.inputs[layer], delta.mT, beta=0, alpha=factor, out=gradient
            )
            if layer == 0:
                break
            above, delta = delta, self.deltas[layer - 1]
            weight = self.weights[layer][:, :-1]
            torch.baddbmm(delta, weight, above, beta=0, alpha=factor, out=delta)
            delta.mul_(self.slopes[layer - 1])
            factor = self.frequency

    def update(self, step: int, learning_rate: float, betas: tuple[float, float]) -> None:
        """Take one step of Adam, counted from 1."""
        beta1, beta2 = betas
        correction = 1 / math.sqrt(1 - beta2**step)
        self.mean.lerp_(self.gradient, 1 - beta1)
        self.square.mul_(beta2).addcmul_(self.gradient, self.gradient, value=1 - beta2)
        torch.sqrt(self.square, out=self.scratch)
        self.scratch.mul_(correction).add_(_ADAM_EPSILON)
        self.flat.addcdiv_(self.mean, self.scratch, value=-learning_rate / (1 - beta1**step))

    def select(self, rows: Tensor) -> "_Chunk":
        """Give a chunk of some of the INRs that goes on where this one is."""
        coordinates = self.coordinates if self.coordinates.ndim == 2 else self.coordinates[rows]
        parameters = self.rows(self.weights)[rows]
        chosen = _Chunk(self.architecture, parameters, self.signals[rows], coordinates)
        for own, moment in ((chosen.mean, self.mean), (chosen.square, self.square)):
            layers = zip(
                chosen._split_layers(own, len(rows)),
                self._split_layers(moment, len(self.signals)),
                strict=True,
            )
            for layer, known in layers:
                layer.copy_(known[rows])
        chosen.forward()
        return chosen

    def mean_squared_error(self) -> Tensor:
        """Give the error of the last forward pass, (B,)."""
        return self.error.square().flatten(1).sum(dim=1) * self.mean_factor

    def fit(self, recipe: Recipe) -> tuple[Tensor, Tensor]:
        """Take all steps; give the weights (B, P) and their PSNR (B,).

        INRs that reach the target PSNR leave the chunk as soon as half of it can.
        """
        target_error = 0.0 if recipe.target_psnr is None else 10 ** (-recipe.target_psnr / 10)
        self.forward()
        best, best_error = self.rows(self.weights), self.mean_squared_error()
        most = _DIVERGED_GROWTH * best_error.clamp_min(0.01)
        running = torch.ones_like(best_error, dtype=torch.bool)
        chunk, members = self, torch.arange(len(running), device=running.device)
        for step in range(1, recipe.steps + 1):
            chunk.backward()
            chunk.update(step, recipe.learning_rate_at(step), recipe.betas)
            chunk.forward()
            last = step == recipe.steps
            if step % recipe.check_every and not last:
                continue
            error, still = chunk.mean_squared_error(), running[members]
            diverged = still & ~((error <= most[members]) & error.isfinite())
            stopping = still & ((error <= target_error) | last)
            any_diverged, any_stopping = torch.stack([diverged.any(), stopping.any()]).tolist()
            if any_diverged:
                raise _DivergedError(int(members[diverged.nonzero()[0]]), step)
            if any_stopping:
                stopped = members[stopping]
                best[stopped] = chunk.rows(chunk.weights)[stopping]
                best_error[stopped] = error[stopping]
                running[stopped] = False
                left = running[members].nonzero()[:, 0]
                if len(left) == 0:
                    break
                if 2 * len(left) <= len(members):
                    left = torch.cat([left, left[-1:].expand(len(left) % 2)])
                    chunk, members = chunk.select(left), members[left]
        floor = 10 ** (-_MAX_PSNR / 10)
        return best, -10 * torch.log10(best_error.clamp_min(floor))
