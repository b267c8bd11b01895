"""Weight matching of all pairs of a batch at once for CUDA, one Triton program a pair.

The same search as ``matching_kernel`` does on the CPU, in one launch that waits for nothing. No
weight is moved on the way: a program keeps for every layer which of b's neurons stands where, and
its sign, and reads b's weights through these. So a layer's scores count b's neurons as they were
given, and the prices of an assignment are a valid start for the layer's next one.
"""

# Compiled functions are not typed, and take their constants in capitals.
# mypy: disable-error-code="no-untyped-def, untyped-decorator"
# ruff: noqa: N803

import itertools

import torch
import triton
import triton.language as tl
from jaxtyping import Float64, Int64
from torch import Tensor

from lightning_dws.mixup.assignment_triton import assign
from lightning_dws.weight_space import INRArchitecture, WeightBatch, require_inrs

_SCORES_PER_WARP = 1024  # entries of a tile of scores


def match_on_gpu(
    a: WeightBatch, b: WeightBatch, signed: bool, relative_gain: float
) -> tuple[Int64[Tensor, "batch neurons"], Float64[Tensor, "batch neurons"]]:
    """Match every INR of b to that of a on the same device, as ``match_on_cpu`` does elsewhere.

    A pair whose norms are not finite, or overflow when squared, stays as it is: to look for one and
    raise would wait for the GPU, and a loss that is not finite is noticed soon enough.
    """
    architecture, count = require_inrs(b.architecture, "matching on a GPU"), len(b)
    neurons = sum(architecture.widths)
    layout = _layout(architecture).to(b.device, non_blocking=True)
    # per pair: what is found, from other starts too, and work space of the assignments
    order = torch.empty(2, count, neurons, dtype=torch.int32, device=b.device)
    sign = torch.empty(2, count, neurons, dtype=torch.float64, device=b.device)
    prices = torch.empty(count, neurons, dtype=torch.float64, device=b.device)
    widest = triton.next_power_of_2(max(architecture.widths))
    scores = torch.empty(count, widest, widest, dtype=torch.float64, device=b.device)
    num_warps = max(1, min(8, widest * widest // _SCORES_PER_WARP))
    if count > 0:
        _match[(count,)](
            a.parameters.contiguous(),
            b.parameters.contiguous(),
            order,
            sign,
            prices,
            scores,
            layout,
            architecture.num_layers,
            architecture.num_parameters,
            neurons,
            relative_gain,
            SIGNED=signed,
            WIDEST=widest,
            TILE=max(1, min(widest, num_warps * _SCORES_PER_WARP // widest)),
            num_warps=num_warps,
        )
    hidden = slice(architecture.widths[0], neurons - architecture.widths[-1])
    return order[0, :, hidden].long(), sign[0, :, hidden]


def _layout(architecture: INRArchitecture) -> Tensor:
    """Give (4, layers of neurons) int32: width, first neuron, first incoming weight and bias."""
    firsts = [0, *itertools.accumulate(architecture.widths)]
    rows = [
        list(architecture.widths),
        firsts[:-1],
        [0, *(part.start for part in architecture.weight_slices)],
        [0, *(part.start for part in architecture.bias_slices)],
    ]
    return torch.tensor(rows, dtype=torch.int32)


# Below, a, b, order, sign, price and scores point at one pair's part. ``layer`` counts layers of
# neurons, the inputs being 0, of ``num_layers + 1`` in all.


@triton.jit
def _match(
    a,
    b,
    order,
    sign,
    price,
    scores,
    layout,
    num_layers,
    num_parameters,
    neurons,
    relative_gain,
    SIGNED: tl.constexpr,
    WIDEST: tl.constexpr,
    TILE: tl.constexpr,
):
    pair = tl.program_id(0).to(tl.int64)
    other = (tl.num_programs(0) + pair) * neurons
    other_order, other_sign = order + other, sign + other
    a += pair * num_parameters
    b += pair * num_parameters
    order += pair * neurons
    sign += pair * neurons
    price += pair * neurons
    scores += pair * WIDEST * WIDEST

    _begin(order, sign, price, layout, num_layers, WIDEST)
    first, second = _squared_norms(a, b, num_parameters, WIDEST)
    if (first < 1e300) & (second < 1e300):
        least = relative_gain * tl.sqrt(first) * tl.sqrt(second)
        unmatched = _squared_distance(a, b, order, sign, layout, num_layers, WIDEST, TILE)
        _assign_from_incoming(
            a, b, order, sign, price, scores, layout, num_layers, False, WIDEST, TILE
        )
        _descend(a, b, order, sign, price, scores, layout, num_layers, least, False, WIDEST, TILE)
        matched = _squared_distance(a, b, order, sign, layout, num_layers, WIDEST, TILE)
        if matched > unmatched:
            _begin(order, sign, price, layout, num_layers, WIDEST)
            _descend(
                a, b, order, sign, price, scores, layout, num_layers, least, False, WIDEST, TILE
            )
        if SIGNED:
            _begin(other_order, other_sign, price, layout, num_layers, WIDEST)
            _assign_from_incoming(
                a, b, other_order, other_sign, price, scores, layout, num_layers, True, WIDEST, TILE
            )
            _descend(
                a,
                b,
                other_order,
                other_sign,
                price,
                scores,
                layout,
                num_layers,
                least,
                True,
                WIDEST,
                TILE,
            )
            _descend(
                a, b, order, sign, price, scores, layout, num_layers, least, True, WIDEST, TILE
            )
            matched = _squared_distance(a, b, order, sign, layout, num_layers, WIDEST, TILE)
            from_other = _squared_distance(
                a, b, other_order, other_sign, layout, num_layers, WIDEST, TILE
            )
            if from_other < matched:
                place = tl.arange(0, WIDEST)
                for start in range(0, neurons, WIDEST):
                    here = start + place
                    inside = here < neurons
                    tl.store(order + here, tl.load(other_order + here, inside), inside)
                    tl.store(sign + here, tl.load(other_sign + here, inside), inside)


@triton.jit
def _begin(order, sign, price, layout, num_layers, WIDEST: tl.constexpr):
    """Move nothing yet."""
    place = tl.arange(0, WIDEST)
    for layer in range(num_layers + 1):
        width = tl.load(layout + layer)
        first = tl.load(layout + (num_layers + 1) + layer)
        inside = place < width
        tl.store(order + first + place, place, inside)
        tl.store(sign + first + place, tl.full([WIDEST], 1, tl.float64), inside)
        tl.store(price + first + place, tl.zeros([WIDEST], tl.float64), inside)
    tl.debug_barrier()


@triton.jit
def _squared_norms(a, b, num_parameters, WIDEST: tl.constexpr):
    place = tl.arange(0, WIDEST)
    first = tl.zeros([WIDEST], tl.float64)
    second = tl.zeros([WIDEST], tl.float64)
    for start in range(0, num_parameters, WIDEST):
        inside = start + place < num_parameters
        x = tl.load(a + start + place, inside, 0.0).to(tl.float64)
        y = tl.load(b + start + place, inside, 0.0).to(tl.float64)
        first += x * x
        second += y * y
    return tl.sum(first), tl.sum(second)


@triton.jit
def _squared_distance(
    a, b, order, sign, layout, num_layers, WIDEST: tl.constexpr, TILE: tl.constexpr
):
    """The squared distance of a from b as moved."""
    place = tl.arange(0, WIDEST)
    total = tl.zeros([TILE, WIDEST], tl.float64)
    total_bias = tl.zeros([TILE], tl.float64)
    for layer in range(1, num_layers + 1):
        n_in, n = tl.load(layout + layer - 1), tl.load(layout + layer)
        first_in = tl.load(layout + (num_layers + 1) + layer - 1)
        first = tl.load(layout + (num_layers + 1) + layer)
        weight = tl.load(layout + 2 * (num_layers + 1) + layer)
        bias = tl.load(layout + 3 * (num_layers + 1) + layer)
        column_inside = place < n_in
        column = tl.load(order + first_in + place, column_inside, 0)
        column_sign = tl.load(sign + first_in + place, column_inside, 0.0)
        for start in range(0, n, TILE):
            row = start + tl.arange(0, TILE)
            row_inside = row < n
            source = tl.load(order + first + row, row_inside, 0)
            row_sign = tl.load(sign + first + row, row_inside, 0.0)
            inside = row_inside[:, None] & column_inside[None, :]
            own = tl.load(a + weight + row[:, None] * n_in + place[None, :], inside, 0.0)
            moved = tl.load(b + weight + source[:, None] * n_in + column[None, :], inside, 0.0)
            moved = moved.to(tl.float64) * row_sign[:, None] * column_sign[None, :]
            apart = own.to(tl.float64) - moved
            total += apart * apart
            own = tl.load(a + bias + row, row_inside, 0.0).to(tl.float64)
            moved = tl.load(b + bias + source, row_inside, 0.0).to(tl.float64) * row_sign
            total_bias += (own - moved) * (own - moved)
    return tl.sum(total) + tl.sum(total_bias)


@triton.jit
def _assign_from_incoming(
    a,
    b,
    order,
    sign,
    price,
    scores,
    layout,
    num_layers,
    SIGNED: tl.constexpr,
    WIDEST: tl.constexpr,
    TILE: tl.constexpr,
):
    """Assign layer by layer from incoming weights and biases alone, closer or not."""
    for layer in range(1, num_layers):
        n = tl.load(layout + layer)
        first = tl.load(layout + (num_layers + 1) + layer)
        _score(a, b, order, sign, scores, layout, num_layers, layer, False, WIDEST, TILE)
        column_of, _ = assign(scores, price + first, n, SIGNED, WIDEST)
        _keep(order + first, sign + first, scores, column_of, n, SIGNED, WIDEST)


@triton.jit
def _descend(
    a,
    b,
    order,
    sign,
    price,
    scores,
    layout,
    num_layers,
    least,
    SIGNED: tl.constexpr,
    WIDEST: tl.constexpr,
    TILE: tl.constexpr,
):
    """Re-assign each hidden layer given its neighbours, until no assignment gets closer."""
    place = tl.arange(0, WIDEST)
    layer, quiet = 1, 0  # quiet: layers in a row that stayed as they are
    while quiet < num_layers - 1:
        n = tl.load(layout + layer)
        first = tl.load(layout + (num_layers + 1) + layer)
        _score(a, b, order, sign, scores, layout, num_layers, layer, True, WIDEST, TILE)
        inside = place < n
        now = tl.load(order + first + place, inside, 0)
        score = tl.load(scores + place * WIDEST + now, inside, 0.0)
        standing = tl.sum(score * tl.load(sign + first + place, inside, 0.0))
        column_of, total = assign(scores, price + first, n, SIGNED, WIDEST)
        quiet += 1
        if total - standing > least:
            _keep(order + first, sign + first, scores, column_of, n, SIGNED, WIDEST)
            quiet = 1
        layer = layer + 1 if layer < num_layers - 1 else 1


@triton.jit
def _score(
    a,
    b,
    order,
    sign,
    scores,
    layout,
    num_layers,
    layer,
    OUTGOING: tl.constexpr,
    WIDEST: tl.constexpr,
    TILE: tl.constexpr,
):
    """Write the inner products of a's neurons' weights with those of b's neurons as given."""
    n_in, n = tl.load(layout + layer - 1), tl.load(layout + layer)
    first_in = tl.load(layout + (num_layers + 1) + layer - 1)
    weight = tl.load(layout + 2 * (num_layers + 1) + layer)
    bias = tl.load(layout + 3 * (num_layers + 1) + layer)
    column = tl.arange(0, WIDEST)
    column_inside = column < n
    b_bias = tl.load(b + bias + column, column_inside, 0.0).to(tl.float64)
    tl.debug_barrier()  # the last scores are read
    for start in range(0, n, TILE):
        row = start + tl.arange(0, TILE)
        row_inside = row < n
        a_bias = tl.load(a + bias + row, row_inside, 0.0).to(tl.float64)
        score = a_bias[:, None] * b_bias[None, :]
        for k in range(n_in):
            source = tl.load(order + first_in + k)
            own = tl.load(a + weight + row * n_in + k, row_inside, 0.0).to(tl.float64)
            others = tl.load(b + weight + column * n_in + source, column_inside, 0.0)
            others = others.to(tl.float64) * tl.load(sign + first_in + k)
            score += own[:, None] * others[None, :]
        if OUTGOING:
            n_out = tl.load(layout + layer + 1)
            first_out = tl.load(layout + (num_layers + 1) + layer + 1)
            outgoing = tl.load(layout + 2 * (num_layers + 1) + layer + 1)
            for k in range(n_out):
                source = tl.load(order + first_out + k)
                own = tl.load(a + outgoing + k * n + row, row_inside, 0.0).to(tl.float64)
                others = tl.load(b + outgoing + source * n + column, column_inside, 0.0)
                others = others.to(tl.float64) * tl.load(sign + first_out + k)
                score += own[:, None] * others[None, :]
        inside = row_inside[:, None] & column_inside[None, :]
        tl.store(scores + row[:, None] * WIDEST + column[None, :], score, inside)
    tl.debug_barrier()


@triton.jit
def _keep(order, sign, scores, column_of, n, SIGNED: tl.constexpr, WIDEST: tl.constexpr):
    """Let a layer's assignment stand."""
    row = tl.arange(0, WIDEST)
    inside = row < n
    tl.store(order + row, column_of, inside)
    if SIGNED:
        chosen = tl.load(scores + row * WIDEST + column_of, inside, 0.0)
        tl.store(sign + row, tl.where(chosen < 0, -1.0, 1.0).to(tl.float64), inside)
    tl.debug_barrier()
