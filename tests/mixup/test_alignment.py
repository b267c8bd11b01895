import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from weight_matching import WeightMatching, match_at_once, solve_assignments

from lightning_dws import INRArchitecture, WeightBatch
from lightning_dws.augmentations import Permutation, SirenNegation
from lightning_dws.augmentations.symmetry import permute_neurons
from lightning_dws.errors import DataError
from lightning_dws.inrs.siren import evaluate_inrs, initialise_inrs
from lightning_dws.mixup import align, midpoint_error, squared_distance
from lightning_dws.mixup.alignment import SYMMETRIES
from lightning_dws.mixup.matching_kernel import match_on_cpu

DEEP = INRArchitecture((2, 9, 8, 7, 1))
RELU = INRArchitecture((3, 8, 8, 2), activation="relu")
CASES = [(DEEP, "permutation"), (DEEP, "signed_permutation"), (RELU, "permutation")]
SEEDS = st.integers(0, 2**32 - 1)
BOTH_SYMMETRIES = pytest.mark.parametrize("symmetry", SYMMETRIES)
EVERY_CASE = pytest.mark.parametrize(("architecture", "symmetry"), CASES)


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _random_batch(
    architecture: INRArchitecture, size: int, seed: int, dtype: torch.dtype = torch.float64
) -> WeightBatch:
    size_of_rows = (size, architecture.num_parameters)
    rows = torch.randn(size_of_rows, generator=_generator(seed), dtype=torch.float64)
    return WeightBatch.from_parameters(architecture, (0.1 * rows).to(dtype))


def _move_randomly(batch: WeightBatch, symmetry: str, seed: int) -> WeightBatch:
    moved = Permutation()(batch, _generator(seed))
    return SirenNegation()(moved, _generator(seed + 1)) if symmetry[0] == "s" else moved


def _noisy_copy(batch: WeightBatch, std_ratio: float, seed: int) -> WeightBatch:
    noise = _random_batch(batch.architecture, len(batch), seed).parameters
    return batch.replace(parameters=batch.parameters + std_ratio * noise)


@st.composite
def _architectures(draw: st.DrawFn) -> INRArchitecture:
    hidden = draw(st.lists(st.integers(1, 9), min_size=1, max_size=4))
    return INRArchitecture((draw(st.integers(1, 3)), *hidden, draw(st.integers(1, 3))))


@BOTH_SYMMETRIES
@settings(max_examples=40, deadline=None)
@given(architecture=_architectures(), seed=SEEDS)
def test_recovers_a_random_symmetry_exactly(
    symmetry: str, architecture: INRArchitecture, seed: int
) -> None:
    a = _random_batch(architecture, 6, seed)
    b = _move_randomly(a, symmetry, seed + 1)
    assert torch.equal(align(a, b, symmetry).aligned.parameters, a.parameters)


@BOTH_SYMMETRIES
@pytest.mark.parametrize("widths", [(2, 32, 32, 1), (2, 16, 16, 16, 1)])
def test_recovers_initial_inrs_of_float32(symmetry: str, widths: tuple[int, ...]) -> None:
    ids = torch.arange(40)
    a = initialise_inrs(INRArchitecture(widths), seed=0, object_id=ids, view=ids)
    b = _move_randomly(a, symmetry, 5)
    assert torch.equal(align(a, b, symmetry).aligned.parameters, a.parameters)


@EVERY_CASE
@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, std_ratio=st.sampled_from((None, 0.0, 1e-8, 0.1, 0.5, 2.0)))
def test_never_worse_than_no_alignment(
    architecture: INRArchitecture, symmetry: str, seed: int, std_ratio: float | None
) -> None:
    a = _random_batch(architecture, 8, seed)
    b = _random_batch(architecture, 8, seed + 1)
    if std_ratio is not None:
        b = _noisy_copy(a, std_ratio, seed + 1)
    aligned = align(a, b, symmetry).aligned
    assert (squared_distance(a, aligned) <= squared_distance(a, b)).all()


def _misleading_pairs() -> tuple[WeightBatch, WeightBatch]:
    """Close in every layer but the first, whose tiny weights send the start astray."""
    a = _random_batch(DEEP, 200, 0)
    b = _noisy_copy(a, 0.8, 1)
    for batch, seed in ((a, 2), (b, 3)):
        first = batch.weights[0]
        first.copy_(1e-3 * torch.randn(first.shape, generator=_generator(seed)))
        batch.biases[0].zero_()
    return a, b


@BOTH_SYMMETRIES
def test_a_pair_led_astray_is_redone_from_the_identity(symmetry: str) -> None:
    a, b = _misleading_pairs()
    unaligned = squared_distance(a, b)
    from_incoming = WeightMatching(a, b, signed=False)
    from_incoming.assign_from_incoming()
    from_incoming.descend()
    assert (from_incoming.squared_distance() > unaligned).any(), "the test's own premise"
    assert (squared_distance(a, align(a, b, symmetry).aligned) <= unaligned).all()


@settings(max_examples=20, deadline=None)
@given(architecture=_architectures(), seed=SEEDS)
def test_signed_is_never_worse_than_unsigned(architecture: INRArchitecture, seed: int) -> None:
    a, b = _random_batch(architecture, 8, seed), _random_batch(architecture, 8, seed + 1)
    unsigned, signed = (squared_distance(a, align(a, b, s).aligned) for s in SYMMETRIES)
    assert (signed <= unsigned + 1e-12).all()


@BOTH_SYMMETRIES
def test_no_layers_assignment_can_be_bettered(symmetry: str) -> None:
    a, b = _random_batch(DEEP, 40, 0), _random_batch(DEEP, 40, 1)
    aligned = align(a, b, symmetry).aligned
    for layer in range(len(DEEP.hidden_widths)):
        scores = (
            a.weights[layer] @ aligned.weights[layer].mT
            + a.biases[layer][:, :, None] * aligned.biases[layer][:, None, :]
            + a.weights[layer + 1].mT @ aligned.weights[layer + 1]
        )
        gains = scores.abs() if symmetry == "signed_permutation" else scores
        best = gains.gather(2, solve_assignments(gains)[..., None]).sum(dim=(1, 2))
        standing = scores.diagonal(dim1=1, dim2=2).sum(dim=1)
        torch.testing.assert_close(standing, best)


@EVERY_CASE
def test_keeps_the_function_and_says_how_it_moved(
    architecture: INRArchitecture, symmetry: str
) -> None:
    a, b = _random_batch(architecture, 10, 0), _random_batch(architecture, 10, 1)
    alignment = align(a, b, symmetry)
    size = (7, architecture.in_features)
    x = torch.rand(size, generator=_generator(2), dtype=torch.float64)
    torch.testing.assert_close(evaluate_inrs(alignment.aligned, x), evaluate_inrs(b, x))
    moved = permute_neurons(b, alignment.permutations, alignment.signs)
    assert torch.equal(moved.parameters, alignment.aligned.parameters)
    for n, permutation, sign in zip(
        architecture.hidden_widths, alignment.permutations, alignment.signs, strict=True
    ):
        assert torch.equal(permutation.sort(dim=1).values, torch.arange(n).expand(10, n))
        assert sign.abs().eq(1).all()
        assert symmetry == "signed_permutation" or sign.eq(1).all()


def _every_signed_order(n: int) -> list[tuple[Tensor, Tensor]]:
    orders = itertools.permutations(range(n))
    signs = list(itertools.product((1.0, -1.0), repeat=n))
    return [
        (torch.tensor(order)[None], torch.tensor(sign, dtype=torch.float64)[None])
        for order in orders
        for sign in signs
    ]


@BOTH_SYMMETRIES
def test_finds_the_optimum_of_one_hidden_layer(symmetry: str) -> None:
    architecture = INRArchitecture((2, 4, 1))
    a, b = _random_batch(architecture, 10, 0), _random_batch(architecture, 10, 1)
    every = [
        squared_distance(a, permute_neurons(b, [order.expand(10, -1)], [sign.expand(10, -1)]))
        for order, sign in _every_signed_order(4)
        if symmetry == "signed_permutation" or sign.eq(1).all()
    ]
    best = torch.stack(every).amin(dim=0)
    torch.testing.assert_close(squared_distance(a, align(a, b, symmetry).aligned), best)


@BOTH_SYMMETRIES
def test_a_pair_does_not_depend_on_its_batch(symmetry: str) -> None:
    a, b = _random_batch(DEEP, 12, 0), _random_batch(DEEP, 12, 1)
    together = align(a, b, symmetry).aligned.parameters
    alone = [align(a[i : i + 1], b[i : i + 1], symmetry).aligned.parameters for i in range(12)]
    assert torch.equal(together, torch.cat(alone))


@BOTH_SYMMETRIES
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("size", [0, 1, 3])
def test_any_size_and_dtype_and_inputs_untouched(
    symmetry: str, dtype: torch.dtype, size: int
) -> None:
    a, b = (_random_batch(DEEP, size, seed, dtype) for seed in (0, 1))
    before = a.parameters.clone(), b.parameters.clone()
    alignment = align(a, b, symmetry)
    assert alignment.aligned.parameters.dtype == dtype
    assert all(sign.dtype == dtype for sign in alignment.signs)
    assert torch.equal(a.parameters, before[0])
    assert torch.equal(b.parameters, before[1])
    assert (squared_distance(a, alignment.aligned) <= squared_distance(a, b)).all()


def test_sign_of_zero_is_plus() -> None:
    a = _random_batch(DEEP, 3, 0)
    zero = a.replace(parameters=torch.zeros_like(a.parameters))
    for pair in ((a, zero), (zero, a), (zero, zero)):
        alignment = align(*pair, "signed_permutation")
        assert all(sign.eq(1).all() for sign in alignment.signs)


def test_labels_and_ids_stay_with_the_moved_inr() -> None:
    a, b = _random_batch(DEEP, 3, 0), _random_batch(DEEP, 3, 1)
    b = b.replace(label=torch.tensor([4, 5, 6]), target=torch.rand(3, 7, generator=_generator(0)))
    aligned = align(a, b).aligned
    for name in ("label", "object_id", "view", "target"):
        assert torch.equal(getattr(aligned, name), getattr(b, name))


def test_refusals_name_what_is_wrong() -> None:
    sine, relu = _random_batch(DEEP, 3, 0), _random_batch(RELU, 3, 0)
    with pytest.raises(ValueError, match=r"symmetry must be one of .*got 'sign'"):
        align(sine, sine, "sign")
    with pytest.raises(ValueError, match=r"sine INRs alone .*got activation 'relu'"):
        align(relu, relu, "signed_permutation")
    with pytest.raises(ValueError, match="of one architecture and as many"):
        align(sine, relu)
    with pytest.raises(ValueError, match=r"of one architecture and as many, got 3 of .* and 2 of"):
        align(sine, sine[:2])
    broken = sine.replace(parameters=torch.full_like(sine.parameters, torch.nan))
    with pytest.raises(DataError, match="cannot be aligned"):
        align(sine, broken)


def test_midpoint_error_is_zero_where_a_line_connects_the_signals() -> None:
    architecture = INRArchitecture((2, 8, 1))
    a, b = _random_batch(architecture, 5, 0), _random_batch(architecture, 5, 1)
    linear = a.parameters.clone()
    linear[:, architecture.weight_slices[-1].start :] *= -3  # the last layer alone differs
    x = torch.rand(50, 2, generator=_generator(2), dtype=torch.float64)
    assert midpoint_error(a, a.replace(parameters=linear), x).max() < 1e-20
    signals = (evaluate_inrs(a, x) + evaluate_inrs(b, x)) / 2
    middle = evaluate_inrs(a.replace(parameters=(a.parameters + b.parameters) / 2), x)
    expected = ((middle - signals) ** 2).mean(dim=(1, 2))
    torch.testing.assert_close(midpoint_error(a, b, x), expected)


@settings(max_examples=30, deadline=None)
@given(architecture=_architectures(), signed=st.booleans(), seed=SEEDS)
def test_finds_what_plain_operations_find(
    architecture: INRArchitecture, signed: bool, seed: int
) -> None:
    a, b = _random_batch(architecture, 5, seed), _random_batch(architecture, 5, seed + 1)
    found, expected = match_on_cpu(a, b, signed, 1e-12), match_at_once(a, b, signed)
    for own, other in zip(found, expected, strict=True):
        assert torch.equal(own, other)


@BOTH_SYMMETRIES
def test_threads_change_no_bit(symmetry: str) -> None:
    a, b = _random_batch(DEEP, 40, 0), _random_batch(DEEP, 40, 1)
    expected = align(a, b, symmetry).aligned.parameters
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        assert torch.equal(align(a, b, symmetry).aligned.parameters, expected)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, 1e200])
def test_weights_that_cannot_be_compared_are_named(value: float) -> None:
    a, b = _random_batch(DEEP, 40, 0), _random_batch(DEEP, 40, 1)
    b.parameters[33, 2] = value
    with pytest.raises(DataError, match="the weights of pair 33 of the batch are not finite, or"):
        align(a, b)
