import copy
import warnings

import pytest
import torch

from lightning_dws import INRArchitecture, WeightBatch
from lightning_dws.models import (
    NFN,
    DWSNet,
    FlatMLP,
    NeuralGraphGNN,
    NeuralGraphTransformer,
    ProbeGen,
    Standardize,
)

ARCHITECTURE = INRArchitecture((2, 5, 1))


def make_rows(size=50, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(size, ARCHITECTURE.num_parameters, generator=generator, dtype=dtype)
    return 3 + 0.2 * rows


def test_is_the_identity_before_fit():
    rows = make_rows()
    assert torch.equal(Standardize(ARCHITECTURE)(rows), rows)


def test_every_tensor_gets_mean_zero_and_std_one():
    rows, standardize = make_rows(), Standardize(ARCHITECTURE)
    standardize.fit(rows)
    batch = WeightBatch.from_parameters(ARCHITECTURE, standardize(rows))
    for tensor in [*batch.weights, *batch.biases]:
        assert tensor.mean().abs() < 1e-5
        assert (tensor.std() - 1).abs() < 1e-5


def test_statistics_are_per_tensor_in_row_order():
    rows, standardize = make_rows(dtype=torch.float64), Standardize(ARCHITECTURE).double()
    standardize.fit(rows)
    batch = WeightBatch.from_parameters(ARCHITECTURE, rows)
    tensors = [batch.weights[0], batch.biases[0], batch.weights[1], batch.biases[1]]
    torch.testing.assert_close(standardize.mean, torch.stack([t.mean() for t in tensors]))
    torch.testing.assert_close(standardize.std, torch.stack([t.std() for t in tensors]))


def test_chunks_count_as_one_table():
    rows, whole, parts = make_rows(), Standardize(ARCHITECTURE), Standardize(ARCHITECTURE)
    whole.fit(rows)
    parts.fit(chunk for chunk in (rows[:0], rows[:1], rows[1:30], rows[30:]))
    torch.testing.assert_close(parts.mean, whole.mean)
    torch.testing.assert_close(parts.std, whole.std)


def test_a_large_offset_costs_no_precision():
    rows, standardize = 1e6 + make_rows(dtype=torch.float64), Standardize(ARCHITECTURE).double()
    standardize.fit(rows)
    expected = WeightBatch.from_parameters(ARCHITECTURE, rows).weights[0].std()
    torch.testing.assert_close(standardize.std[0], expected, rtol=1e-9, atol=0)


def test_a_std_of_zero_or_of_one_value_counts_as_one():
    standardize = Standardize(ARCHITECTURE)
    standardize.fit(torch.full((30, ARCHITECTURE.num_parameters), 0.1))
    assert standardize.std.tolist() == [1.0] * 4
    standardize.fit(make_rows(1))
    assert standardize.std[3] == 1  # the last bias: one value
    assert (standardize.std[:3] != 1).all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_keeps_the_dtype(dtype):
    standardize = Standardize(ARCHITECTURE)
    standardize.fit(make_rows())
    assert standardize(make_rows(dtype=dtype)).dtype == dtype


def test_statistics_are_in_the_state_dict_alone():
    assert set(Standardize(ARCHITECTURE).state_dict()) == {"mean", "std"}
    assert not list(Standardize(ARCHITECTURE).parameters())


def test_bad_rows_are_refused():
    with pytest.raises(ValueError, match=r"parameters must have shape \(N, 21\), got \(3, 4\)"):
        Standardize(ARCHITECTURE).fit(torch.zeros(3, 4))
    with pytest.raises(ValueError, match="at least one row, got none"):
        Standardize(ARCHITECTURE).fit([])


@pytest.mark.parametrize("decay", [0.9, 0.995, 0.9995])
def test_averaging_the_buffers_keeps_what_each_entry_belongs_to(decay: float) -> None:
    """As Lightning's EMAWeightAveraging does, with buffers."""
    network = DWSNet(INRArchitecture((2, 5, 4, 1)), num_classes=3, hidden_dim=4, num_heads=2)
    batch = WeightBatch.from_parameters(
        network.architecture, torch.randn(6, network.architecture.num_parameters)
    )
    network.standardize.fit(batch.parameters * 3 + 1)
    network.eval()
    average = torch.optim.swa_utils.AveragedModel(
        network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(decay), use_buffers=True
    )
    for _ in range(3):
        average.update_parameters(network)
    torch.testing.assert_close(average.module(batch), network(batch))


def identity_warnings(standardize: Standardize, times: int = 3) -> int:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(times):
            standardize(make_rows())
    return sum("network.standardize.fit(parameters)" in str(w.message) for w in caught)


def test_training_on_raw_weights_is_told_once():
    standardize = Standardize(ARCHITECTURE)
    assert identity_warnings(standardize.eval()) == 0
    assert identity_warnings(standardize.train()) == 1


def test_nothing_is_told_of_what_is_fitted_loaded_or_kept_on_purpose():
    fitted, loaded, kept, set_by_hand = (Standardize(ARCHITECTURE) for _ in range(4))
    fitted.fit(make_rows())
    loaded.load_state_dict(Standardize(ARCHITECTURE).state_dict())
    kept.keep_identity()
    set_by_hand.mean.fill_(1)
    for standardize in (fitted, loaded, kept, set_by_hand, copy.deepcopy(fitted)):
        assert identity_warnings(standardize.train()) == 0
    assert list(fitted.state_dict()) == ["mean", "std"]


@pytest.mark.parametrize("spread", [1e-42, 1e-38, 0.0])
def test_a_spread_too_small_to_divide_by_counts_as_none(spread):
    """The reciprocal of a subnormal number is infinite."""
    standardize = Standardize(ARCHITECTURE)
    rows = make_rows()
    rows[:, :10] *= spread  # the first matrix
    standardize.fit(rows)
    assert standardize.std[0] == 1
    assert standardize(rows).isfinite().all()


@pytest.mark.parametrize("network", [DWSNet, FlatMLP, NeuralGraphGNN, NeuralGraphTransformer, NFN])
def test_weights_of_subnormal_spread_train_every_network(network):
    rows = torch.randn(8, ARCHITECTURE.num_parameters) * 1e-42
    model = network(ARCHITECTURE, 3)
    model.standardize.fit(rows)
    logits = model(WeightBatch.from_parameters(ARCHITECTURE, rows))
    logits.sum().backward()
    assert logits.isfinite().all()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize(
    "network", [DWSNet, FlatMLP, NeuralGraphGNN, NeuralGraphTransformer, NFN, ProbeGen]
)
@pytest.mark.parametrize("other", [{"w0": 5.0}, {"activation": "relu"}, {"widths": (2, 6, 1)}])
def test_inrs_of_another_architecture_are_refused(network, other):
    found = INRArchitecture(**{"widths": ARCHITECTURE.widths, **other})
    rows = torch.zeros(2, found.num_parameters)
    [name] = other
    with pytest.raises(ValueError, match=f"{name} .*{getattr(ARCHITECTURE, name)}") as error:
        network(ARCHITECTURE, 3).eval()(WeightBatch.from_parameters(found, rows))
    assert str(getattr(found, name)) in str(error.value)
