"""Fit many INRs at once.

One INR is far too small to keep a machine busy, so INRs are fitted in chunks: every operation
works on all INRs of a chunk, without autograd, into buffers made once. On a CPU a chunk is small
enough to stay in the cache, every operation runs on one thread, and threads share out the chunks;
on a GPU a chunk is large. Adam's small INRs on CPUs are in lanes instead: ``lane_fits``.

On CPUs an INR's result is the same, bit for bit, whatever it is fitted together with, in which
order, in chunks of which size, and on how many threads. See ``Chunk`` for what that takes there.
"""

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor

from lightning_dws.errors import DataError
from lightning_dws.inrs.fitting.chunk import DIVERGED_GROWTH, Chunk, psnr_of
from lightning_dws.inrs.fitting.lane_fits import fit_in_lanes, takes_lanes
from lightning_dws.inrs.fitting.optimizers import OPTIMIZERS
from lightning_dws.inrs.fitting.recipes import Recipe
from lightning_dws.inrs.fitting.refitting import Refitted, fit_again_where_failed
from lightning_dws.inrs.siren import initialise_inrs
from lightning_dws.models.lanes import LANES
from lightning_dws.parallel import one_thread_per_operation
from lightning_dws.weight_space import INRArchitecture, WeightBatch

Progress = Callable[[int, Tensor], None]

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
    on_refit: Callable[[int], None] | None = None,
) -> tuple[WeightBatch, Tensor]:
    """Fit one INR to every signal, on the device that the signals are on.

    An INR's initial weights depend on (seed, object, view) and the recipe's ``init`` alone, and on
    CPUs so do its fitted weights, given its signal: batch, order, chunk size and number of threads
    play no part.

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
        on_refit: Called after every chunk in which INRs failed and a lower learning rate was
            better for them, with their number; see ``fit_again_where_failed``.

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
        shared=recipe.shared_start,
    )
    num_inrs, num_points = signals.shape[:2]
    psnr = torch.empty(num_inrs, device=device)
    workers = torch.get_num_threads() if device.type == "cpu" else 1
    in_lanes = takes_lanes(architecture, recipe, device)
    if chunk_size is None:
        chunk_size = LANES
        if not in_lanes:
            chunk_size = _choose_chunk_size(architecture, num_points, recipe, device)
        chunk_size = max(1, min(chunk_size, math.ceil(num_inrs / workers)))

    def fit_once(rows: Tensor, recipe: Recipe) -> tuple[Tensor, Tensor]:
        """Fit some INRs; those that diverge keep their start, with a PSNR of minus infinity."""
        if in_lanes:
            points = coordinates if coordinates.ndim == 2 else coordinates[rows]
            return fit_in_lanes(
                architecture, fitted.parameters[rows], signals[rows], points, recipe
            )
        size = len(rows)
        padded = torch.cat([rows, rows[-1:].expand(max(2, size + size % 2) - size)])
        points = coordinates if coordinates.ndim == 2 else coordinates[padded]
        start = fitted.parameters[padded]
        chunk = Chunk(architecture, start, signals[padded], points, recipe.points_per_step)
        try:
            parameters, chunk_psnr = fit_chunk(chunk, recipe)
        except _DivergedError as error:
            parameters, chunk_psnr = fitted.parameters[rows], torch.full_like(psnr[rows], -math.inf)
            steady = torch.ones(size, dtype=torch.bool, device=device)
            steady[error.rows[error.rows < size]] = False
            if steady.any():
                parameters[steady], chunk_psnr[steady] = fit_once(rows[steady], recipe)
        return parameters[:size], chunk_psnr[:size]

    def fit_rows(rows: Tensor) -> Refitted:
        result = fit_again_where_failed(fit_once, rows, signals[rows], recipe)
        lost = (result.psnr == -math.inf).nonzero()
        if len(lost):
            row = int(rows[lost[0]])
            raise DataError(
                f"the fit of object_id {int(object_id[row])}, view {int(view[row])} diverged: its "
                f"loss is not finite, or {DIVERGED_GROWTH:g} times that of the start, with the "
                f"learning_rate {recipe.learning_rate} and with lower ones"
            )
        return result

    chunks = torch.arange(num_inrs, device=device).split(chunk_size) if num_inrs else ()
    with (
        _full_precision(),
        one_thread_per_operation() if device.type == "cpu" else nullcontext(),
        ThreadPoolExecutor(workers) as pool,
    ):
        results = pool.map(fit_rows, chunks) if workers > 1 else map(fit_rows, chunks)
        try:
            for rows, result in zip(chunks, results, strict=True):
                fitted.parameters[rows], psnr[rows] = result.parameters, result.psnr
                if progress is not None:
                    progress(len(rows), result.psnr)
                if on_refit is not None and result.num_refitted:
                    on_refit(result.num_refitted)
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


def _choose_chunk_size(
    architecture: INRArchitecture, num_points: int, recipe: Recipe, device: torch.device
) -> int:
    num_points = min(num_points, recipe.points_per_step or num_points)
    buffers = 3 if recipe.optimizer == "adam" else 3 + architecture.out_features
    bytes_per_inr = 4 * num_points * buffers * sum(architecture.widths)
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
    """Some INRs of a chunk, by row number (b,), are lost."""

    def __init__(self, rows: Tensor) -> None:
        super().__init__(rows)
        self.rows = rows


def fit_chunk(chunk: Chunk, recipe: Recipe) -> tuple[Tensor, Tensor]:
    """Take all steps of a recipe; give the weights (B, P) and their PSNR (B,).

    INRs that reach the target PSNR leave the chunk as soon as half of it can.
    """
    target_error = 0.0 if recipe.target_psnr is None else 10 ** (-recipe.target_psnr / 10)
    best, best_error = chunk.rows(chunk.weights), chunk.mean_squared_error()
    most = DIVERGED_GROWTH * best_error.clamp_min(0.01)
    running = torch.ones_like(best_error, dtype=torch.bool)
    members = torch.arange(len(running), device=running.device)
    optimizer = OPTIMIZERS[recipe.optimizer](chunk, recipe)
    for step in range(1, recipe.steps + 1):
        optimizer.step(step)
        last = step == recipe.steps
        if step % recipe.check_every and not last:
            continue
        chunk = optimizer.chunk
        error, still = chunk.mean_squared_error(), running[members]
        diverged = still & ~((error <= most[members]) & error.isfinite())
        stopping = still & ((error <= target_error) | last)
        any_diverged, any_stopping = torch.stack([diverged.any(), stopping.any()]).tolist()
        if any_diverged:
            raise _DivergedError(members[diverged])
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
                optimizer, members = optimizer.select(left), members[left]
    return best, psnr_of(best_error)
