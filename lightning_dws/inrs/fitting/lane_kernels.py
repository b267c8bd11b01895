"""All steps of fitting a group of INRs by Adam, compiled by Numba: an INR in each lane.

Arrays have one axis; what is written (a, b) here has entries, of all lanes, in that order. A row of
n entries takes ``n | 1``: at an even step, rows would share few sets of the cache. The weights of a
layer are (in + 1, out), the last row its biases. ``inputs`` (points, in) are single numbers where
all INRs have the same points, else entries.
"""

# Numba makes other functions of these, and says what their arguments are: annotations would not.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, call-arg, var-annotated"

from typing import Any, NamedTuple

import numpy as np

from lightning_dws.models.lanes import (
    Matrix,
    keep_above,
    kernel,
    load,
    multiply,
    multiply_lanes,
    splat,
    square_root,
    store,
)
from lightning_dws.models.scratch_kernels import make_room
from lightning_dws.sine_kernel import HALF_TURN_COSINE_TWICE, HALF_TURN_SINE

_POINTS = 32  # at a time, whose activations stay in the cache
_EPSILON = np.float32(1e-8)
_MAGIC = np.float32(1.5 * 2.0**23)  # added and taken off, it rounds to a whole number
_S0, _S1, _S2, _S3, _S4 = (np.float32(c) for c in HALF_TURN_SINE)
_C0, _C1, _C2, _C3, _C4 = (np.float32(c) for c in HALF_TURN_COSINE_TWICE)


class Layers(NamedTuple):
    """What is the same for all INRs of an architecture.

    Attributes:
        widths: Of the inputs, as encoded, and of each layer's neurons.
        starts: Where the weights of each layer begin, and where the last ones end.
        rooms: Where the neurons of each layer begin among those of a point, by layer.
        is_sine: Whether hidden neurons are sines, else relus.
        frequency: The factor of a sine's argument.
        own_inputs: Whether each INR has its own points.
    """

    widths: Any
    starts: Any
    rooms: Any
    is_sine: bool
    frequency: np.float32
    own_inputs: bool


class Rooms(NamedTuple):
    """Memory for some points.

    Attributes:
        active: Activations of all layers, one layer after another, (points, n) each; of the last
            layer the error.
        slopes: Of hidden neurons, derivatives by what goes into them.
        deltas: Two of (points, n): gradients by what goes into a layer.
    """

    active: Any
    slopes: Any
    deltas: Any


@kernel
def make_rooms(layers):
    """Make memory for as many points as are computed at a time."""
    entries = _POINTS * layers.rooms[-1]
    widest = _POINTS * (max(layers.widths) | 1)
    rooms = Rooms(make_room(entries), make_room(entries), make_room(2 * widest))
    for room in rooms:  # what is between rows is computed with
        for k in range(len(room)):
            room[k] = 0
    return rooms


@kernel
def _activate(active, slopes, first, count, is_sine, frequency):
    """Turn what goes into neurons into their activations and slopes."""
    if not is_sine:
        zero, one = splat(np.float32(0)), splat(np.float32(1))
        for place in range(first, first + count):
            x = load(active, place)
            store(slopes, place, keep_above(x, zero, one))
            store(active, place, keep_above(x, zero, x))
        return
    turns, factor = splat(frequency / np.float32(2 * np.pi)), splat(frequency)
    magic, twice = splat(_MAGIC), splat(np.float32(-2) * frequency)
    s0, s1, s2, s3, s4 = splat(_S0), splat(_S1), splat(_S2), splat(_S3), splat(_S4)
    c0, c1, c2, c3, c4 = splat(_C0), splat(_C1), splat(_C2), splat(_C3), splat(_C4)
    for place in range(first, first + count):
        t = load(active, place) * turns
        t = t - ((t + magic) - magic)
        square = t * t
        s = ((((s4 * square + s3) * square + s2) * square + s1) * square + s0) * t
        c = (((c4 * square + c3) * square + c2) * square + c1) * square + c0
        store(active, place, s * c)
        store(slopes, place, twice * s * s + factor)


@kernel
def _forward(layers, weights, inputs, targets, first, count, rooms):
    """Compute activations and slopes at some points, and the error: output minus target."""
    last = len(layers.widths) - 2
    for layer in range(last + 1):
        n_in, n_out = layers.widths[layer], layers.widths[layer + 1]
        step, start = n_out | 1, layers.starts[layer]
        room = _POINTS * layers.rooms[layer]
        for o in range(n_out):
            bias = load(weights, start + n_in * step + o)
            for point in range(count):
                store(rooms.active, room + point * step + o, bias)
        own, out = Matrix(weights, start, step, 1), Matrix(rooms.active, room, step, 1)
        if layer > 0:
            room_below = _POINTS * layers.rooms[layer - 1]
            below = Matrix(rooms.active, room_below, n_in | 1, 1)
        else:
            below = Matrix(inputs, first * n_in, n_in, 1)
        if layer > 0 or layers.own_inputs:
            multiply_lanes(count, n_out, n_in, below, own, out, True)
        else:
            multiply(count, n_out, n_in, below, own, out, True)
        if layer < last:
            _activate(
                rooms.active, rooms.slopes, room, count * step, layers.is_sine, layers.frequency
            )
        else:
            for point in range(count):
                for o in range(n_out):
                    place = room + point * step + o
                    target = load(targets, (first + point) * n_out + o)
                    store(rooms.active, place, load(rooms.active, place) - target)


@kernel
def _backward(layers, weights, inputs, gradient, first, count, rooms, factor, keeps):
    """Add the gradient of some points' squared error, times a factor, to what is there."""
    last = len(layers.widths) - 2
    widest = _POINTS * (max(layers.widths) | 1)
    n_out = layers.widths[last + 1]
    delta, step = 0, n_out | 1
    room = _POINTS * layers.rooms[last]
    scale = splat(factor)
    for point in range(count):
        for o in range(n_out):
            place = point * step + o
            store(rooms.deltas, place, load(rooms.active, room + place) * scale)
    for layer in range(last, -1, -1):
        n_in, n_out = layers.widths[layer], layers.widths[layer + 1]
        step, start = n_out | 1, layers.starts[layer]
        own, out = Matrix(rooms.deltas, delta, step, 1), Matrix(gradient, start, step, 1)
        for o in range(n_out):
            place = start + n_in * step + o
            total = load(gradient, place) if keeps else splat(np.float32(0))
            for point in range(count):
                total = total + load(rooms.deltas, delta + point * step + o)
            store(gradient, place, total)
        if layer == 0:
            below = Matrix(inputs, first * n_in, 1, n_in)
            if layers.own_inputs:
                multiply_lanes(n_in, n_out, count, below, own, out, keeps)
            else:
                multiply(n_in, n_out, count, below, own, out, keeps)
            return
        below_step, room = n_in | 1, _POINTS * layers.rooms[layer - 1]
        below = Matrix(rooms.active, room, 1, below_step)
        multiply_lanes(n_in, n_out, count, below, own, out, keeps)
        above, delta = delta, widest - delta
        forth, back = Matrix(weights, start, 1, step), Matrix(rooms.deltas, delta, below_step, 1)
        multiply_lanes(count, n_in, n_out, Matrix(rooms.deltas, above, step, 1), forth, back, False)
        for place in range(count * below_step):
            value = load(rooms.deltas, delta + place) * load(rooms.slopes, room + place)
            store(rooms.deltas, delta + place, value)


@kernel
def _next_count(first, stop):
    """Share points out evenly: how many are computed next."""
    left = stop - first
    times = (left + _POINTS - 1) // _POINTS
    return min(left, ((left + times - 1) // times + 3) // 4 * 4)


@kernel
def squared_error(layers, weights, inputs, targets, first, stop, rooms, total):
    """Write the sum of the squared errors at points, one number a lane."""
    n_out = layers.widths[-1]
    step, room = n_out | 1, _POINTS * layers.rooms[len(layers.widths) - 2]
    everything = splat(np.float32(0))
    while first < stop:
        count = _next_count(first, stop)
        _forward(layers, weights, inputs, targets, first, count, rooms)
        own = splat(np.float32(0))
        for point in range(count):
            for o in range(n_out):
                error = load(rooms.active, room + point * step + o)
                own = own + error * error
        everything = everything + own
        first += count
    store(total, 0, everything)


@kernel
def find_gradient(layers, weights, inputs, targets, first, stop, rooms, gradient):
    """Write the gradient of the mean squared error at points."""
    factor = np.float32(2 / ((stop - first) * layers.widths[-1]))
    keeps = False
    while first < stop:
        count = _next_count(first, stop)
        _forward(layers, weights, inputs, targets, first, count, rooms)
        _backward(layers, weights, inputs, gradient, first, count, rooms, factor, keeps)
        keeps = True
        first += count


@kernel
def take_steps(
    layers,
    weights,
    mean,
    square,
    gradient,
    inputs,
    targets,
    bounds,
    first_step,
    rates,
    decays,
    rooms,
):
    """Take a step of Adam for each of some rates (steps, 2): see ``fused.adam_``.

    Steps take turns over the blocks of points between ``bounds``.
    """
    keep1, new1 = splat(decays[0]), splat(np.float32(1) - decays[0])
    keep2, new2 = splat(decays[1]), splat(np.float32(1) - decays[1])
    epsilon = splat(_EPSILON)
    for number in range(len(rates)):
        block = (first_step + number) % (len(bounds) - 1)
        find_gradient(
            layers, weights, inputs, targets, bounds[block], bounds[block + 1], rooms, gradient
        )
        rate, correction = splat(rates[number, 0]), splat(rates[number, 1])
        for place in range(layers.starts[-1]):
            g = load(gradient, place)
            m = keep1 * load(mean, place) + new1 * g
            v = keep2 * load(square, place) + new2 * (g * g)
            store(mean, place, m)
            store(square, place, v)
            change = m / (square_root(v) * correction + epsilon)
            store(weights, place, load(weights, place) + rate * change)
