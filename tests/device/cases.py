"""Everything that is to run on a GPU, as small cases that any device can run.

A case prepares its tensors and gives the step that is looked at; the step gives what is compared
with the CPU's.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from cnns import RESIDUAL
from torch import Tensor, nn

from lightning_dws import INRArchitecture, WeightBatch
from lightning_dws import augmentations as augmentations_
from lightning_dws.augmentations import Augmentation, Compose, OneOf, RandomOrder
from lightning_dws.canonical import (
    Aligned,
    CanonicalForm,
    Phases,
    Signs,
    SortedNeurons,
    to_canonical,
)
from lightning_dws.data.placement import DeviceTable
from lightning_dws.inrs import evaluate_inrs, fit_inrs
from lightning_dws.inrs.fitting.recipes import RECIPES, Recipe
from lightning_dws.mixup import MixUp, align, mix_up
from lightning_dws.models import (
    NFN,
    DWSNet,
    FlatMLP,
    NeuralGraphGNN,
    NeuralGraphTransformer,
    ProbeGen,
)
from lightning_dws.tasks import (
    ClassificationTask,
    ContrastiveTask,
    RegressionTask,
    WeightSpaceTask,
)
from lightning_dws.weight_space import Architecture, cat

SINE = INRArchitecture((2, 6, 5, 1), w0=8.0)
RELU = INRArchitecture((2, 6, 5, 1), activation="relu")
SOLID = INRArchitecture((3, 5, 4, 1), w0=8.0)
NUM_CLASSES = 3

Step = Callable[[], Sequence[Tensor]]


@dataclass(frozen=True)
class Case:
    """What runs on a device.

    Attributes:
        prepare: Gives the step for a device.
        may_wait: Functions of the package, or parts of their names, that may make the CPU wait for
            the device in the step, each with its reason.
        tolerance: Relative, of the results in comparison with the CPU's.
    """

    prepare: Callable[[torch.device], Step]
    may_wait: Mapping[str, str] = field(default_factory=dict)
    tolerance: float = 2e-3


def make_batch(
    device: torch.device, architecture: Architecture = SINE, size: int = 6, seed: int = 0
) -> WeightBatch:
    generator = torch.Generator().manual_seed(seed)
    rows = 0.3 * torch.randn(size, architecture.num_parameters, generator=generator)
    label = torch.randint(NUM_CLASSES, (size,), generator=generator)
    return WeightBatch.from_parameters(architecture, rows, label).to(device)


def _augmentation_case(augmentation: Augmentation, architecture: INRArchitecture) -> Case:
    def prepare(device: torch.device) -> Step:
        batch, on_cpu = (make_batch(where, architecture) for where in (device, torch.device("cpu")))
        drawn = augmentation.draw(on_cpu, torch.Generator().manual_seed(1))
        params = {name: value.to(device) for name, value in drawn.items()}
        generator = torch.Generator(device).manual_seed(2)

        def step() -> list[Tensor]:
            augmentation(batch, generator)
            return [augmentation(batch, params=params).parameters]

        return step

    return Case(prepare)


def _augmentation_cases() -> dict[str, Case]:
    combinations = ("Augmentation", "Compose", "OneOf", "RandomOrder")
    single = {
        n: getattr(augmentations_, n) for n in augmentations_.__all__ if n not in combinations
    }
    cases = {}
    for name, kind in single.items():
        architecture = RELU if name == "ReLUScaling" else SINE
        cases[name] = _augmentation_case(kind(p=0.7), architecture)
    members = [single["Rotation"](), single["GaussianNoise"](p=0.5), single["QuantileDropout"]()]
    cases |= {
        kind.__name__: _augmentation_case(kind(members), SINE)
        for kind in (Compose, OneOf, RandomOrder)
    }
    cases["Rotation in space"] = _augmentation_case(single["Rotation"](), SOLID)
    return cases


def _mixup_case(**options: Any) -> Case:
    def prepare(device: torch.device) -> Step:
        batch, mixup = make_batch(device), MixUp(**options)
        generator = torch.Generator(device).manual_seed(2)
        partner = make_batch(device, seed=3)
        share = torch.linspace(0, 1, len(batch)).to(device)

        def step() -> list[Tensor]:
            mixup.mix(batch, NUM_CLASSES, generator)
            if mixup.alignment == "none":
                mixed = mix_up(batch, partner, share, NUM_CLASSES, mixup.labels)
                return (
                    [mixed.parameters] if mixed.target is None else [mixed.parameters, mixed.target]
                )
            found = align(batch, partner, mixup.alignment)
            return [found.aligned.parameters, *found.permutations, *found.signs]

        return step

    return Case(prepare)


def _canonical_case(forms: Sequence[CanonicalForm], **may_wait: str) -> Case:
    def prepare(device: torch.device) -> Step:
        batch = make_batch(device)
        for form in forms:
            form.reference = make_batch(device, seed=3).parameters[0]
        return lambda: [to_canonical(batch, forms).parameters]

    return Case(prepare, may_wait)


NETWORKS: dict[str, Callable[[Architecture], nn.Module]] = {
    "DWSNet attention max": lambda a: DWSNet(a, NUM_CLASSES, 8, 2, num_heads=4),
    "DWSNet attention mean dropout": lambda a: DWSNet(
        a, NUM_CLASSES, 8, 2, reduction="mean", num_heads=4, dropout=0.2, batch_norm=False
    ),
    "DWSNet deepsets sum": lambda a: DWSNet(
        a, NUM_CLASSES, 8, 2, set_layer="deepsets", reduction="sum", batch_norm=False
    ),
    "DWSNet deepsets max": lambda a: DWSNet(a, NUM_CLASSES, 8, 2, set_layer="deepsets"),
    "GNN": lambda a: NeuralGraphGNN(a, NUM_CLASSES, 8, 2, fourier_features=8),
    "GNN probes dropout": lambda a: NeuralGraphGNN(
        a, NUM_CLASSES, 8, 2, num_probes=4, dropout=0.2, readout="max", fourier_features=8
    ),
    "GNN forward": lambda a: NeuralGraphGNN(
        a, NUM_CLASSES, 8, 2, reverse_edges=False, readout="mean", fourier_features=8
    ),
    "GNN message passing": lambda a: NeuralGraphGNN(
        a, NUM_CLASSES, 8, 2, message_passing=True, fourier_features=8
    ),
    "Transformer": lambda a: NeuralGraphTransformer(
        a, NUM_CLASSES, 8, 8, 2, 2, attention_dim=8, fourier_features=8
    ),
    "Transformer probes": lambda a: NeuralGraphTransformer(
        a, NUM_CLASSES, 8, 8, 2, 2, 4, 0.0, attention_dim=8, fourier_features=8, readout="mean"
    ),
    "FlatMLP": lambda a: FlatMLP(a, NUM_CLASSES),
    "NFN NP": lambda a: NFN(
        a, NUM_CLASSES, "NP", 8, 2, 8, head_dim=8, dropout=0.0, feature_dropout=0.0
    ),
    "NFN HNP dropout": lambda a: NFN(a, NUM_CLASSES, "HNP", 8, 2, 8, io_bands=0, head_dim=8),
    "ProbeGen": lambda a: ProbeGen(a, NUM_CLASSES, 5, 4, hidden_dim=8, num_layers=3),
}


def _draws(network: nn.Module) -> bool:
    """Say whether a network has dropout, which draws otherwise on another device."""
    found = [getattr(module, "dropout", 0.0) for module in network.modules()]
    return any((own.p if isinstance(own, nn.Dropout) else own) > 0 for own in found)


def _training_case(
    make: Callable[[Architecture], nn.Module], architecture: Architecture = SINE
) -> Case:
    def prepare(device: torch.device) -> Step:
        torch.manual_seed(0)
        network = make(architecture)
        batch = make_batch(torch.device("cpu"), architecture)
        if not isinstance(network, ProbeGen):  # which sees no weights
            network.standardize.fit([batch.parameters])  # type: ignore[union-attr]
        draws = _draws(network)
        network, batch = network.to(device), batch.to(device)
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)

        def step() -> list[Tensor]:
            logits = network(batch)
            loss = F.cross_entropy(logits, batch.label)
            loss.backward()
            gradients = [p.grad.clone() for p in network.parameters() if p.grad is not None]
            optimizer.step()
            network.eval()
            with torch.no_grad():
                evaluated = network(batch)
            return [] if draws else [loss, torch.cat([g.flatten() for g in gradients]), evaluated]

        return step

    return Case(prepare)


def _task_case(make: Callable[[nn.Module], WeightSpaceTask], num_outputs: int) -> Case:
    def prepare(device: torch.device) -> Step:
        torch.manual_seed(0)
        network = FlatMLP(SINE, num_outputs)
        network.standardize.keep_identity()
        task = make(network).to(device)
        batch = make_batch(device)
        if task.targets:
            batch = batch.replace(target=batch.parameters[:, : len(task.targets)].clone())
        if task.pairs:
            batch = cat([batch, batch.replace(parameters=batch.parameters.flip(1))])

        def step() -> list[Tensor]:
            result = task._step(batch, "train")
            result["loss"].backward()
            return [result["loss"], *(r for name, r in result.items() if name != "loss")]

        return step

    return Case(prepare)


TASKS: dict[str, tuple[Callable[[nn.Module], WeightSpaceTask], int]] = {
    "classification": (
        lambda network: ClassificationTask(network, NUM_CLASSES, label_smoothing=0.1),
        NUM_CLASSES,
    ),
    "regression": (lambda network: RegressionTask(network, ["a", "b"]), 2),
    "regression of shares": (
        lambda network: RegressionTask(network, ["a"], loss="binary_cross_entropy"),
        1,
    ),
    "contrastive": (lambda network: ContrastiveTask(network, hidden_dim=8), 8),
}


def _table_case() -> Case:
    def prepare(device: torch.device) -> Step:
        table = DeviceTable(make_batch(device, size=20))

        def step() -> list[Tensor]:
            batch = table.gather(torch.tensor([3, 19, 0, 4]))
            return [batch.parameters, batch.label]

        return step

    return Case(prepare)


def _standardize_case() -> Case:
    def prepare(device: torch.device) -> Step:
        network, batch = FlatMLP(SINE, NUM_CLASSES).to(device), make_batch(device)

        def step() -> list[Tensor]:
            network.standardize.fit([batch.parameters])
            return [network.standardize(batch.parameters)]

        return step

    return Case(prepare, {"standardize.py, fit": "once a run, in float64"})


def _evaluate_case() -> Case:
    def prepare(device: torch.device) -> Step:
        batch = make_batch(device)
        grid = torch.linspace(-1, 1, 14).view(7, 2).to(device)
        return lambda: [evaluate_inrs(batch, grid), evaluate_inrs(batch, grid.expand(6, 7, 2))]

    return Case(prepare)


def _fitting_case(recipe: Recipe) -> Case:
    """Fit so few steps that rounding has not led to another end."""
    turns = None if recipe.points_per_step is None else 16
    recipe = replace(recipe, steps=6, warmup_steps=0, check_every=3, points_per_step=turns)

    def prepare(device: torch.device) -> Step:
        generator = torch.Generator().manual_seed(0)
        signals = torch.rand(6, 40, 1, generator=generator).to(device)
        points = (2 * torch.rand(40, 2, generator=generator) - 1).to(device)
        ids = torch.arange(6).to(device)

        def step() -> list[Tensor]:
            fitted, psnr = fit_inrs(
                signals, points, SINE, recipe=recipe, seed=0, object_id=ids, view=ids
            )
            return [fitted.parameters, psnr]

        return step

    reasons = {
        "fitting.py": "finite signals at the start; every check_every steps, who is done",
        "refitting.py": "once a chunk, who failed",
        "optimizers.py, step": "K-FAC: whether a step of 40 was rejected",
        "optimizers.py, __init__": "tables of rates, once a chunk",
        "siren.py": "the bounds of the initial weights, once",
        "chunk.py": "the order of the points, once a chunk",
        "randomness.py": "the seed, once",
    }
    return Case(prepare, reasons)


CASES: dict[str, Case] = {
    "canonical phases and signs": _canonical_case([Phases(), Signs()]),
    **{
        f"canonical {name}": _canonical_case(
            [form], _order="ties are looked for once, at the start"
        )
        for name, form in {
            "order": SortedNeurons(),
            "alignment": Aligned("signed_permutation"),
        }.items()
    },
    **{f"augment by {name}": case for name, case in _augmentation_cases().items()},
    "mix up": _mixup_case(),
    "mix up hard labels": _mixup_case(labels="hard", p=0.5, alpha=0.2),
    "mix up permuted": _mixup_case(permute=True),
    "mix up aligned": _mixup_case(alignment="permutation"),
    "mix up aligned signed": _mixup_case(alignment="signed_permutation"),
    **{f"train {name}": _training_case(make) for name, make in NETWORKS.items()},
    **{
        f"train {name} on CNNs": _training_case(NETWORKS[name], RESIDUAL)
        for name in ("DWSNet attention max", "DWSNet deepsets max", "GNN", "NFN NP", "Transformer")
    },
    **{f"step of {name}": _task_case(*task) for name, task in TASKS.items()},
    "gather a batch": _table_case(),
    "fit the standardisation": _standardize_case(),
    "evaluate INRs": _evaluate_case(),
    **{f"fit INRs by {name}": _fitting_case(recipe) for name, recipe in RECIPES.items()},
}
