"""What signatures say of tensors' axes is true: checked while the package computes.

Functions and records whose annotations name axes are replaced by ones that check them.
"""

import inspect
import re
from collections.abc import Iterator, Mapping
from importlib import import_module
from pkgutil import walk_packages
from types import FunctionType, ModuleType
from typing import Any, get_args, get_origin

import pytest
import torch
from beartype import beartype
from jaxtyping import AbstractArray, Shaped, TypeCheckError, jaxtyped
from tiny import random_batch
from torch import Tensor

import lightning_dws
from lightning_dws import INRArchitecture, WeightBatch, augmentations, mixup
from lightning_dws.augmentations import Compose, OneOf, RandomOrder
from lightning_dws.augmentations.output_space import transform_output
from lightning_dws.augmentations.symmetry import take_rows
from lightning_dws.models import (
    NFN,
    DWSNet,
    FlatMLP,
    NeuralGraphGNN,
    NeuralGraphTransformer,
    ProbeGen,
    set_attention,
)
from lightning_dws.models.weight_change import WeightChange
from lightning_dws.weight_space import cat

ROOMS = ("weight_space", "augmentations", "mixup", "models")
SINE = INRArchitecture((2, 6, 5, 1), w0=8.0)
RELU = INRArchitecture((3, 6, 5, 2), activation="relu")

# Of any shape, or several of different ones; and PNAConv, whose signatures torch-geometric reads.
WITHOUT_AXES = {
    "IndexTensors.set_index",
    "PNAConv.ends_map",
    "PNAConv.forward",
    "PNAConv.message",
    "PNAConv.scaler",
    "attend_at_once",
    "flatten",
    "in_chunks",
    "in_one_dtype",
    "pass_messages",
    "takes_kernels",
    "unflatten",
    "update_edges_at_once",
    "without_autocast",
}


def read_modules() -> list[ModuleType]:
    """Give the rooms' modules, without those that only import where there is Triton."""
    names = [
        module.name
        for module in walk_packages(lightning_dws.__path__, "lightning_dws.")
        if module.name.split(".")[1] in ROOMS and not module.name.endswith("_triton")
    ]
    return [import_module(name) for name in names]


def find_functions() -> Iterator[tuple[Any, str, Any, FunctionType]]:
    """Give owner, name, what stands there, and the function in it, wherever a function stands."""
    for module in read_modules():
        for name, value in list(vars(module).items()):
            if isinstance(value, FunctionType):
                yield module, name, value, value
            elif inspect.isclass(value) and value.__module__ == module.__name__:
                for attribute, member in list(vars(value).items()):
                    inside = getattr(member, "fget", getattr(member, "__func__", member))
                    if isinstance(inside, FunctionType):
                        yield value, attribute, member, inside


def names_axes(hint: Any) -> bool:
    is_array = inspect.isclass(hint) and issubclass(hint, AbstractArray)
    return is_array or any(names_axes(part) for part in get_args(hint))


def names_none(hint: Any) -> bool:
    """Whether a hint has a bare tensor, other than in a mapping, whose tensors have any axes."""
    is_mapping = inspect.isclass(get_origin(hint)) and issubclass(get_origin(hint), Mapping)
    return hint is Tensor or (not is_mapping and any(names_none(part) for part in get_args(hint)))


def check(member: Any, called: set[str]) -> Any:
    """Give a function, method or property that checks its annotations, and that it was called."""

    def typechecker(function: FunctionType) -> Any:
        # the rest is mypy's, which knows Self, and that a ModuleList stands for a sequence
        hints = function.__annotations__
        function.__annotations__ = {n: h if names_axes(h) else Any for n, h in hints.items()}
        checked = beartype(function)

        def check_and_record(*args: Any, **kwargs: Any) -> Any:
            called.add(f"{function.__module__}.{function.__qualname__}")
            return checked(*args, **kwargs)

        return check_and_record

    return jaxtyped(member, typechecker=typechecker)


def compute_with_rows() -> None:
    for architecture in (SINE, RELU):
        batch = random_batch(architecture)
        ids = [batch.label, batch.object_id, batch.view]
        WeightBatch.from_parameters(architecture, batch.parameters, *ids)
        WeightBatch.from_layers(architecture, batch.weights, batch.biases, *ids)
        network = batch.to_sequential(0)
        network(torch.rand(7, architecture.in_features))
        batch.named_parameters(network)
        WeightBatch.from_tensors(architecture, batch.tensors, *ids)
        WeightBatch.from_state_dicts(architecture, [network.state_dict()], batch.label[:1])
        WeightBatch.from_sequentials(architecture, [network, network])
        cat([batch[:2], batch[[1]], batch[torch.tensor([3, 0])]])
        batch.replace(target=torch.eye(4))


def augment() -> None:
    combinations = {Compose, OneOf, RandomOrder}
    kinds = {getattr(augmentations, name) for name in augmentations.__all__}
    for kind in kinds - combinations - {augmentations.Augmentation}:
        kind()(random_batch(RELU if kind is augmentations.ReLUScaling else SINE))
    augmentations.Rotation()(random_batch(INRArchitecture((3, 5, 1))))
    for kind in combinations:
        kind([augmentations.Affine(), augmentations.Permutation(p=0.5)])(random_batch(SINE))


def mix() -> None:
    a, b = random_batch(SINE), augmentations.Permutation()(random_batch(SINE))
    for symmetry in ("permutation", "signed_permutation"):
        aligned = mixup.align(a, b, symmetry).aligned
        mixup.squared_distance(a, aligned)
        mixup.midpoint_error(a, aligned, torch.rand(7, 2))
        mixed = mixup.MixUp(alignment=symmetry).mix(a, 3, torch.Generator())
        mixup.mix_up(mixed, mixed, torch.rand(4), 3, "hard")


def train() -> None:
    torch.manual_seed(0)
    networks = [
        FlatMLP(SINE, 3, 8),
        *(DWSNet(SINE, 3, 8, 1, "attention", reduction, 2) for reduction in ("max", "sum")),
        DWSNet(SINE, 3, 8, 1, "deepsets"),
        *(
            NeuralGraphGNN(SINE, 3, 8, 2, probes, bool(probes), 8, message_passing=not probes)
            for probes in (0, 4)
        ),
        NeuralGraphGNN(SINE, 3, 8, 2, fourier_features=4, readout="mean"),
        NeuralGraphTransformer(SINE, 3, 8, 8, 2, 2, 4, attention_dim=8, fourier_features=4),
        NFN(SINE, 3, "NP", 4, 2, 3, head_dim=8),
        NFN(SINE, 3, "HNP", 4, 2, 0, io_bands=0, head_dim=8),
        ProbeGen(SINE, 3, 5, 4, hidden_dim=8),
    ]
    batch = random_batch(SINE, 80)  # so many that encodings are interpolated
    for network in networks:
        if not isinstance(network, ProbeGen):  # which sees no weights
            network.standardize.fit([batch.parameters])
        network(batch).sum().backward()
        network.eval()(batch)
        with torch.no_grad():
            network(batch)
        network(batch[:1]).sum().backward()  # too few for lanes


def edit() -> None:
    batch = random_batch(SINE)
    for network in (DWSNet(SINE, 1, 8, 1, "deepsets"), NeuralGraphGNN(SINE, 1, 8, 2)):
        change = WeightChange(SINE, network.parameter_channels)
        change.fit([batch.parameters])
        change(network.parameter_features(batch))


def test_what_signatures_say_is_true(monkeypatch: pytest.MonkeyPatch) -> None:
    replaced: dict[FunctionType, Any] = {}
    called: set[str] = set()
    for owner, name, member, function in find_functions():
        if any(map(names_axes, function.__annotations__.values())):
            replaced.setdefault(function, check(member, called))
            monkeypatch.setattr(owner, name, replaced[function])
    compute_with_rows()
    augment()
    mix()
    train()
    edit()
    with monkeypatch.context() as patch:
        patch.setattr(torch.compiler, "is_compiling", lambda: True)
        train()
    weight, bias = torch.rand(1, 8, 8), torch.rand(1, 8)
    set_attention.attend_at_once(((0,),), 2, weight, bias, torch.rand(4, 3, 5), torch.rand(3, 8, 4))
    assert {f"{f.__module__}.{f.__qualname__}" for f in replaced} - called == set()


def test_a_wrong_shape_is_found() -> None:
    transform = check(transform_output, set())
    transform(random_batch(), torch.ones(4), torch.ones(4))
    with pytest.raises(TypeCheckError, match="parameter 'shift'"):
        transform(random_batch(), torch.ones(4), torch.ones(1))
    with pytest.raises(TypeCheckError, match="parameter 'scale'"):
        transform(random_batch(), torch.ones(4, dtype=torch.int64), torch.ones(4))


@pytest.mark.parametrize(
    ("name", "found"), [("rows", "parameter 'rows'"), ("return", "return value")]
)
def test_a_wrong_annotation_is_found(
    name: str, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = torch.rand(4, 2, 3), torch.tensor([[1, 0]]).expand(4, 2)
    check(take_rows, set())(*arguments)
    planted = take_rows.__annotations__ | {name: Shaped[Tensor, "batch columns"]}
    monkeypatch.setattr(take_rows, "__annotations__", planted)
    with pytest.raises(TypeCheckError, match=found):
        check(take_rows, set())(*arguments)


def test_public_functions_name_the_axes_of_their_tensors() -> None:
    modules = {module.__name__ for module in read_modules()}
    bare = {
        function.__qualname__
        for _, _, _, function in find_functions()
        if function.__module__ in modules
        if not re.search(r"\b_", function.__qualname__)
        if any(map(names_none, function.__annotations__.values()))
    }
    assert bare == WITHOUT_AXES
