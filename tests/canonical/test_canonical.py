"""Canonical forms keep the function, come out the same for all equal INRs, and stay."""

import math

import pytest
import torch
from symmetry import make_batch
from torch import Tensor

from lightning_dws import INRArchitecture, WeightBatch
from lightning_dws.augmentations import Augmentation, Permutation, SirenBias, SirenNegation
from lightning_dws.canonical import (
    Aligned,
    CanonicalForm,
    Phases,
    Signs,
    SortedNeurons,
    check_forms,
    to_canonical,
)
from lightning_dws.errors import DataError
from lightning_dws.inrs import evaluate_inrs

WIDTHS = [(2, 6, 1), (2, 7, 5, 3), (3, 4, 6, 5, 2)]
ANY_SHIFT = SirenBias(-4, 3, shift_probability=1.0)


def aligned(symmetry: str) -> Aligned:
    return Aligned(symmetry)  # type: ignore[arg-type]


# Forms, and the augmentations whose symmetry they remove together.
CASES: dict[str, tuple[list[CanonicalForm], list[Augmentation]]] = {
    "phases": ([Phases()], [ANY_SHIFT]),
    "signs": ([Signs()], [SirenNegation()]),
    "signs of biases": ([Signs("bias")], [SirenNegation()]),
    "sorted": ([SortedNeurons()], [Permutation()]),
    "aligned": ([aligned("permutation")], [Permutation()]),
    "signed aligned": ([aligned("signed_permutation")], [SirenNegation(), Permutation()]),
    "phases and signs": ([Phases(), Signs()], [SirenNegation(), ANY_SHIFT]),
    "phases and signs of biases": ([Phases(), Signs("bias")], [SirenNegation(), ANY_SHIFT]),
    "all": (
        [Phases(), Signs(), SortedNeurons(), aligned("signed_permutation")],
        [SirenNegation(), ANY_SHIFT, Permutation(), SirenNegation()],
    ),
}


def inrs(widths: tuple[int, ...]) -> WeightBatch:
    batch = make_batch(widths, size=6)
    return batch.replace(parameters=0.2 * batch.parameters)


def with_reference(forms: list[CanonicalForm], batch: WeightBatch) -> list[CanonicalForm]:
    for form in forms:
        if form.needs_reference:
            form.reference = inrs(batch.architecture.widths).parameters.flip(0)[0]
    return forms


def moved(batch: WeightBatch, augmentations: list[Augmentation], seed: int = 0) -> WeightBatch:
    generator = torch.Generator().manual_seed(seed)
    for augmentation in augmentations:
        batch = augmentation(batch, generator)
    return batch


def outputs(batch: WeightBatch) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    points = torch.rand(20, batch.architecture.in_features, generator=generator).double()
    return evaluate_inrs(batch, 2 * points - 1)


@pytest.mark.parametrize("widths", WIDTHS, ids=str)
@pytest.mark.parametrize("name", CASES)
def test_forms_keep_the_function_stay_and_are_the_same_for_equal_inrs(name, widths):
    forms, augmentations = CASES[name]
    batch = inrs(widths)
    before = batch.parameters.clone()
    with_reference(forms, batch)
    found = to_canonical(batch, forms)
    assert torch.equal(batch.parameters, before)
    assert not torch.equal(found.parameters, before)
    torch.testing.assert_close(outputs(found), outputs(batch), rtol=0, atol=1e-10)
    assert torch.equal(to_canonical(found, forms).parameters, found.parameters)
    for seed in range(3):
        other = moved(batch, augmentations, seed)
        assert (other.parameters - before).abs().max() > 0.01
        again = to_canonical(other, forms).parameters
        torch.testing.assert_close(again, found.parameters, rtol=0, atol=1e-12)
    for row in range(len(batch)):
        alone = to_canonical(batch[row : row + 1], forms).parameters[0]
        assert torch.equal(alone, found.parameters[row])


def test_what_a_form_leaves_behind():
    batch = inrs((2, 7, 5, 3))
    bound = math.pi / 2 / batch.architecture.w0
    for bias in Phases()(batch).biases[:-1]:
        assert bias.abs().max() <= 1.001 * bound
    assert max(bias.abs().max() for bias in batch.biases[:-1]) > 4 * bound
    for weight in Signs()(batch).weights[:-1]:
        assert (weight.amax(2) == weight.abs().amax(2)).all()
    for bias in Signs("bias")(batch).biases[:-1]:
        assert (bias > 0).all()
    for weight in SortedNeurons()(batch).weights[:-1]:
        assert (weight.norm(dim=2).diff(dim=1) >= 0).all()


@pytest.mark.parametrize(
    "name", ["phases", "signs", "signs of biases", "sorted", "aligned", "signed aligned"]
)
def test_ties_and_zeros_have_one_form_too(name):
    """Dead and equal neurons, weights of one magnitude, biases at exactly half of a period."""
    forms, augmentations = CASES[name]
    batch = inrs((2, 7, 5, 3))
    first, second = batch.weights[:2]
    first[:, 0], batch.biases[0][:, 0] = 0, 0  # computes zero
    first[:, 1] = torch.tensor([0.3, -0.3]).double()  # two largest weights
    first[:, 2] = first[:, 1]  # the same norm
    first[:, 4], batch.biases[0][:, 4] = first[:, 3], batch.biases[0][:, 3]  # computes the same
    second[:, 0] = 0  # of a bias alone
    batch.biases[0][:, 5] = 2.5 * math.pi / batch.architecture.w0
    batch.biases[1][:, 1] = -0.5 * math.pi / batch.architecture.w0
    with_reference(forms, batch)
    found = to_canonical(batch, forms)
    torch.testing.assert_close(outputs(found), outputs(batch), rtol=0, atol=1e-10)
    assert torch.equal(to_canonical(found, forms).parameters, found.parameters)
    for seed in range(8):
        again = to_canonical(moved(batch, augmentations, seed), forms).parameters
        torch.testing.assert_close(again, found.parameters, rtol=0, atol=1e-12)


def test_an_aligned_inr_is_closer_to_the_reference():
    batch = inrs((2, 7, 5, 3))
    for symmetry in ("permutation", "signed_permutation"):
        [form] = with_reference([aligned(symmetry)], batch)
        distance = [
            (some.parameters - form.reference).square().sum(1) for some in (form(batch), batch)
        ]
        assert distance[0].mean() < 0.9 * distance[1].mean()
        form.reference = batch.parameters[5]  # itself, in another order
        found = form(moved(batch, [Permutation()])[5:6])
        torch.testing.assert_close(found.parameters[0], form.reference, rtol=0, atol=1e-12)


RELU = INRArchitecture((2, 6, 5, 1), activation="relu")


@pytest.mark.parametrize(
    ("form", "message"),
    [
        (Phases(), "Phases is for sine INRs alone .*activation 'relu'"),
        (Signs(), "Signs is for sine INRs alone .*activation 'relu'"),
        (aligned("signed_permutation"), "Signs is for sine INRs alone .*activation 'relu'"),
    ],
)
def test_a_symmetry_that_relu_does_not_have_is_refused(form, message):
    with pytest.raises(DataError, match=f"canonical: {message}"):
        check_forms([form], RELU)
    rows = make_batch(RELU.widths).parameters
    with pytest.raises(ValueError, match=message):
        form(WeightBatch.from_parameters(RELU, rows))


@pytest.mark.parametrize("form", [SortedNeurons(), aligned("permutation")])
def test_permutations_are_removed_for_relu_too(form):
    batch = WeightBatch.from_parameters(RELU, make_batch(RELU.widths).parameters)
    check_forms([form], RELU)
    if form.needs_reference:
        form.reference = batch.parameters[2]
    found = form(batch)
    torch.testing.assert_close(outputs(found), outputs(batch), rtol=0, atol=1e-10)
    again = form(moved(batch, [Permutation()]))
    torch.testing.assert_close(again.parameters, found.parameters, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "forms",
    [[Signs(), Phases()], [SortedNeurons(), Signs()], [Signs(), Signs("bias")]],
    ids=lambda forms: type(forms[-1]).__name__,
)
def test_a_form_that_would_undo_an_earlier_one_is_refused(forms):
    with pytest.raises(DataError, match=r"must not stand behind .*; the order is Phases, Signs"):
        check_forms(forms, INRArchitecture())


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="by must be 'weight' or 'bias', got 'size'"):
        Signs("size")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"symmetry must be one of .* got 'signs'"):
        aligned("signs")
    with pytest.raises(ValueError, match="Aligned needs its reference to be set"):
        Aligned()(inrs((2, 6, 1)))


def test_a_form_of_another_shape_is_named():
    class Half(CanonicalForm):
        def __call__(self, batch: WeightBatch) -> WeightBatch:
            return batch[:3]

    with pytest.raises(DataError, match=r"Half gives parameters of shape \(3, 25\), expected"):
        to_canonical(inrs((2, 6, 1)), [Half()])
