"""Vectors of a few INRs for kernels that Numba compiles for CPUs: an INR in each lane.

A number of a kernel's arrays is an *entry*: of LANES values, one for each INR of a group, or, for a
parameter, a single value. Indices count entries. So odd widths leave nothing over, nothing is
transposed, and nothing is summed across a vector. All is in float32.
"""

# Numba makes other functions of these, and says what their arguments are: annotations would not.
# mypy: disable-error-code="no-untyped-def, no-any-return, no-untyped-call, untyped-decorator, misc"
# mypy: disable-error-code="call-arg, attr-defined"

import math
import operator
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import llvmlite.binding
import numpy as np
import torch
from jaxtyping import Float
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.core.typing import signature
from numba.core.typing.templates import AbstractTemplate, infer_global
from numba.extending import intrinsic, lower_builtin, models, register_model
from torch import Tensor

from lightning_dws.compiled import compiled

_FEATURES = llvmlite.binding.get_host_cpu_features()
_VECTOR_BYTES = 64 if _FEATURES.get("avx512f") else 32 if _FEATURES.get("avx2") else 16
LANES = _VECTOR_BYTES // 4
_ROWS, _COLUMNS = (4, 2) if _VECTOR_BYTES == 32 else (4, 4)  # of a tile: it must fit the registers
_VECTOR = ir.VectorType(ir.FloatType(), LANES)


def to_lanes(x: Float[Tensor, "batch ..."]) -> Float[Tensor, "groups ... lanes"]:
    """Put each INR into a lane; the last group's free lanes repeat the last INR."""
    missing = -len(x) % LANES
    if missing:
        x = torch.cat([x, x[-1:].expand(missing, *x.shape[1:])])
    return x.unflatten(0, (-1, LANES)).movedim(1, -1).contiguous()


def from_lanes(x: Float[Tensor, "groups ... lanes"], size: int) -> Float[Tensor, "batch ..."]:
    """Give the INRs of the lanes, that many."""
    return x.movedim(-1, 1).flatten(0, 1)[:size]


class Matrix(NamedTuple):
    """Where the entries of a matrix stand in an array.

    Attributes:
        array: Of one axis.
        start: The first entry.
        row: Step from a row to the next.
        column: Step from a column to the next.
    """

    array: Any
    start: int
    row: int
    column: int


class _LanesType(types.Type):
    def __init__(self) -> None:
        super().__init__(name=f"Lanes({LANES})")


_LANES_TYPE = _LanesType()


@register_model(_LanesType)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _VECTOR)


def _splat(builder: Any, value: Any) -> Any:
    undefined, whole = ir.Constant(_VECTOR, ir.Undefined), ir.IntType(32)
    first = builder.insert_element(undefined, value, ir.Constant(whole, 0))
    zeros = ir.Constant(ir.VectorType(whole, LANES), None)
    return builder.shuffle_vector(first, undefined, zeros)


def _constant(value: float) -> Any:
    return ir.Constant(_VECTOR, [ir.Constant(ir.FloatType(), value)] * LANES)


def _call(builder: Any, name: str, *operands: Any) -> Any:
    kind = ir.FunctionType(_VECTOR, [operand.type for operand in operands])
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.{name}.v{LANES}f32")
    return builder.call(function, operands, fastmath=("nsz",))  # 0 may be -0


def _sum_lanes(builder: Any, x: Any) -> Any:
    single = ir.FloatType()
    kind, name = ir.FunctionType(single, [single, _VECTOR]), f"llvm.vector.reduce.fadd.v{LANES}f32"
    function = cgutils.get_or_insert_function(builder.module, kind, name)
    return builder.call(function, [ir.Constant(single, -0.0), x], fastmath=("reassoc",))


def _polynomial(builder: Any, x: Any, coefficients: Any) -> Any:
    """Give a polynomial whose coefficients begin with the constant."""
    *lower, result = map(_constant, map(float, coefficients))
    for coefficient in reversed(lower):
        result = _call(builder, "fma", result, x, coefficient)
    return result


def _data(context: Any, builder: Any, kind: Any, array: Any) -> Any:
    return context.make_array(kind)(context, builder, array).data


def _vector_at(builder: Any, data: Any, entry: Any) -> Any:
    value = builder.mul(entry, ir.Constant(entry.type, LANES))
    return builder.bitcast(builder.gep(data, [value]), _VECTOR.as_pointer())


@intrinsic
def load(typing, array, entry):
    """Read an entry."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        data = _data(context, builder, signature.args[0], values[0])
        return builder.load(_vector_at(builder, data, values[1]), align=4)

    return _LANES_TYPE(array, types.intp), generate


@intrinsic
def store(typing, array, entry, value):
    """Write an entry."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        data = _data(context, builder, signature.args[0], values[0])
        builder.store(values[2], _vector_at(builder, data, values[1]), align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, value), generate


@intrinsic
def splat(typing, value):
    """Give a number to all lanes."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return _splat(builder, values[0])

    return _LANES_TYPE(types.float32), generate


@intrinsic
def keep_lanes(typing, bits, value):
    """Give the value in lanes whose bit is set, 0 in others."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        mask = builder.bitcast(
            builder.trunc(values[0], ir.IntType(LANES)) if LANES < 16 else values[0],
            ir.VectorType(ir.IntType(1), LANES),
        )
        return builder.select(mask, values[1], ir.Constant(_VECTOR, None))

    return _LANES_TYPE(types.uint16, value), generate


def _define(operation: Any, name: str) -> None:
    """Let an operator of Python take two entries; a product and a sum may become one operation."""

    @infer_global(operation)
    class Template(AbstractTemplate):
        def generic(self, arguments: Any, keywords: Any) -> Any:
            if all(isinstance(argument, _LanesType) for argument in arguments):
                return signature(_LANES_TYPE, *arguments)
            return None

    @lower_builtin(operation, _LanesType, _LanesType)
    def lower(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return getattr(builder, name)(*values, flags=("contract",))


for _operation, _name in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):
    _define(_operation, _name)


def _function(generate: Callable[..., Any], arguments: int = 1) -> Any:
    """Make a function of entries from one that writes LLVM's instructions."""

    def lower(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return generate(builder, *values)

    if arguments == 3:
        return intrinsic(lambda typing, a, b, c: (_LANES_TYPE(a, b, c), lower))
    if arguments == 2:
        return intrinsic(lambda typing, a, b: (_LANES_TYPE(a, b), lower))
    return intrinsic(lambda typing, a: (_LANES_TYPE(a), lower))


def _exp(builder: Any, x: Any) -> Any:
    """Write 2^n exp(r); added to 1.5 2^23, a number is rounded to a whole one in its last bits."""
    lowest, magic, base = _constant(-87.0), _constant(1.5 * 2.0**23), math.log(2)
    x = builder.select(_exceeds(builder, x, lowest), x, lowest)
    rounded = _call(builder, "fma", x, _constant(1 / base), magic)
    r = _call(builder, "fma", builder.fsub(rounded, magic), _constant(-base), x)
    fit = np.polynomial.Chebyshev.interpolate(np.exp, 6, [-base / 2, base / 2])
    result = _polynomial(builder, r, fit.convert(kind=np.polynomial.Polynomial).coef)
    integers = ir.VectorType(ir.IntType(32), LANES)
    places = ir.Constant(integers, [23] * LANES)
    exponent = builder.shl(builder.bitcast(rounded, integers), places)
    return builder.bitcast(builder.add(builder.bitcast(result, integers), exponent), _VECTOR)


_LIMIT = 5.7  # beyond it the normal distribution is 0 or 1 in float32


@cache
def _half_and_odd(with_density: bool) -> Any:
    """Fit Phi(x) - 1/2, or that and x phi(x), over x: a polynomial in (2 x / limit)^2 / 2 - 1."""

    def ratio(u: Any) -> Any:
        x = np.sqrt(np.maximum((u + 1) / 2, 1e-12)) * _LIMIT
        total = np.vectorize(math.erf)(x / math.sqrt(2)) / 2
        if with_density:
            total = total + x * np.exp(-x * x / 2) / math.sqrt(2 * math.pi)
        return total / x

    chebyshev = np.polynomial.chebyshev
    return chebyshev.cheb2poly(chebyshev.chebinterpolate(ratio, 18 if with_density else 16))


def _sigmoid_like(builder: Any, x: Any, with_density: bool) -> Any:
    x = _call(builder, "minnum", _call(builder, "maxnum", x, _constant(-_LIMIT)), _constant(_LIMIT))
    u = _call(builder, "fma", builder.fmul(x, x), _constant(2 / _LIMIT**2), _constant(-1.0))
    odd = _polynomial(builder, u, _half_and_odd(with_density))
    return _call(builder, "fma", x, odd, _constant(0.5))


def _exceeds(builder: Any, x: Any, low: Any) -> Any:
    return builder.fcmp_unordered(">", x, low)


exp = _function(_exp)  # of numbers at most 0
larger = _function(lambda b, x, y: b.select(b.fcmp_ordered(">", x, y), x, y), 2)  # y if one is NaN
maximum = _function(lambda builder, a, b: _call(builder, "maximum", a, b), 2)  # NaN if one is
multiply_add = _function(lambda builder, a, b, c: _call(builder, "fma", a, b, c), 3)  # a b + c
square_root = _function(lambda builder, x: _call(builder, "sqrt", x))
at_least = _function(lambda builder, x, low: builder.select(_exceeds(builder, x, low), x, low), 2)
gelu = _function(lambda builder, x: builder.fmul(x, _sigmoid_like(builder, x, False)))
gelu_slope = _function(lambda builder, x: _sigmoid_like(builder, x, True))


# The value where x is above another number (or none), or where x is y, and 0 elsewhere.
_ZERO = _constant(0.0)
keep_above = _function(lambda b, x, low, value: b.select(_exceeds(b, x, low), value, _ZERO), 3)
keep_equal = _function(lambda b, x, y, value: b.select(b.fcmp_ordered("==", x, y), value, _ZERO), 3)


def _make_product(has_scalars: bool, sums_lanes: bool = False) -> Any:
    def clamp(builder: Any, first: Any, step: int, size: Any) -> Any:
        index = builder.add(first, ir.Constant(first.type, step))
        last = builder.sub(size, ir.Constant(first.type, 1))
        return builder.select(builder.icmp_signed("<", index, last), index, last)

    @intrinsic
    def tile(typing, i, j, m, n, count, a, b, out, keeps):
        """Compute rows from i and columns from j; beyond the last one the last one, again."""

        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            i, j, m, n, count, *matrices, keeps = values
            data, starts, rows, columns = [], [], [], []
            for matrix, kind in zip(matrices, signature.args[5:8], strict=True):
                array, start, row, column = cgutils.unpack_tuple(builder, matrix)
                data.append(_data(context, builder, kind.types[0], array))
                starts.append(start)
                rows.append(row)
                columns.append(column)

            def at(which: int, row: Any, column: Any) -> Any:
                place = builder.add(starts[which], builder.mul(row, rows[which]))
                place = builder.add(place, builder.mul(column, columns[which]))
                if (which == 0 and has_scalars) or (which == 2 and sums_lanes):
                    return builder.gep(data[which], [place])
                return _vector_at(builder, data[which], place)

            own_rows = [clamp(builder, i, step, m) for step in range(_ROWS)]
            own_columns = [clamp(builder, j, step, n) for step in range(_COLUMNS)]
            nothing = ir.Constant(_VECTOR, None)
            sums = [
                [cgutils.alloca_once_value(builder, nothing) for _ in own_columns] for _ in own_rows
            ]
            with cgutils.for_range(builder, count) as loop:
                right = [builder.load(at(1, loop.index, c), align=4) for c in own_columns]
                for row, totals in zip(own_rows, sums, strict=True):
                    left = builder.load(at(0, row, loop.index), align=4)
                    left = _splat(builder, left) if has_scalars else left
                    for total, factor in zip(totals, right, strict=True):
                        value = _call(builder, "fma", left, factor, builder.load(total))
                        builder.store(value, total)
            targets = [at(2, row, column) for row in own_rows for column in own_columns]
            results = [builder.load(total) for totals in sums for total in totals]
            if sums_lanes:
                results = [_sum_lanes(builder, total) for total in results]
            # All are read before one is written: what was computed again is written again.
            with builder.if_else(keeps) as (then, otherwise):
                with then:
                    before = [builder.load(target, align=4) for target in targets]
                    for target, old, new in zip(targets, before, results, strict=True):
                        builder.store(builder.fadd(old, new), target, align=4)
                with otherwise:
                    for target, new in zip(targets, results, strict=True):
                        builder.store(new, target, align=4)
            return context.get_dummy_value()

        return types.void(i, j, m, n, count, a, b, out, keeps), generate

    def product(m, n, count, a, b, out, keeps):
        for j in range(0, n, _COLUMNS):
            for i in range(0, m, _ROWS):
                tile(i, j, m, n, count, a, b, out, keeps)

    # Code is linked by name: what differs must not share one.
    product.__qualname__ = f"product_{has_scalars:d}{sums_lanes:d}"
    return njit(product, error_model="numpy")


# Each is ``product(m, n, k, a, b, out, keeps)``: out (m, n) = a (m, k) b (k, n), added to what is
# there if it ``keeps`` that; all are matrices of entries, but a is of single values in the first,
# and out in the last: the sums over the lanes.
multiply = _make_product(has_scalars=True)
multiply_lanes = _make_product(has_scalars=False)
multiply_sum = _make_product(has_scalars=False, sums_lanes=True)


_KERNEL_FILES = sorted(Path(__file__).parent.glob("*kernels.py"))  # they call each other


def kernel(function: Any) -> Any:
    """Compile a function of arrays of entries, once a machine."""
    return compiled(
        function, sources=[Path(__file__), Path(function.__code__.co_filename), *_KERNEL_FILES]
    )
