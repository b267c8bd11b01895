import dataclasses
import itertools
import json
import math

import pytest
import torch
from torch import Tensor

from lightning_dws.errors import DataError
from lightning_dws.inrs.fitting import RECIPES, Recipe, fit_inrs, fitting, refitting
from lightning_dws.inrs.fitting.chunk import Chunk
from lightning_dws.inrs.fitting.fitting import fit_chunk
from lightning_dws.inrs.fitting.optimizers import KroneckerFactored
from lightning_dws.inrs.fitting.spd_inverse import invert_spd
from lightning_dws.inrs.siren import evaluate_inrs, initialise_inrs, neuron_activations
from lightning_dws.sine_kernel import sine_kernel
from lightning_dws.weight_space import INRArchitecture, WeightBatch

DIGITS_LIKE = INRArchitecture((2, 16, 16, 1), w0=10.0)
WAYS_TO_FIT = {  # with targets that some INRs of the tests below reach
    "adam": Recipe(40, learning_rate=1e-2, target_psnr=28.0, check_every=3),
    "some points": Recipe(
        40, learning_rate=1e-2, points_per_step=29, target_psnr=26.5, check_every=3
    ),
    "kfac": Recipe(
        7, learning_rate=1.0, optimizer="kfac", damping=1e-2, target_psnr=36.0, check_every=2
    ),
}


def make_points(num_points: int, d: int = 2, *batch: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.rand(*batch, num_points, d, generator=generator) - 1


def make_signals(coordinates: Tensor, num_inrs: int, out: int = 1, seed: int = 1) -> Tensor:
    """Smooth random functions of the points, some nearly constant and so fitted early."""
    generator = torch.Generator().manual_seed(seed)
    direction = torch.randn(num_inrs, coordinates.shape[-1], out, generator=generator)
    phase = 6 * torch.rand(num_inrs, 1, out, generator=generator)
    contrast = torch.linspace(0.02, 0.5, num_inrs)[:, None, None]
    return 0.5 + contrast * torch.sin(3 * coordinates @ direction + phase)


def fit(
    signals: Tensor,
    coordinates: Tensor,
    architecture: INRArchitecture,
    recipe: Recipe,
    rows: Tensor | None = None,
    **options: object,
) -> tuple[WeightBatch, Tensor]:
    """Fit some of the signals; an INR's object is its number among all of them."""
    rows = torch.arange(len(signals)) if rows is None else rows
    return fit_inrs(
        signals[rows],
        coordinates if coordinates.ndim == 2 else coordinates[rows],
        architecture,
        recipe=recipe,
        seed=3,
        object_id=100 + rows,
        view=torch.zeros_like(rows),
        **options,
    )


@pytest.fixture
def restored_threads():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("restored_threads")
@pytest.mark.parametrize("way", WAYS_TO_FIT)
@pytest.mark.parametrize("own_points", [False, True], ids=["shared", "own"])
@pytest.mark.parametrize(
    ("widths", "activation", "num_points", "num_inrs", "share_of_steps"),
    [
        ((2, 32, 32, 1), "sine", 784, 16, 0.2),
        ((2, 16, 16, 1), "sine", 64, 23, 0.5),
        ((2, 8, 1), "sine", 64, 23, 1),
        ((2, 5, 1), "sine", 37, 23, 1),
        ((2, 9, 7, 1), "sine", 37, 11, 0.4),
        ((3, 16, 16, 16, 2), "sine", 101, 23, 0.3),
        ((2, 16, 16, 1), "relu", 64, 23, 0.5),
        ((2, 130, 1), "sine", 37, 11, 0.5),  # too wide for lanes
    ],
)
def test_an_inr_is_the_same_bit_for_bit_whatever_it_is_fitted_with(
    widths: tuple[int, ...],
    activation: str,
    num_points: int,
    num_inrs: int,
    share_of_steps: float,
    own_points: bool,
    way: str,
) -> None:
    architecture = INRArchitecture(widths, activation)
    batch = (num_inrs,) if own_points else ()
    coordinates = make_points(num_points, widths[0], *batch)
    signals = make_signals(coordinates, num_inrs, widths[-1])
    recipe = WAYS_TO_FIT[way]
    recipe = dataclasses.replace(recipe, steps=int(share_of_steps * recipe.steps))
    everything = torch.arange(num_inrs)
    torch.set_num_threads(1)
    expected, expected_psnr = fit(signals, coordinates, architecture, recipe)

    def assert_same(rows: Tensor, chunk_size: int | None) -> None:
        fitted, psnr = fit(signals, coordinates, architecture, recipe, rows, chunk_size=chunk_size)
        assert torch.equal(fitted.parameters, expected.parameters[rows])
        assert torch.equal(psnr, expected_psnr[rows])
        assert torch.equal(fitted.object_id, 100 + rows)

    for chunk_size in (1, 2, 5, 7, num_inrs):
        assert_same(everything, chunk_size)
    assert_same(everything.flip(0), 4)
    assert_same(everything[-3:], None)
    assert_same(everything[:1], None)
    torch.set_num_threads(2)
    assert_same(everything, 5)
    assert_same(everything.flip(0), None)
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("way", WAYS_TO_FIT)
def test_some_of_the_inrs_in_the_test_above_stop_early(way: str) -> None:
    coordinates = make_points(64)
    recipe = WAYS_TO_FIT[way]
    signals = make_signals(coordinates, 23)
    _, psnr = fit(signals, coordinates, INRArchitecture((2, 16, 16, 1)), recipe)
    assert 3 < int((psnr > recipe.target_psnr).sum()) < 20


def test_inrs_that_stopped_leave_the_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refitting, "_LOWER_RATES", ())  # the first fit alone is looked at
    monkeypatch.setattr(fitting, "takes_lanes", lambda *arguments: False)
    sizes = []
    forward = Chunk.forward
    monkeypatch.setattr(
        Chunk, "forward", lambda chunk: (sizes.append(len(chunk)), forward(chunk))[1]
    )
    coordinates = make_points(64)
    recipe = Recipe(80, learning_rate=1e-2, target_psnr=24.0, check_every=3)
    signals = make_signals(coordinates, 24)
    _, psnr = fit(signals, coordinates, INRArchitecture((2, 16, 16, 1)), recipe, chunk_size=24)
    assert sizes[0] == 24
    assert len(set(sizes)) > 2
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] <= max(2, int((psnr < 24).sum()) * 2 + 1)


@pytest.mark.parametrize("activation", ["sine", "relu"])
@pytest.mark.parametrize("widths", [(2, 7, 1), (3, 5, 6, 4, 2)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-5)])
def test_gradients_agree_with_autograd(
    widths: tuple[int, ...], activation: str, dtype: torch.dtype, tolerance: float
) -> None:
    architecture = INRArchitecture(widths, activation, w0=7.0)
    coordinates = make_points(37, widths[0])
    signals = make_signals(coordinates, 4, widths[-1]).to(dtype)
    coordinates = coordinates.to(dtype)
    batch = initialise_inrs(
        architecture, seed=0, object_id=torch.arange(4), view=torch.zeros(4, dtype=torch.int64)
    ).to(dtype)
    chunk = Chunk(architecture, batch.parameters, signals, coordinates)
    chunk.forward()
    chunk.backward()

    parameters = batch.parameters.clone().requires_grad_()
    fitted = evaluate_inrs(batch.replace(parameters=parameters), coordinates)
    errors = (fitted - signals).square().mean(dim=(1, 2))
    (expected,) = torch.autograd.grad(errors.sum(), parameters)
    torch.testing.assert_close(
        chunk.rows(chunk.gradients), expected, rtol=tolerance, atol=tolerance
    )
    torch.testing.assert_close(
        chunk.mean_squared_error(), errors.detach(), rtol=tolerance, atol=tolerance
    )


def test_the_sine_kernel_agrees_with_torch_wherever_an_element_stands() -> None:
    turns = torch.cat([torch.linspace(-40, 40, 99_997), torch.tensor([0.0, 0.5, -0.25])])
    radians = 2 * math.pi * turns.double()
    sine, slope = torch.empty_like(turns), turns.clone()
    sine_kernel()(slope[None].numpy(), sine[None].numpy())
    for start, stop in ((0, 7), (5, 38), (99, 100), (3, 4096)):
        part_sine, part_slope = torch.empty(2, stop - start + 3), turns[start:stop].clone()
        sine_kernel()(part_slope[None].numpy(), part_sine[:1].numpy())
        assert torch.equal(part_sine[0, :-3], sine[start:stop])
        assert torch.equal(part_slope, slope[start:stop])
    torch.testing.assert_close(sine.double(), radians.sin(), rtol=0, atol=6e-7)
    torch.testing.assert_close(slope.double(), radians.cos(), rtol=0, atol=8e-7)


def test_blocks_of_points_take_turns_and_hold_every_point_once() -> None:
    coordinates, signals = make_points(50), make_signals(make_points(50), 4)
    start = initialise_inrs(
        DIGITS_LIKE, seed=0, object_id=torch.arange(4), view=torch.zeros(4, dtype=torch.int64)
    )
    chunk = Chunk(DIGITS_LIKE, start.parameters, signals, coordinates, points_per_step=20)
    assert [block.num_points for block in chunk.blocks] == [17, 17, 16]
    used = torch.cat([block.inputs[0, :2, : block.num_points].T for block in chunk.blocks])
    assert sorted(map(tuple, used.tolist())) == sorted(map(tuple, coordinates.tolist()))
    assert not torch.equal(used, coordinates)
    for step in (1, 2, 3, 4, 6):
        chunk.use_block(step)
        chunk.forward()
        chunk.backward()
        block = chunk.blocks[(step - 1) % 3]
        points = block.inputs[0, :2, : block.num_points].T
        parameters = start.parameters.clone().requires_grad_()
        values = evaluate_inrs(start.replace(parameters=parameters), points)
        errors = (values - 0.5 - block.target.mT).square().mean(dim=(1, 2))
        (expected,) = torch.autograd.grad(errors.sum(), parameters)
        torch.testing.assert_close(chunk.rows(chunk.gradients), expected, rtol=2e-5, atol=2e-5)
    everything = (evaluate_inrs(start, coordinates) - signals).square().mean(dim=(1, 2))
    torch.testing.assert_close(chunk.mean_squared_error(), everything)


@pytest.mark.parametrize("out", [1, 2])
def test_kfac_directions_are_gradients_between_damped_inverse_moments(out: int) -> None:
    architecture = INRArchitecture((2, 6, 5, out), w0=4.0)
    coordinates = make_points(21).double()
    signals = make_signals(coordinates.float(), 1, out=out).double()
    keys = {"object_id": torch.arange(1), "view": torch.zeros(1, dtype=torch.int64)}
    inr = initialise_inrs(architecture, seed=0, **keys).to(torch.float64)
    chunk = Chunk(architecture, inr.parameters, signals, coordinates)
    kfac = KroneckerFactored(chunk, Recipe(9, 1.0, optimizer="kfac"))
    chunk.forward()
    kfac._differentiate()
    directions = kfac._directions(damping=1e-2)

    def outputs(parameters: Tensor) -> Tensor:
        return evaluate_inrs(inr.replace(parameters=parameters[None]), coordinates)[0]

    jacobian = torch.func.jacrev(outputs)(inr.parameters[0])  # (points, out, P)
    error = (outputs(inr.parameters[0]) - signals[0])[..., None]
    gradient = (jacobian * error).sum(dim=(0, 1)) / 21
    hidden = [coordinates, *(values[0] for values in neuron_activations(inr, coordinates))]
    for layer, direction in enumerate(directions):
        weight, bias = architecture.weight_slices[layer], architecture.bias_slices[layer]
        n_out = architecture.widths[layer + 1]
        grad = torch.cat([gradient[weight].view(n_out, -1).T, gradient[bias][None]])
        inputs = torch.cat([hidden[layer], torch.ones(21, 1)], dim=1).double()
        below = inputs.T @ inputs / 21
        above = torch.einsum("nom,nok->mk", jacobian[..., bias], jacobian[..., bias]) / 21
        expected = grad
        for moments, side in ((below, "left"), (above, "right")):
            if side == "right" and layer == 2:
                continue  # the identity
            damped = moments + 0.1 * moments.diagonal().mean() * torch.eye(len(moments))
            inverse = torch.linalg.inv(damped)
            expected = inverse @ expected if side == "left" else expected @ inverse
        torch.testing.assert_close(direction[0], expected)


@pytest.mark.parametrize("activation", ["sine", "relu"])
def test_kfac_searches_along_what_the_weights_do_to_the_outputs(activation: str) -> None:
    architecture = INRArchitecture((2, 6, 5, 2), activation, w0=4.0)
    coordinates = make_points(21).double()
    signals = make_signals(coordinates.float(), 2, out=2).double()
    keys = {"object_id": torch.arange(2), "view": torch.zeros(2, dtype=torch.int64)}
    start = initialise_inrs(architecture, seed=0, **keys).to(torch.float64)
    chunk = Chunk(architecture, start.parameters, signals, coordinates)
    kfac = KroneckerFactored(chunk, Recipe(9, 1.0, optimizer="kfac"))
    for step in (1, 2):
        before = chunk.rows(chunk.weights)
        kfac.step(step)
        after = chunk.rows(chunk.weights)

        def outputs(parameters: Tensor) -> Tensor:
            return evaluate_inrs(start.replace(parameters=parameters), coordinates)

        values, moved = torch.func.jvp(outputs, (before,), (before - after,))
        error = (values - signals).flatten(1)
        effects = kfac.effects[..., :21].permute(0, 1, 3, 2).flatten(2)
        best = torch.linalg.lstsq(effects.mT, error[..., None], driver="gelsd").solution
        torch.testing.assert_close(
            moved.flatten(1), (effects.mT @ best)[..., 0], rtol=2e-3, atol=2e-5
        )
        assert (error - moved.flatten(1)).norm() < error.norm()


def test_kfac_refuses_steps_that_raise_the_error_by_far(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refitting, "_LOWER_RATES", ())  # the first fit alone is looked at
    coordinates = make_points(64)
    signals = make_signals(coordinates, 6)
    recipe = Recipe(6, 1.0, optimizer="kfac", damping=1e-2)
    search, calls = KroneckerFactored._line_search, []

    def far_too_long(self: KroneckerFactored, *changes: list[Tensor]) -> Tensor:
        share = search(self, *changes)
        calls.append(self.caution.clone())
        return torch.where(torch.arange(len(share))[:, None, None, None] == 1, 1e6, 1.0) * share

    monkeypatch.setattr(KroneckerFactored, "_line_search", far_too_long)
    fitted, psnr = fit(signals, coordinates, DIGITS_LIKE, recipe, chunk_size=6)
    keys = {"object_id": 100 + torch.arange(6), "view": torch.zeros(6, dtype=torch.int64)}
    start = initialise_inrs(DIGITS_LIKE, seed=3, **keys)
    assert torch.equal(fitted.parameters[1], start.parameters[1])
    assert psnr[[0, 2, 3, 4, 5]].min() > 25
    assert calls[-1][1] > 100 * calls[-1][0]


def test_kfac_goes_on_where_a_layer_of_relus_is_dead() -> None:
    coordinates = make_points(30)
    relu = INRArchitecture((2, 4, 4, 1), "relu", output_offset=0.0)
    parameters = torch.zeros(2, relu.num_parameters)
    parameters[:, relu.bias_slices[0]] = -5.0
    chunk = Chunk(relu, parameters, make_signals(coordinates, 2), coordinates)
    fitted, psnr = fit_chunk(chunk, Recipe(3, 1.0, optimizer="kfac"))
    assert fitted.isfinite().all()
    constant = (chunk.signals - chunk.signals.mean(dim=1, keepdim=True)).square().mean(dim=(1, 2))
    torch.testing.assert_close(psnr, -10 * constant.log10(), rtol=0, atol=1e-2)


@pytest.mark.parametrize("size", [1, 2, 7, 33])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-4), (torch.float64, 1e-12)])
def test_small_positive_definite_matrices_are_inverted(
    size: int, dtype: torch.dtype, tolerance: float
) -> None:
    factor = torch.randn(5, size, 2 * size, generator=torch.Generator().manual_seed(0))
    matrices = (factor @ factor.mT / size + 0.1 * torch.eye(size)).to(dtype)
    inverses = invert_spd(matrices.clone())
    identity = torch.eye(size, dtype=dtype).expand(5, -1, -1)
    torch.testing.assert_close(matrices @ inverses, identity, rtol=0, atol=tolerance)
    assert torch.equal(invert_spd(matrices[3:4].clone()), inverses[3:4])
    assert not invert_spd(torch.zeros(1, size, size, dtype=dtype)).isfinite().all()


@pytest.mark.parametrize("schedule", ["constant", "cosine", "linear"])
def test_steps_are_those_of_torch_adam(schedule: str) -> None:
    recipe = Recipe(25, learning_rate=3e-3, schedule=schedule, warmup_steps=4, betas=(0.8, 0.95))
    coordinates = make_points(50)
    signals = make_signals(coordinates, 3).double()
    coordinates = coordinates.double()
    keys = {"object_id": torch.arange(3), "view": torch.zeros(3, dtype=torch.int64)}
    start = initialise_inrs(DIGITS_LIKE, seed=0, **keys).to(torch.float64)
    fitted, _ = fit_chunk(Chunk(DIGITS_LIKE, start.parameters, signals, coordinates), recipe)

    parameters = torch.nn.Parameter(start.parameters.clone())
    adam = torch.optim.Adam([parameters], betas=recipe.betas)
    for step in range(1, recipe.steps + 1):
        adam.param_groups[0]["lr"] = recipe.learning_rate_at(step)
        adam.zero_grad()
        values = evaluate_inrs(start.replace(parameters=parameters), coordinates)
        (values - signals).square().mean(dim=(1, 2)).sum().backward()
        adam.step()
    torch.testing.assert_close(fitted, parameters.detach(), rtol=1e-7, atol=1e-9)


def test_psnr_is_that_of_the_returned_weights() -> None:
    coordinates = make_points(64)
    signals = make_signals(coordinates, 12)
    fitted, psnr = fit(
        signals, coordinates, DIGITS_LIKE, Recipe(60, learning_rate=5e-3, target_psnr=26.0)
    )
    error = (evaluate_inrs(fitted, coordinates) - signals).square().mean(dim=(1, 2))
    torch.testing.assert_close(psnr, -10 * error.log10(), rtol=0, atol=1e-3)
    assert psnr.dtype == torch.float32


def test_a_perfect_fit_has_a_finite_psnr() -> None:
    relu = INRArchitecture((2, 4, 1), "relu", output_offset=0.0)
    chunk = Chunk(relu, torch.zeros(2, relu.num_parameters), torch.zeros(2, 9, 1), make_points(9))
    _, psnr = fit_chunk(chunk, Recipe(3, learning_rate=1e-3))
    assert psnr.tolist() == [150.0, 150.0]


def test_an_inr_that_reached_the_target_is_frozen() -> None:
    coordinates = make_points(64)
    signals = make_signals(coordinates, 10)
    recipe = Recipe(80, learning_rate=5e-3, target_psnr=27.0, check_every=20)
    frozen, psnr = fit(signals, coordinates, DIGITS_LIKE, recipe)
    stages = []
    for steps in (20, 40, 60, 80):
        shorter = dataclasses.replace(recipe, steps=steps, target_psnr=None)
        stages.append(fit(signals, coordinates, DIGITS_LIKE, shorter))
    stopped_at = set()
    for row in range(10):
        stage = next((i for i, (_, p) in enumerate(stages) if p[row] >= 27.0), 3)
        stopped_at.add(stage)
        assert torch.equal(frozen.parameters[row], stages[stage][0].parameters[row])
        assert psnr[row] == stages[stage][1][row]
    assert len(stopped_at) > 1


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_named_recipes_fit(name: str) -> None:
    coordinates = make_points(400)
    signals = make_signals(coordinates, 8)
    architecture = INRArchitecture((2, 32, 32, 1))
    _, psnr = fit(signals, coordinates, architecture, RECIPES[name])
    assert psnr.mean() > {"exact": 50, "wide": 28}.get(name, 35)


def test_signals_in_more_dimensions_with_more_outputs_and_own_points_are_fitted() -> None:
    coordinates = make_points(200, 3, 6)
    signals = make_signals(coordinates, 6, out=2)
    architecture = INRArchitecture((3, 16, 16, 16, 2), w0=5.0)
    fitted, psnr = fit(signals, coordinates, architecture, Recipe(200, learning_rate=5e-3))
    assert psnr.min() > 25
    swapped, _ = fit(signals, coordinates.flip(0), architecture, Recipe(200, learning_rate=5e-3))
    assert not torch.equal(fitted.parameters, swapped.parameters)


def test_relu_networks_are_fitted() -> None:
    coordinates = make_points(64)
    signals = make_signals(coordinates, 6)
    architecture = INRArchitecture((2, 32, 32, 1), "relu")
    _, psnr = fit(signals, coordinates, architecture, Recipe(300, learning_rate=5e-3))
    assert psnr.min() > 25


def test_inputs_are_untouched_and_seed_object_and_view_matter() -> None:
    coordinates, recipe = make_points(64), Recipe(5, learning_rate=1e-3)
    signals = make_signals(coordinates, 1).expand(4, -1, -1)
    before = signals.clone(), coordinates.clone()
    keys = {"object_id": torch.tensor([1, 1, 2, 1]), "view": torch.tensor([0, 1, 0, 0])}
    fitted, _ = fit_inrs(signals, coordinates, DIGITS_LIKE, recipe=recipe, seed=0, **keys)
    other, _ = fit_inrs(signals, coordinates, DIGITS_LIKE, recipe=recipe, seed=1, **keys)
    assert torch.equal(signals, before[0])
    assert torch.equal(coordinates, before[1])
    assert torch.equal(fitted.parameters[0], fitted.parameters[3])
    assert len({tuple(row) for row in fitted.parameters.tolist()}) == 3
    assert not torch.equal(fitted.parameters, other.parameters)
    assert torch.equal(fitted.view, keys["view"])


def test_first_layer_bound_is_that_of_the_initialisation() -> None:
    coordinates, rows = make_points(64), torch.arange(3)
    keys = {"object_id": 100 + rows, "view": torch.zeros_like(rows)}
    for bound in (None, 0.5):
        start = initialise_inrs(DIGITS_LIKE, seed=3, first_layer_bound=bound, **keys)
        recipe = Recipe(1, learning_rate=1e-12, first_layer_bound=bound)
        fitted, _ = fit(make_signals(coordinates, 3), coordinates, DIGITS_LIKE, recipe)
        torch.testing.assert_close(fitted.parameters, start.parameters, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("init", "noise", "shared"), [("shared", None, 1.0), ("shared_noise", 0.3, 0.7)]
)
def test_a_recipe_says_where_inrs_start(init: str, noise: float | None, shared: float) -> None:
    coordinates, rows = make_points(64), torch.arange(3)
    keys = {"object_id": 100 + rows, "view": torch.zeros_like(rows)}
    start = initialise_inrs(DIGITS_LIKE, seed=3, shared=shared, **keys)
    recipe = Recipe(1, learning_rate=1e-12, init=init, init_noise=noise)
    fitted, _ = fit(make_signals(coordinates, 3), coordinates, DIGITS_LIKE, recipe)
    torch.testing.assert_close(fitted.parameters, start.parameters, rtol=0, atol=1e-9)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_grad_modes_make_no_difference(mode: type) -> None:
    coordinates, recipe = make_points(64), Recipe(3, learning_rate=1e-3)
    signals = make_signals(coordinates, 6).requires_grad_()
    expected, _ = fit(signals.detach(), coordinates, DIGITS_LIKE, recipe)
    with mode():
        fitted, psnr = fit(signals, coordinates, DIGITS_LIKE, recipe, chunk_size=2)
    assert torch.equal(fitted.parameters, expected.parameters)
    assert not fitted.parameters.requires_grad
    assert not psnr.requires_grad


def test_progress_hears_of_every_chunk() -> None:
    coordinates = make_points(64)
    heard: list[tuple[int, Tensor]] = []
    _, psnr = fit(
        make_signals(coordinates, 11),
        coordinates,
        DIGITS_LIKE,
        Recipe(3, learning_rate=1e-3),
        chunk_size=4,
        progress=lambda count, chunk_psnr: heard.append((count, chunk_psnr)),
    )
    assert [count for count, _ in heard] == [4, 4, 3]
    assert torch.equal(torch.cat([chunk_psnr for _, chunk_psnr in heard]), psnr)


def test_no_inr_is_no_work() -> None:
    coordinates = make_points(64)
    fitted, psnr = fit(
        torch.zeros(0, 64, 1), coordinates, DIGITS_LIKE, Recipe(3, learning_rate=1e-3)
    )
    assert (len(fitted), len(psnr)) == (0, 0)


@pytest.mark.usefixtures("restored_threads")
@pytest.mark.parametrize("threads", [1, 2])
def test_divergence_names_the_inr(threads: int) -> None:
    torch.set_num_threads(threads)
    coordinates = make_points(64)
    signals = make_signals(coordinates, 9)
    signals[6] *= 1e25
    with pytest.raises(DataError, match=r"object_id 106, view 0 diverged"):
        fit(signals, coordinates, DIGITS_LIKE, Recipe(30, learning_rate=1e-3), chunk_size=2)
    with pytest.raises(DataError, match=r"object_id \d+, view 0 diverged"):
        fit(signals[:4], coordinates, DIGITS_LIKE, Recipe(30, learning_rate=1e30))
    assert torch.get_num_threads() == threads


def test_divergence_with_a_finite_loss_is_named_too() -> None:
    architecture = INRArchitecture((2, 8, 8, 1), activation="relu")
    coordinates = make_points(64)
    with pytest.raises(DataError, match=r"view 0 diverged: its loss is not finite, or"):
        fit(make_signals(coordinates, 4), coordinates, architecture, Recipe(30, learning_rate=50.0))


def test_bad_input_is_named() -> None:
    coordinates, recipe = make_points(64), Recipe(3, learning_rate=1e-3)
    signals = make_signals(coordinates, 4)
    good = {
        "signals": signals,
        "coordinates": coordinates,
        "object_id": torch.arange(4),
        "view": torch.zeros(4, dtype=torch.int64),
    }
    not_finite = signals.clone()
    not_finite[2, 5] = math.nan
    bad = [
        ("signals", signals[:, :, 0], r"signals must have shape \(B, N, 1\).*got \(4, 64\)"),
        ("signals", signals.expand(4, 64, 3), r"signals must have shape.*got \(4, 64, 3\)"),
        ("signals", signals[:, :50], r"coordinates must have shape \(50, 2\).*got \(64, 2\)"),
        ("signals", (255 * signals).byte(), "signals must be floating point, got torch.uint8"),
        ("signals", not_finite, "signals must be finite.*object_id 2, view 0"),
        ("coordinates", make_points(64, 3), r"coordinates must have shape.*got \(64, 3\)"),
        ("coordinates", coordinates / 0, "coordinates must be finite"),
        ("coordinates", coordinates.expand(3, 64, 2), r"coordinates.*got \(3, 64, 2\)"),
        ("object_id", torch.arange(3), r"object_id must be int64 of shape \(4,\).*\(3,\)"),
        ("view", torch.zeros(4), r"view must be int64 of shape \(4,\), got torch.float32"),
    ]
    for name, value, message in bad:
        with pytest.raises(DataError, match=message):
            fit_inrs(architecture=DIGITS_LIKE, recipe=recipe, seed=0, **{**good, name: value})
    with pytest.raises(ValueError, match="chunk_size must be at least 1, got 0"):
        fit_inrs(architecture=DIGITS_LIKE, recipe=recipe, seed=0, chunk_size=0, **good)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"learning_rate": -1.0}, "learning_rate must be positive and finite, got -1.0"),
        ({"learning_rate": math.nan}, "learning_rate .* got nan"),
        ({"schedule": "cosin"}, "schedule must be one of .* got 'cosin'"),
        ({"warmup_steps": 10}, r"warmup_steps must be in \[0, steps = 10\), got 10"),
        ({"betas": (0.9, 1.0)}, r"betas must be two numbers in \[0, 1\), got \(0.9, 1.0\)"),
        ({"betas": (0.9,)}, r"betas must be two numbers .* got \(0.9,\)"),
        ({"target_psnr": math.inf}, "target_psnr must be finite or None, got inf"),
        ({"check_every": 0}, "check_every must be at least 1, got 0"),
        ({"first_layer_bound": 0.0}, "first_layer_bound must be positive .* got 0.0"),
        ({"optimizer": "sgd"}, "optimizer must be one of .* got 'sgd'"),
        ({"points_per_step": 0}, "points_per_step must be at least 1, got 0"),
        ({"points_per_step": 8, "optimizer": "kfac"}, "points_per_step must be None for kfac"),
        ({"damping": 0.0}, "damping must be positive and finite, got 0.0"),
        ({"damping_decay": 1.5}, r"damping_decay must be in \(0, 1\], got 1.5"),
        ({"init": "same"}, "init must be one of .* got 'same'"),
        (
            {"init": "shared_noise"},
            r"init_noise must be in \(0, 1\) for init shared_noise, got None",
        ),
        ({"init": "shared_noise", "init_noise": 1.0}, r"init_noise must be in \(0, 1\) .* got 1.0"),
        (
            {"init_noise": 0.5},
            "init_noise is for init shared_noise alone, got 0.5 with init random",
        ),
    ],
)
def test_a_recipe_out_of_range_is_named(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Recipe(**{"steps": 10, "learning_rate": 1e-3, **settings})


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_recipes_are_plain_data(name: str) -> None:
    saved = json.loads(json.dumps(RECIPES[name].settings))
    assert Recipe(**saved) == RECIPES[name]


def test_settings_name_what_differs_and_what_the_first_release_had() -> None:
    known = Recipe(10, 1e-3).settings
    assert set(known) == {
        "steps",
        "learning_rate",
        "schedule",
        "warmup_steps",
        "betas",
        "target_psnr",
        "check_every",
        "first_layer_bound",
    }
    some = Recipe(10, 1e-3, points_per_step=16)
    assert some.settings == {**known, "points_per_step": 16}
    some = Recipe(10, 1e-3, init="shared_noise", init_noise=0.5)
    assert some.settings == {**known, "init": "shared_noise", "init_noise": 0.5}
    assert Recipe(**some.settings) == some


def test_learning_rate_schedules() -> None:
    for schedule in ("constant", "cosine", "linear"):
        recipe = Recipe(20, learning_rate=1.0, schedule=schedule, warmup_steps=4)
        rates = [recipe.learning_rate_at(step) for step in range(1, 21)]
        assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
        assert all(later <= earlier for earlier, later in itertools.pairwise(rates[4:]))
        assert (rates[-1] == 1) == (schedule == "constant")
        assert rates[-1] > 0
