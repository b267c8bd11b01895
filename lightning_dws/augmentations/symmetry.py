"""Symmetries of hidden neurons: the weights change, the function of the network does not."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from lightning_dws.augmentations.base import (
    Augmentation,
    Params,
    check_probability,
    check_range,
    copy_parameters,
    draw_bernoulli,
    draw_permutations,
    draw_uniform,
)
from lightning_dws.weight_space import (
    HOMOGENEOUS,
    ODD,
    Architecture,
    WeightBatch,
    require_functions,
    require_inrs,
)


def permute_neurons(
    batch: WeightBatch,
    permutations: Sequence[Int64[Tensor, "batch _neurons"]],
    signs: Sequence[Float[Tensor, "batch _neurons"]] | None = None,
) -> WeightBatch:
    """Reorder the hidden neurons of every network, and negate some, in new memory.

    Neuron ``i`` of group ``l`` becomes ``signs[l][:, i]`` times the former neuron
    ``permutations[l][:, i]``; the groups of an INR are its hidden layers. This keeps the function,
    with signs -1 for odd activations alone. No signs are all 1.
    """
    order = dict(zip(batch.architecture.groups, permutations, strict=True))
    columns = []
    for spec, tensor in zip(batch.architecture.tensors, batch.tensors, strict=True):
        for axis, group in enumerate(spec.axes):
            if group is not None:
                tensor = reorder(tensor, axis, order[group])
        columns.append(tensor.flatten(1))
    permuted = batch.replace(parameters=torch.cat(columns, dim=1))
    if signs is not None:
        scale_neurons_(permuted, signs, signs)
    return permuted


def reorder(
    tensor: Float[Tensor, "batch *shape"], axis: int, order: Int64[Tensor, "batch _neurons"]
) -> Float[Tensor, "batch *shape"]:
    """Reorder the first axis (0) or the second (1) of every network's tensor."""
    if tensor.ndim == 2:
        return tensor.gather(1, order)
    if axis == 0:
        return take_rows(tensor.flatten(2), order).view_as(tensor)
    index = order.view(-1, 1, order.shape[1], *(1 for _ in tensor.shape[3:]))
    return tensor.gather(2, index.expand_as(tensor))


def take_rows(
    weight: Float[Tensor, "batch rows columns"], rows: Int64[Tensor, "batch rows"]
) -> Float[Tensor, "batch rows columns"]:
    """Reorder the rows of matrices; ten times faster on CPUs than gather."""
    starts = torch.arange(0, rows.numel(), rows.shape[1], device=rows.device)
    return weight.flatten(0, 1).index_select(0, (rows + starts[:, None]).flatten()).view_as(weight)


def _split_by_group(batch: WeightBatch, per_neuron: Tensor) -> Sequence[Tensor]:
    """Split what was drawn for all hidden neurons together, (B, sum of n_l), by group."""
    return torch.split(per_neuron, list(batch.architecture.groups.values()), dim=1)


def _count_neurons(batch: WeightBatch) -> int:
    return sum(batch.architecture.groups.values())


def scale_neurons_(
    batch: WeightBatch,
    incoming: Sequence[Float[Tensor, "batch _"]],
    outgoing: Sequence[Float[Tensor, "batch _"]],
) -> None:
    """Multiply what maps to each hidden neuron, and what maps from it, in place; group by group."""
    groups = batch.architecture.groups
    factors = [dict(zip(groups, each, strict=False)) for each in (incoming, outgoing)]
    for spec, tensor in zip(batch.architecture.tensors, batch.tensors, strict=True):
        for axis, (group, factor) in enumerate(zip(spec.axes, factors, strict=False)):
            if group in factor:
                ones = [1] * len(spec.shape)
                ones[axis] = spec.shape[axis]
                tensor.mul_(factor[group].view(-1, *ones))


def require_sine(name: str, why: str, architecture: Architecture) -> None:
    """Raise ``ValueError`` where networks are no SIRENs."""
    require_functions(name, frozenset({"sine"}), why, require_inrs(architecture, name))


class Permutation(Augmentation):
    """Reorder the hidden neurons of every group at random. The function is kept exactly.

    Of an INR the groups are its hidden layers, of a CNN the channels behind each layer but the
    last.

    Args:
        p: Probability that an INR is changed.
    """

    def __init__(self, p: float = 1.0) -> None:
        super().__init__(p)

    def draw(self, batch: WeightBatch, generator: torch.Generator) -> Params:
        return {
            f"permutation_{layer}": draw_permutations(batch, width, generator)
            for layer, width in enumerate(batch.architecture.groups.values())
        }

    def transform(self, batch: WeightBatch, params: Params) -> WeightBatch:
        layers = range(len(batch.architecture.groups))
        return permute_neurons(batch, [params[f"permutation_{layer}"] for layer in layers])


class SirenNegation(Augmentation):
    """Negate random hidden neurons of a SIREN. The function is kept exactly.

    Sine is odd: a neuron's incoming row and bias and its outgoing column change sign together. So
    is tanh: networks that do nothing with their hidden neurons but what is odd (``ODD``: average
    pooling is, the maximum is not) are negated as exactly.

    Args:
        negation_probability: Probability that a neuron is negated.
        p: Probability that an INR is changed.

    Raises:
        ValueError: ``negation_probability`` is not in [0, 1]; at the first batch, the INRs are
            not sine networks, or other networks not odd.
    """

    def __init__(self, negation_probability: float = 0.5, p: float = 1.0) -> None:
        super().__init__(p)
        check_probability("negation_probability", negation_probability)
        self.negation_probability = negation_probability

    def check_architecture(self, architecture: Architecture) -> None:
        require_functions("SirenNegation", ODD, "it needs an odd activation", architecture)

    def draw(self, batch: WeightBatch, generator: torch.Generator) -> Params:
        count = _count_neurons(batch)
        return {"negate": draw_bernoulli(batch, self.negation_probability, generator, count)}

    def transform(self, batch: WeightBatch, params: Params) -> WeightBatch:
        signs = _split_by_group(batch, 1 - 2 * params["negate"].to(batch.parameters.dtype))
        negated = copy_parameters(batch)
        scale_neurons_(negated, signs, signs)
        return negated


class SirenBias(Augmentation):
    """Shift biases of a SIREN by half periods of its sine. The function is kept exactly.

    ``sin(w0 (z + k pi / w0)) = (-1)^k sin(w0 z)``: the bias moves by ``k pi / w0`` and the
    outgoing column changes sign where k is odd.

    One step, ``pi / w0``, is several standard deviations of the biases of published SIRENs
    (0.105 at ``w0`` = 30, against 0.017 to 0.029). The defaults shift one neuron in ten by at
    most one step, which adds about one standard deviation; the published strength, every
    neuron by k in -4..3, is ``min_shift=-4, max_shift=3, shift_probability=1``.

    Args:
        min_shift: Smallest k.
        max_shift: Largest k; k is uniform in ``min_shift``..``max_shift``, both included.
        shift_probability: Probability that a neuron gets such a k; the others get 0.
        p: Probability that an INR is changed.

    Raises:
        ValueError: ``min_shift`` is above ``max_shift``, or ``shift_probability`` is not in
            [0, 1]; at the first batch, the INRs are not sine networks.
    """

    def __init__(
        self,
        min_shift: int = -1,
        max_shift: int = 1,
        shift_probability: float = 0.1,
        p: float = 1.0,
    ) -> None:
        super().__init__(p)
        if min_shift > max_shift:
            raise ValueError(
                f"min_shift must be at most max_shift, got {min_shift} and {max_shift}"
            )
        check_probability("shift_probability", shift_probability)
        self.min_shift = min_shift
        self.max_shift = max_shift
        self.shift_probability = shift_probability

    def check_architecture(self, architecture: Architecture) -> None:
        require_sine("SirenBias", "it needs a periodic activation", architecture)

    def draw(self, batch: WeightBatch, generator: torch.Generator) -> Params:
        count = _count_neurons(batch)
        shift = torch.randint(
            self.min_shift,
            self.max_shift + 1,
            (len(batch), count),
            generator=generator,
            device=batch.device,
        )
        return {"shift": shift * draw_bernoulli(batch, self.shift_probability, generator, count)}

    def transform(self, batch: WeightBatch, params: Params) -> WeightBatch:
        shifted, dtype = copy_parameters(batch), batch.parameters.dtype
        w0 = require_inrs(batch.architecture, "SirenBias").w0
        shifts = _split_by_group(batch, params["shift"].to(dtype) * math.pi / w0)
        for bias, shift in zip(shifted.biases, shifts, strict=False):
            bias.add_(shift)
        parity = _split_by_group(batch, 1 - 2 * (params["shift"] & 1).to(dtype))
        scale_neurons_(shifted, (), parity)
        return shifted


class ReLUScaling(Augmentation):
    """Scale hidden neurons of a ReLU network. The function is kept exactly.

    ``relu(c z) = c relu(z)`` for c > 0: a neuron's incoming row and bias are multiplied by c and
    its outgoing column divided by it. The channels of a CNN are scaled likewise, if nothing else
    is done with them but leaky relu and pooling (``HOMOGENEOUS``).

    Args:
        max_factor: c is log-uniform in [1 / ``max_factor``, ``max_factor``], per neuron; >= 1.
        p: Probability that an INR is changed.

    Raises:
        ValueError: ``max_factor`` is below 1 or not finite; at the first batch, the INRs are not
            ReLU networks.
    """

    def __init__(self, max_factor: float = 2.0, p: float = 1.0) -> None:
        super().__init__(p)
        check_range("max_factor", max_factor, 1)
        self.max_factor = max_factor

    def check_architecture(self, architecture: Architecture) -> None:
        why = "sin(c z) is not c sin(z)"
        require_functions("ReLUScaling", HOMOGENEOUS, why, architecture)

    def draw(self, batch: WeightBatch, generator: torch.Generator) -> Params:
        bound = math.log(self.max_factor)
        count = _count_neurons(batch)
        return {"factor": draw_uniform(batch, -bound, bound, generator, count).exp()}

    def transform(self, batch: WeightBatch, params: Params) -> WeightBatch:
        factor, scaled = params["factor"].to(batch.parameters.dtype), copy_parameters(batch)
        scale_neurons_(scaled, _split_by_group(batch, factor), _split_by_group(batch, 1 / factor))
        return scaled
