"""Evaluate and initialise many INRs at once."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from lightning_dws.randomness import hashed_uniform
from lightning_dws.weight_space import INRArchitecture, WeightBatch, require_inrs

_POINTS_AT_ONCE = 2**14  # of one INR, so that activations stay in the cache
_NO_OBJECT = -1  # whose start is that of all objects; theirs are not negative


def evaluate_inrs(batch: WeightBatch, coordinates: Tensor) -> Tensor:
    """Evaluate every INR of a batch.

    Args:
        batch: B INRs.
        coordinates: (N, d) points for all INRs, or (B, N, d) each INR's own.

    Returns:
        (B, N, out), the architecture's output offset included. Differentiable.

    Raises:
        ValueError: The coordinates do not have the INRs' number of inputs, or are for another
            number of INRs.
        DataError: The networks are no INRs.
    """
    architecture = require_inrs(batch.architecture, "evaluate_inrs")
    own_points = coordinates.ndim == 3
    if (
        coordinates.ndim not in (2, 3)
        or coordinates.shape[-1] != architecture.in_features
        or (own_points and len(coordinates) != len(batch))
    ):
        raise ValueError(
            f"coordinates must have shape (N, {architecture.in_features}) or "
            f"({len(batch)}, N, {architecture.in_features}), got {tuple(coordinates.shape)}"
        )
    for activations in neuron_activations(batch, coordinates):
        outputs = activations  # those of hidden layers are not kept
    return outputs


def evaluate_inr(inr: WeightBatch, points: Tensor) -> Tensor:
    """Evaluate one INR at many points (N, d), a part of them at a time: (N, out)."""
    return torch.cat([evaluate_inrs(inr, part)[0] for part in points.split(_POINTS_AT_ONCE)])


def evaluate_field(inr: WeightBatch, points: Tensor) -> Tensor:
    """Evaluate one INR with one output at many points (N, d), a part of them at a time: (N,)."""
    return evaluate_inr(inr, points)[:, 0]


def encode_points(architecture: INRArchitecture, coordinates: Tensor, dim: int = -1) -> Tensor:
    """Give what the first layer takes in: the coordinates along an axis, or their encoding."""
    encoding = architecture.encoding
    return coordinates if encoding is None else encoding.encode(coordinates, dim)


def neuron_activations(batch: WeightBatch, coordinates: Tensor) -> Iterator[Tensor]:
    """Give what every neuron of every INR puts out, layer by layer behind the inputs.

    Args:
        batch: B INRs.
        coordinates: (N, d) points for all INRs, or (B, N, d) each INR's own.

    Yields:
        For each layer l (B, N, n_{l+1}): after the activation function, and with the architecture's
        output offset in the last. Differentiable. Autocast changes nothing: w0 would multiply its
        rounding.
    """
    architecture = require_inrs(batch.architecture, "neuron_activations")
    device = batch.device.type
    if torch.is_autocast_enabled(device):  # what coordinates are made by rounds them alone
        coordinates = coordinates.to(batch.parameters.dtype)
    own_points = coordinates.ndim == 3
    hidden = encode_points(architecture, coordinates)
    hidden = hidden if own_points else hidden.expand(len(batch), *hidden.shape)
    for layer, (weight, bias) in enumerate(zip(batch.weights, batch.biases, strict=True)):
        with torch.autocast(device, enabled=False):
            hidden = torch.baddbmm(bias[:, None, :], hidden, weight.mT)
        if layer == architecture.num_layers - 1:
            hidden = hidden + architecture.output_offset
        elif architecture.activation == "sine":
            hidden = torch.sin(architecture.w0 * hidden)
        else:
            hidden = torch.relu(hidden)
        yield hidden


def initialise_inrs(
    architecture: INRArchitecture,
    *,
    seed: int,
    object_id: Tensor,
    view: Tensor,
    first_layer_bound: float | None = None,
    shared: float = 0.0,
) -> WeightBatch:
    """Draw initial weights that depend on (seed, object, view) alone, for every device and batch.

    With a ``shared`` share s they are ``sqrt(s)`` times a start that all objects of a view have in
    common, plus ``sqrt(1 - s)`` times the object's own: of the same variance, and the starts of two
    objects of a view have the correlation s. Views differ, whatever s is.

    The scheme of the published 2-D INR datasets: weights uniform in
    ``± sqrt(6 / fan_in) / w0`` in hidden layers, the first included, hidden biases zero, the
    last layer uniform in ``± 1 / sqrt(fan_in)`` as ``nn.Linear``. For ``relu``, ``w0`` counts as 1.

    Args:
        architecture: The INRs' architecture.
        seed: The recipe's seed.
        object_id: (B,) int64, unique over all splits.
        view: (B,) int64.
        first_layer_bound: Other bound for the first layer's weights; Sitzmann et al. (2020) use
            ``1 / in_features``.
        shared: Share s of the start that the objects of a view have in common, in [0, 1]: 0 gives
            every object its own start, 1 all of them the same.

    Returns:
        B INRs in float32, with labels 0.

    Raises:
        ValueError: ``shared`` is not in [0, 1].
    """
    if not 0 <= shared <= 1:
        raise ValueError(f"shared must be in [0, 1], got {shared}")
    bounds = torch.zeros(architecture.num_parameters)
    w0 = architecture.w0 if architecture.activation == "sine" else 1.0
    slices = zip(architecture.weight_slices, architecture.bias_slices, strict=True)
    for layer, (weight, bias) in enumerate(slices):
        fan_in = architecture.widths[layer]
        if layer == architecture.num_layers - 1:
            bounds[weight] = bounds[bias] = 1 / math.sqrt(fan_in)
        elif layer == 0 and first_layer_bound is not None:
            bounds[weight] = first_layer_bound
        else:
            bounds[weight] = math.sqrt(6 / fan_in) / w0

    def draw(owner: Tensor) -> Tensor:
        uniform = hashed_uniform(seed, (owner, view), architecture.num_parameters)
        return (2 * uniform - 1) * bounds.to(uniform.device)

    if shared == 0:
        parameters = draw(object_id)
    else:
        parameters = draw(torch.full_like(object_id, _NO_OBJECT))
        if shared < 1:
            parameters *= math.sqrt(shared)
            parameters += math.sqrt(1 - shared) * draw(object_id)
    return WeightBatch.from_parameters(architecture, parameters, object_id=object_id, view=view)
