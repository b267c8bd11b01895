"""NumPy scalars in pickles, rebuilt from what the pickle says; nothing of NumPy is called."""

import struct
from dataclasses import dataclass
from typing import Any

from lightning_dws.errors import DataError

DTYPE = ("numpy", "dtype")
ENCODE = ("_codecs", "encode")  # how old protocols write bytes: as text
SCALARS = (("numpy.core.multiarray", "scalar"), ("numpy._core.multiarray", "scalar"))
_FORMATS = {
    "b1": "?", "i1": "b", "i2": "h", "i4": "i", "i8": "q", "u1": "B", "u2": "H", "u4": "I",
    "u8": "Q", "f2": "e", "f4": "f", "f8": "d",
}  # fmt: skip


@dataclass
class NumpyType:
    """A type of number, whose byte order a pickle adds when others may refer to it already.

    Attributes:
        code: Kind and number of bytes, ``"i8"``.
        byte_order: ``"<"``, ``">"``, or ``"|"`` of single bytes.
    """

    code: str
    byte_order: str = "<"


def encode(arguments: Any) -> bytes:
    """Give bytes that are written as text, a character a byte."""
    if not (isinstance(arguments, tuple) and len(arguments) == 2 and arguments[1] == "latin1"):
        raise DataError("bytes in an unknown encoding: refused")
    return str(arguments[0]).encode("latin1")


def make_type(arguments: Any) -> NumpyType:
    """Give the type that the arguments of ``numpy.dtype`` name."""
    code = arguments[0] if isinstance(arguments, tuple) and arguments else None
    if not isinstance(code, str) or code not in _FORMATS:
        raise DataError(f"a number of NumPy's type {str(code)[:80]!r}: refused")
    return NumpyType(code)


def set_state(kind: NumpyType, state: Any) -> None:
    """Take over the byte order that a type's pickled state holds."""
    order = state[1] if isinstance(state, tuple) and len(state) > 1 else None
    if order not in ("<", ">", "|"):
        raise DataError("a NumPy type of unknown byte order: refused")
    kind.byte_order = order


def make_scalar(arguments: Any) -> bool | int | float:
    """Give the number that the arguments of NumPy's ``scalar`` encode."""
    if not (
        isinstance(arguments, tuple)
        and len(arguments) == 2
        and isinstance(arguments[0], NumpyType)
        and isinstance(arguments[1], bytes)
    ):
        raise DataError("a NumPy scalar that is no number: refused")
    kind, content = arguments
    layout = kind.byte_order.replace("|", "<") + _FORMATS[kind.code]
    if len(content) != struct.calcsize(layout):
        raise DataError(f"a NumPy scalar of type {kind.code} in {len(content)} bytes")
    value: bool | int | float = struct.unpack(layout, content)[0]
    return value
