"""Read ``.pth`` files without unpickling them: their instructions are read, none is run.

``torch.load(weights_only=True)`` runs no foreign code either, but it does not verify checksums,
and a hostile file can make it hang (tuples of tuples as a key: measured with torch 2.13). A state
dict needs so few instructions that they are interpreted here.
"""

import io
import pickletools
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lightning_dws.errors import DataError
from lightning_dws.inrs.formats import numpy_scalars
from lightning_dws.inrs.formats.numpy_scalars import NumpyType

_MAX_PICKLE_BYTES = 2**20
_MAX_INTEGER = 2**62
_DTYPES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_FUNCTIONS = (
    ("collections", "OrderedDict"),
    ("torch._utils", "_rebuild_tensor_v2"),
    ("torch._utils", "_rebuild_parameter"),
)
_KNOWN = {*_FUNCTIONS, numpy_scalars.DTYPE, numpy_scalars.ENCODE, *numpy_scalars.SCALARS}


@dataclass(frozen=True)
class _Global:
    """A name that the pickle mentions: a function that rebuilds, or a kind of storage."""

    module: str
    name: str


_ORDERED_DICT, _REBUILD_TENSOR, _REBUILD_PARAMETER = (_Global(*names) for names in _FUNCTIONS)
_NUMPY_TYPE, _ENCODE = _Global(*numpy_scalars.DTYPE), _Global(*numpy_scalars.ENCODE)
_NUMPY_SCALARS = [_Global(*names) for names in numpy_scalars.SCALARS]


@dataclass(frozen=True)
class _Storage:
    dtype: torch.dtype
    content: bytes


class _Mark:
    """Where a tuple or a run of items begins on the stack."""


def parse_torch_file(content: bytes, max_bytes: int) -> dict[str, Any]:
    """Give a dict that ``torch.save`` wrote: tensors and plain data, in dicts and lists.

    Args:
        content: The file.
        max_bytes: Its unpacked size may not be larger.

    Raises:
        DataError: A damaged file (checksums are verified), or one that holds anything but a
            dict of plain data.
    """
    try:
        entries = _read_zip(content, max_bytes)
        return _parse_entries(entries)
    except DataError:
        raise
    # zipfile and pickletools raise many kinds of errors for damaged content, some undocumented
    except Exception as error:
        raise DataError(f"damaged ({type(error).__name__}: {str(error)[:200]})") from error


def _read_zip(content: bytes, max_bytes: int) -> dict[str, bytes]:
    """Unpack a zip, which verifies the checksum of each of its files."""
    if not content.startswith(b"PK\x03\x04"):
        kind = (
            "an old torch file (before 1.6); load and save it anew"
            if (content[:1] == b"\x80")
            else "not a torch file, or a damaged one"
        )
        raise DataError(kind)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        infos = archive.infolist()
        if len({info.filename for info in infos}) != len(infos):
            raise DataError("two files of one name in the zip")
        if any(info.compress_type != zipfile.ZIP_STORED for info in infos):
            raise DataError("compressed, which torch.save never does")
        if sum(info.file_size for info in infos) > max_bytes:
            raise DataError(f"unpacks to more than {max_bytes} bytes")
        return {info.filename: archive.read(info) for info in infos}


def _parse_entries(entries: dict[str, bytes]) -> dict[str, Any]:
    pickles = [name for name in entries if name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise DataError("a zip, but not one that torch.save wrote (there is no data.pkl)")
    prefix = pickles[0].removesuffix("data.pkl")
    if entries.get(f"{prefix}byteorder", b"little") != b"little":
        raise DataError("written on a big-endian machine")
    storages = {
        name.removeprefix(f"{prefix}data/"): content
        for name, content in entries.items()
        if name.startswith(f"{prefix}data/")
    }
    instructions = entries[pickles[0]]
    if len(instructions) > _MAX_PICKLE_BYTES:
        raise DataError(f"its pickle has more than {_MAX_PICKLE_BYTES} bytes")
    result = _Interpreter(storages).run(instructions)
    if not isinstance(result, dict):
        raise DataError(f"holds a {_kind(result)}, expected a dict of tensors")
    return result


class _Interpreter:
    """Follow the few instructions of which ``torch.save`` builds dicts of tensors and numbers.

    Args:
        storages: The bytes of the tensors, by their keys.
    """

    def __init__(self, storages: dict[str, bytes]) -> None:
        self._storages = storages
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._do: dict[str, Callable[[Any], None]] = {
            "PROTO": self._nothing,
            "FRAME": self._nothing,
            "MARK": lambda _: self._push(_Mark()),
            "EMPTY_DICT": lambda _: self._push({}),
            "EMPTY_LIST": lambda _: self._push([]),
            "EMPTY_TUPLE": lambda _: self._push(()),
            "NONE": lambda _: self._push(None),
            "NEWTRUE": lambda _: self._push(True),
            "NEWFALSE": lambda _: self._push(False),
            "BINUNICODE": self._push,
            "SHORT_BINUNICODE": self._push,
            "BININT": self._push,
            "BININT1": self._push,
            "BININT2": self._push,
            "LONG1": self._push,
            "BINFLOAT": self._push,
            "BINBYTES": self._push,
            "SHORT_BINBYTES": self._push,
            "BINPUT": self._put,
            "LONG_BINPUT": self._put,
            "MEMOIZE": lambda _: self._put(len(self._memo)),
            "BINGET": self._get,
            "LONG_BINGET": self._get,
            "TUPLE": lambda _: self._push(tuple(self._pop_to_mark())),
            "TUPLE1": lambda _: self._push(tuple(self._pop(1))),
            "TUPLE2": lambda _: self._push(tuple(self._pop(2))),
            "TUPLE3": lambda _: self._push(tuple(self._pop(3))),
            "APPEND": lambda _: self._append(self._pop(1)),
            "APPENDS": lambda _: self._append(self._pop_to_mark()),
            "SETITEM": lambda _: self._set_items(self._pop(2)),
            "SETITEMS": lambda _: self._set_items(self._pop_to_mark()),
            "GLOBAL": lambda names: self._name(*names.split(" ", 1)),
            "STACK_GLOBAL": lambda _: self._name(*self._pop(2)),
            "BINPERSID": lambda _: self._push(self._load_storage(self._pop(1)[0])),
            "REDUCE": lambda _: self._push(self._rebuild(*self._pop(2))),
            "BUILD": lambda _: self._build(),
        }

    def run(self, instructions: bytes) -> Any:
        for opcode, argument, _ in pickletools.genops(instructions):
            if opcode.name == "STOP":
                (result,) = self._stack
                return result
            if opcode.name not in self._do:
                raise DataError(f"its pickle does more than build a dict ({opcode.name}): refused")
            self._do[opcode.name](argument)
        raise DataError("its pickle has no end")

    def _nothing(self, argument: Any) -> None:
        pass

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _put(self, index: int) -> None:
        self._memo[index] = self._stack[-1]

    def _get(self, index: int) -> None:
        self._push(self._memo[index])

    def _pop(self, count: int) -> list[Any]:
        if len(self._stack) < count:
            raise DataError("its pickle is damaged")
        popped = self._stack[-count:]
        del self._stack[-count:]
        if any(isinstance(value, _Mark) for value in popped):
            raise DataError("its pickle is damaged")
        return popped

    def _pop_to_mark(self) -> list[Any]:
        position = len(self._stack) - 1
        while position >= 0 and not isinstance(self._stack[position], _Mark):
            position -= 1
        if position < 0:
            raise DataError("its pickle is damaged")
        popped = self._stack[position + 1 :]
        del self._stack[position:]
        return popped

    def _append(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if not isinstance(target, list):
            raise DataError("its pickle is damaged")
        target += items

    def _set_items(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if not isinstance(target, dict) or len(items) % 2:
            raise DataError("its pickle is damaged")
        for name, value in zip(items[::2], items[1::2], strict=True):
            # optimizers number their state; what is hashed at length may hang
            if not isinstance(name, str | int):
                raise DataError(f"a key is a {_kind(name)}, expected text")
            if name in target:
                raise DataError(f"entry {str(name)[:80]!r} is there twice")
            target[name] = value

    def _name(self, module: Any, name: Any) -> None:
        if (module, name) not in _KNOWN and not (module == "torch" and name in _DTYPES):
            raise DataError(f"names {str(module)[:80]}.{str(name)[:80]}: refused, nothing was run")
        self._push(_Global(module, name))

    def _load_storage(self, key: Any) -> _Storage:
        kind, storage, name = key[:3]
        if kind != "storage" or not isinstance(name, str) or name not in self._storages:
            raise DataError("a tensor without its numbers")
        return _Storage(_DTYPES[storage.name], self._storages[name])

    def _rebuild(self, function: Any, arguments: Any) -> Any:
        if function == _ORDERED_DICT and arguments == ():
            return {}
        if function == _REBUILD_PARAMETER and isinstance(arguments[0], Tensor):
            return arguments[0]
        if function == _REBUILD_TENSOR:
            storage, offset, size, stride = arguments[:4]
            return _view(storage, offset, size, stride)
        if function == _ENCODE:
            return numpy_scalars.encode(arguments)
        if function == _NUMPY_TYPE:
            return numpy_scalars.make_type(arguments)
        if function in _NUMPY_SCALARS:
            return numpy_scalars.make_scalar(arguments)
        raise DataError("its pickle does more than build a dict: refused")

    def _build(self) -> None:
        """Drop what ``Module.state_dict`` attaches to its dict: the modules' versions."""
        (state,) = self._pop(1)
        if isinstance(self._stack[-1], NumpyType):
            numpy_scalars.set_state(self._stack[-1], state)
            return
        if not isinstance(state, dict) or not isinstance(self._stack[-1], dict):
            raise DataError("its pickle does more than build a dict: refused")


def _view(storage: _Storage, offset: Any, size: Any, stride: Any) -> Tensor:
    """Make a tensor of a storage's bytes, without reaching beyond them."""
    numbers = (offset, *size, *stride)
    if len(size) != len(stride) or any(
        type(number) is not int or not 0 <= number < _MAX_INTEGER for number in numbers
    ):
        raise DataError("a tensor of impossible shape")
    itemsize = storage.dtype.itemsize
    if len(storage.content) % itemsize:
        raise DataError("a tensor whose numbers are cut short")
    available = len(storage.content) // itemsize
    empty = 0 in size
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    total = 1
    for n in size:
        total *= n
    if not empty and (last >= available or total > available):
        raise DataError(f"a tensor with {available} numbers, fewer than its shape wants")
    if empty:
        return torch.empty(size, dtype=storage.dtype)
    flat = torch.frombuffer(bytearray(storage.content), dtype=storage.dtype)
    return flat.as_strided(size, stride, offset)


def _kind(value: Any) -> str:
    return type(value).__name__.lstrip("_")
