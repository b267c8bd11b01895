"""A CUDA device that is not there: tensors say they are on it, and the CPU computes them.

A tensor of ``PretendTensor`` reports the device ``cuda:0`` to every library and to our own code, so
all take the ways that they take for CUDA. It holds its numbers on the CPU, so code that looks at
them goes on, and results can be compared. As on CUDA, a tensor of the CPU among its operands is an
error, and what would make the CPU wait for a GPU is recorded with the line that asked for it.

What it cannot show: operations that CUDA lacks, CUDA's own rounding, and speed.
"""

import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

CUDA = torch.device("cuda:0")
PACKAGE = Path(__file__).parents[2] / "lightning_dws"

aten = torch.ops.aten
# Their result, or the shape of it, is a number that the CPU must know.
_ALWAYS_WAIT = {
    aten._local_scalar_dense.default,
    aten.nonzero.default,
    aten.masked_select.default,
    aten.equal.default,
    aten.bincount.default,
    aten._unique2.default,
    aten.unique_dim.default,
    aten.unique_consecutive.default,
    aten.repeat_interleave.Tensor,
    aten.is_nonzero.default,
}
# These take tensors of the CPU beside those of the device.
_MAY_MIX = {aten.copy_.default, aten._to_copy.default, aten.index.Tensor, aten.index_put_.default}
_VIEWS = ("view", "expand", "slice", "select", "transpose", "unbind", "split", "permute", "detach")


class Trace:
    """What was asked of the device.

    Attributes:
        waits: Which lines of the package made the CPU wait, and in which operation, counted.
        launches: Operations that are no views, counted.
    """

    def __init__(self) -> None:
        self.waits: Counter[str] = Counter()
        self.launches: Counter[str] = Counter()

    def note_wait(self, operation: str) -> None:
        self.waits[f"{_calling_line()}: {operation}"] += 1


_trace = Trace()


def _calling_line() -> str:
    """Say which file and function of the package is at work."""
    for frame in reversed(traceback.extract_stack()):
        path = Path(frame.filename)
        if PACKAGE in path.parents:
            return f"{path.relative_to(PACKAGE)}, {frame.name}"
    return "outside"


class PretendTensor(Tensor):
    """A tensor on the device that is not there.

    Attributes:
        inner: Its numbers, on the CPU.
    """

    inner: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner: Tensor) -> "PretendTensor":
        tensor = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device="meta",  # PyTorch without CUDA cannot take a gradient of tensors that claim it
        )
        tensor.inner = inner
        return tensor

    @property
    def device(self) -> torch.device:
        return CUDA

    @property
    def is_cuda(self) -> bool:
        return True

    @property
    def is_meta(self) -> bool:
        return False

    def __repr__(self) -> str:
        return f"PretendTensor({self.inner!r})"

    def tolist(self) -> Any:
        _trace.note_wait("tolist")
        return self.inner.tolist()

    def numpy(self, *_: Any, **__: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        given = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, Tensor)]
        _check_devices(func, given)
        _note(func, args, kwargs)
        target = kwargs.get("device")
        to_cpu = target is not None and _is_cpu(target)
        if target is not None:
            kwargs["device"] = torch.device("cpu")
        if kwargs.get("pin_memory"):
            kwargs["pin_memory"] = False
        wrapper_of = {id(x.inner): x for x in given if isinstance(x, cls)}
        inner_args, inner_kwargs = tree_map(_unwrap, (args, kwargs))
        out = func(*inner_args, **inner_kwargs)
        if to_cpu:
            return out
        for wrapper in wrapper_of.values():  # out= and in-place operations may have resized it
            if wrapper.inner.shape != wrapper.shape:
                raise RuntimeError(
                    f"{func} resized its out=, which CUDA warns of: give it its shape"
                )

        def wrap(x: Any) -> Any:
            if not isinstance(x, Tensor):
                return x
            return wrapper_of[id(x)] if id(x) in wrapper_of else cls(x)

        return tree_map(wrap, out)


def _unwrap(x: Any) -> Any:
    return x.inner if isinstance(x, PretendTensor) else x


def _is_cpu(device: Any) -> bool:
    return torch.device(device).type == "cpu"


def _check_devices(func: Any, given: Sequence[Tensor]) -> None:
    own = [x for x in given if not isinstance(x, PretendTensor)]
    if func in _MAY_MIX:
        return
    strangers = [x for x in own if x.dim() > 0 and x.numel() > 0]
    if strangers:
        raise RuntimeError(
            "Expected all tensors to be on the same device, but found cuda:0 and a tensor of the "
            f"CPU of shape {tuple(strangers[0].shape)} in {func}"
        )


def _note(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    name = func.overloadpacket.__name__
    if not any(name.startswith(view) or name == f"_unsafe_{view}" for view in _VIEWS):
        _trace.launches[name] += 1
    if func in _ALWAYS_WAIT:
        _trace.note_wait(name)
    elif name in ("index", "index_put_", "index_put", "_index_put_impl_"):
        for index in args[1]:
            if isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8):
                _trace.note_wait(f"{name} by a mask")
            elif isinstance(index, Tensor) and not isinstance(index, PretendTensor):
                _trace.note_wait(f"{name} by indices of the CPU")
    elif name == "copy_" and isinstance(args[0], PretendTensor) != isinstance(
        args[1], PretendTensor
    ):
        _trace.note_wait("copy_ between the devices")
    elif name == "_to_copy" and kwargs.get("device") is not None and _is_cpu(kwargs["device"]):
        _trace.note_wait("copy to the CPU")
    elif name == "masked_scatter" or name.startswith("masked_scatter_backward"):
        _trace.note_wait(f"{name}, whose gradient is a masked_select")


class PretendGenerator(torch.Generator):
    """Stands for ``torch.Generator`` of any device; draws with that of the CPU."""

    def __new__(cls, device: Any = "cpu") -> "PretendGenerator":
        return super().__new__(cls)

    def __init__(self, device: Any = "cpu") -> None:
        self._claimed = torch.device(device)
        if self._claimed.type == "cuda":
            self._claimed = CUDA

    @property
    def device(self) -> torch.device:
        return self._claimed


class _Factories(TorchFunctionMode):
    """Makes tensors where it was asked to: on the CPU, or on the pretended device."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        generator = kwargs.get("generator")
        wanted = kwargs.get("device")
        if func in (Tensor.to, Tensor.cuda):
            return _move(func, args, kwargs)
        if func is Tensor.pin_memory:
            return args[0]
        if wanted is not None and any(isinstance(x, PretendTensor) for x in args):
            if not _is_cpu(wanted):
                kwargs.pop("device")
            return func(*args, **kwargs)
        if wanted is None or _is_cpu(wanted):
            return func(*args, **kwargs)
        if isinstance(generator, PretendGenerator) and generator.device != CUDA:
            raise RuntimeError(f"Expected a cuda generator for {func}, found {generator.device}")
        if func in (torch.tensor, torch.as_tensor):
            _trace.note_wait("torch.tensor on the device")
        made = func(*args, **{**kwargs, "device": "cpu"})
        _trace.launches[getattr(func, "__name__", str(func))] += 1
        return PretendTensor(made)


class _OwnFactories(TorchDispatchMode):
    """Keeps what PyTorch's own operations make on the device: a number as an operand, say."""

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        given = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, Tensor)]
        if not given and str(kwargs.get("device")) == "meta":
            return PretendTensor(func(*args, **{**kwargs, "device": torch.device("cpu")}))
        return func(*args, **kwargs)


def _move(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """Do ``Tensor.to`` and ``Tensor.cuda``, which C++ would refuse where CUDA is not there."""
    tensor, *rest = args
    if func is Tensor.cuda:
        rest = [CUDA]
    elif rest and isinstance(rest[0], Tensor):
        rest = [rest[0].device, rest[0].dtype, *rest[1:]]
    kwargs.pop("copy", None)
    device, dtype, non_blocking, _ = torch._C._nn._parse_to(*rest, **kwargs)
    dtype = tensor.dtype if dtype is None else dtype
    if device is None or device.type == tensor.device.type:
        return tensor.to(dtype)
    if not non_blocking:
        _trace.note_wait(f"copy to {device.type}")
    if device.type == "cpu":
        return tensor.inner.detach().to(dtype, copy=True)
    return PretendTensor(tensor.detach().to(dtype, copy=True))


@contextmanager
def pretended_cuda(monkeypatch: Any) -> Iterator[Trace]:
    """Let ``cuda`` name the device that is not there, and record what is asked of it."""
    global _trace
    _trace = Trace()
    monkeypatch.setattr(torch, "Generator", PretendGenerator)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *_: (2**30, 2**30))
    with _OwnFactories(), _Factories():
        yield _trace
