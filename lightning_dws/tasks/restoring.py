"""What a checkpoint must hold for a task, checked before any of it is used."""

import importlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from traceback import walk_tb
from typing import Any, TypeVar

import pytorch_lightning as pl
from jsonargparse import ArgumentParser
from pytorch_lightning.trainer.connectors import checkpoint_connector
from torch import Tensor, nn

from lightning_dws.checkpoints import CHECKPOINT_KEY
from lightning_dws.counting import counted
from lightning_dws.errors import DataError
from lightning_dws.plain_checkpoints import is_own_class, is_plain
from lightning_dws.weight_space import (
    Architecture,
    NetworkArchitecture,
    TensorSpec,
    read_architecture,
)

_REBUILDING_ERRORS = (
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    ImportError,
    RuntimeError,
)
Network = TypeVar("Network", bound=nn.Module)
_RESUMING = ("epoch", "global_step", "loops", "callbacks", "optimizer_states", "lr_schedulers")


def build_network(config: Any, path: str | Path) -> nn.Module:
    """Make the network that a checkpoint names.

    Args:
        config: ``class_path`` and ``init_args``, as plain data.
        path: The checkpoint.

    Raises:
        DataError: It names no network, or one that cannot be made.
    """
    if config is None:
        raise DataError(
            f"{path}: does not say what its network is; pass it as network=, or decorate its class "
            "with lightning_dws.models.recorded before training (its arguments must be plain data)"
        )
    try:
        if is_plain(path) and not is_own_class(config["class_path"]):
            raise DataError(
                f"{path}: its network is {config['class_path']}, which is not of lightning_dws; "
                "nothing that a shared file names is imported: pass it as network="
            )
        module, _, name = config["class_path"].rpartition(".")
        network_class = getattr(importlib.import_module(module), name)
        if not (isinstance(network_class, type) and issubclass(network_class, nn.Module)):
            raise TypeError(f"{config['class_path']} is not a network")
        return make_with_architecture(network_class, **config["init_args"])
    except DataError:
        raise
    except _REBUILDING_ERRORS as error:
        reason = " ".join(str(error).split())
        raise DataError(
            f"{path}: its network cannot be made ({reason}); pass it as network="
        ) from error


def make_with_architecture(network_class: type[Network], *args: Any, **kwargs: Any) -> Network:
    """Make a network whose ``architecture`` is given as plain data, whatever it is annotated."""
    if isinstance(kwargs.get("architecture"), dict):
        kwargs["architecture"] = read_architecture(kwargs["architecture"])
    return network_class(*args, **kwargs)


def add_instantiators(parser: ArgumentParser) -> None:
    """Let a parser make networks, and the architectures they are for, from plain data."""
    parser.add_instantiator(make_with_architecture, nn.Module)
    parser.add_instantiator(_make_architecture, Architecture)


def _make_architecture(_: type[Architecture], /, **plain: Any) -> Architecture:
    """Make what plain data are of, whatever the argument's annotation makes of the tensors."""
    tensors = plain.get("tensors", [])
    if any(isinstance(spec, TensorSpec) for spec in tensors):
        return NetworkArchitecture(tensors, plain["functions"])
    return read_architecture(plain)


def read_classes(note: Mapping[str, Any], num_classes: int, where: str) -> tuple[str, ...] | None:
    """Give the classes that a checkpoint says it was trained on, for the checkpoints to come."""
    classes = note.get("classes")
    named = isinstance(classes, list) and all(isinstance(name, str) for name in classes)
    if classes is not None and not named:
        raise DataError(f"{where}: classes is {classes!r}, expected a list of names")
    if note.get("num_classes", num_classes) != num_classes:
        raise DataError(
            f"{where}: trained on {note['num_classes']!r} classes, this task has {num_classes}"
        )
    return None if classes is None else tuple(classes)


def check_classes(trained: tuple[str, ...], data: tuple[str, ...], where: str) -> None:
    """Raise ``DataError``, naming the classes, where data are not of those trained on."""
    if trained == data:
        return
    if len(trained) != len(data):
        classes = f"{counted(len(trained), 'class', 'classes')} ({_some(trained)})"
        data_have = f"the data have {len(data)} ({_some(data)})"
        raise DataError(f"{where}: trained on {classes}, {data_have}")
    other = [
        label for label, names in enumerate(zip(trained, data, strict=True)) if len({*names}) > 1
    ]
    raise DataError(
        f"{where}: trained on other classes than the data's; "
        + "; ".join(
            f"label {k}: trained on {trained[k]}, the data have {data[k]}" for k in other[:5]
        )
        + (f" and {len(other) - 5} more" if len(other) > 5 else "")
    )


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def check_weights(module: nn.Module, state: dict[str, Any], where: str) -> None:
    """Compare the names, shapes and types of a checkpoint's weights with a module's.

    Raises:
        DataError: They differ, or a parameter is not finite.
    """
    own = module.state_dict()
    parameters = dict(module.named_parameters())
    lacking = [name for name in own if name not in state]
    extra = [name for name in state if name not in own]
    if lacking or extra:
        parts = [
            f"{what} {', '.join(map(str, names[:3]))}{', ...' if len(names) > 3 else ''}"
            for what, names in (("lacks", lacking), ("has no use for", extra))
            if names
        ]
        raise DataError(
            f"{where}: not of this network; {'; '.join(parts)}".replace(
                "has no use for", "unknown are"
            )
        )
    for name, expected in own.items():
        found = state[name]
        if not isinstance(expected, Tensor):
            continue
        if not isinstance(found, Tensor):
            raise DataError(f"{where}: {name} is a {type(found).__name__}, expected a tensor")
        if found.shape != expected.shape or found.dtype != expected.dtype:
            raise DataError(
                f"{where}: {name} is {_describe(found)}, expected {_describe(expected)}"
            )
        if not found.is_floating_point():
            continue
        # a buffer may hold infinities (a mask of attention), a weight may not
        bad = ~found.isfinite() if name in parameters else found.isnan()
        if bad.any():
            raise DataError(f"{where}: {name} holds numbers that are not finite")


def _describe(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} of {str(tensor.dtype).removeprefix('torch.')}"


@contextmanager
def naming_checkpoint(trainer: pl.Trainer) -> Iterator[None]:
    """Turn what Lightning raises over a checkpoint's content into one error that names the file.

    Raises:
        DataError: Lightning could not restore what the file holds.
    """
    try:
        yield
    except _REBUILDING_ERRORS as error:
        restoring = any(
            frame.f_code.co_filename == checkpoint_connector.__file__
            and frame.f_code.co_name.startswith(("restore", "_restore"))
            for frame, _ in walk_tb(error.__traceback__)
        )
        if isinstance(error, DataError) or not restoring:
            raise
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise DataError(f"{trainer.ckpt_path}: cannot be restored ({reason})") from error


def count_parts(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Name what a checkpoint holds of callbacks and optimizers, for a note of it in itself."""
    return {
        "callbacks": sorted(str(name) for name in checkpoint.get("callbacks", {})),
        "optimizer_states": [
            len(state["state"]) if isinstance(state, dict) and "state" in state else None
            for state in checkpoint.get("optimizer_states", [])
        ],
    }


def is_finders(where: str) -> bool:
    """Whether a checkpoint is what Lightning's finders keep while they try rates or batch sizes."""
    return Path(where).name.startswith((".lr_find_", ".scale_batch_size_"))


def check_resumable(trainer: pl.Trainer, checkpoint: dict[str, Any], where: str) -> None:
    """Check that a training can go on from a checkpoint to the same end.

    Args:
        trainer: Whose training goes on; its optimizers are not made yet.
        checkpoint: What the file holds.
        where: Names the file.

    Raises:
        DataError: Something that was saved is missing or of another form.
    """
    lacking = [name for name in _RESUMING if name not in checkpoint]
    datamodule = getattr(trainer, "datamodule", None)
    key = type(datamodule).__qualname__
    own = datamodule.state_dict() if datamodule is not None else {}
    if own and key not in checkpoint:
        lacking.append(key)
    parts = checkpoint.get(CHECKPOINT_KEY, {}).get("parts", {})
    if not lacking and parts and parts != count_parts(checkpoint):
        raise DataError(
            f"{where}: the states of callbacks or optimizers are not those that were saved"
        )
    if lacking:
        raise DataError(f"{where}: a training cannot go on from it, it lacks {', '.join(lacking)}")
    _compare(own, checkpoint.get(key, {}), key, where)
    loops = {"fit_loop": trainer.fit_loop.state_dict()}
    _compare(loops, checkpoint["loops"], "loops", where)
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        state = callback.state_dict()
        if state and (saved := checkpoint["callbacks"].get(callback.state_key)) is not None:
            _compare(state, saved, f"callbacks.{type(callback).__name__}", where)


def _compare(expected: Any, found: Any, place: str, where: str) -> None:
    """Compare nested dicts of settled names; what else they hold by its type alone."""
    if isinstance(expected, dict):
        if not isinstance(found, dict):
            raise DataError(f"{where}: {place} is a {type(found).__name__}, expected a dict")
        for name, part in expected.items():
            if name not in found:
                raise DataError(f"{where}: a training cannot go on from it, {place} lacks {name}")
            _compare(part, found[name], f"{place}.{name}", where)
    elif isinstance(expected, Tensor) and isinstance(found, Tensor):
        if found.shape != expected.shape:
            raise DataError(
                f"{where}: {place} is {_describe(found)}, expected {_describe(expected)}"
            )
    elif expected is not None:
        numbers = (int, float)
        alike = isinstance(found, type(expected)) or (
            isinstance(expected, numbers) and isinstance(found, numbers)
        )
        if not alike:
            raise DataError(
                f"{where}: {place} is a {type(found).__name__}, "
                f"expected a {type(expected).__name__}"
            )


def check_optimizers(trainer: pl.Trainer, checkpoint: dict[str, Any], where: str) -> None:
    """Check that the states of a checkpoint's optimizers fit those of the trainer.

    Raises:
        DataError: They are of another optimizer or of other parameters, or not finite.
    """
    states, schedulers = checkpoint["optimizer_states"], checkpoint["lr_schedulers"]
    for name, saved, own in (
        ("optimizer_states", states, trainer.optimizers),
        ("lr_schedulers", schedulers, trainer.lr_scheduler_configs),
    ):
        if len(saved) != len(own) or not all(isinstance(state, dict) for state in saved):
            raise DataError(f"{where}: {name} are {len(saved)}, expected {len(own)} dicts")
    for number, (config, state) in enumerate(
        zip(trainer.lr_scheduler_configs, schedulers, strict=True)
    ):
        expected = {k: v for k, v in config.scheduler.state_dict().items() if k != "lr_lambdas"}
        _compare(expected, state, f"lr_schedulers.{number}", where)
    for number, (optimizer, state) in enumerate(zip(trainer.optimizers, states, strict=True)):
        place = f"optimizer_states.{number}"
        current = optimizer.state_dict()
        _compare({"state": {}, "param_groups": []}, state, place, where)
        groups = state["param_groups"]
        if len(groups) != len(current["param_groups"]):
            raise DataError(f"{where}: {place} has other groups of parameters than the optimizer")
        for ours, theirs in zip(current["param_groups"], groups, strict=True):
            if not isinstance(theirs, dict) or ours.keys() != theirs.keys():
                raise DataError(
                    f"{where}: saved by another optimizer than {type(optimizer).__name__}"
                )
            _compare(ours, theirs, f"{place}.param_groups", where)
            if list(ours["params"]) != list(theirs["params"]):
                raise DataError(f"{where}: {place} is of other parameters than the optimizer's")
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        _check_moments(parameters, state["state"], place, where)


def _kind(value: Any) -> Any:
    """Tell a moment from a count of steps: what an optimizer keeps of all parameters alike."""
    return value.is_floating_point() if isinstance(value, Tensor) else type(value)


def _is_complex(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_complex()


def _check_moments(
    parameters: list[nn.Parameter], moments: dict[Any, Any], place: str, where: str
) -> None:
    extra = [name for name in moments if not (type(name) is int and 0 <= name < len(parameters))]
    if extra:
        raise DataError(f"{where}: {place} has a state of parameters that do not exist: {extra[0]}")
    names = {frozenset(state) if isinstance(state, dict) else None for state in moments.values()}
    if None in names or len(names) > 1:
        raise DataError(f"{where}: {place} does not hold the same of every parameter")
    kinds: dict[Any, Any] = {}  # by name, of the first parameter
    for number, state in moments.items():
        shape = parameters[number].shape
        for name, value in state.items():
            if kinds.setdefault(name, _kind(value)) != _kind(value) or _is_complex(value):
                raise DataError(
                    f"{where}: {place}.{number}.{name} is of another kind than an optimizer keeps"
                )
            if isinstance(value, Tensor) and value.dim() and value.shape != shape:
                raise DataError(
                    f"{where}: {place}.{number}.{name} is {_describe(value)}, expected "
                    f"{tuple(shape)}"
                )
            if not isinstance(value, (Tensor, int, float)) and value is not None:
                raise DataError(
                    f"{where}: {place}.{number}.{name} is a {type(value).__name__}, expected a "
                    "tensor"
                )
            if (
                isinstance(value, Tensor)
                and value.is_floating_point()
                and not value.isfinite().all()
            ):
                raise DataError(
                    f"{where}: {place}.{number}.{name} holds numbers that are not finite"
                )
