"""Statistics of weights: what they are, what they do not see, and what is predicted from them."""

import json

import pytest
import torch

from lightning_dws import NetworkArchitecture, WeightBatch
from lightning_dws.cli import main
from lightning_dws.errors import DataError
from lightning_dws.inrs import Digits, INRStore
from lightning_dws.zoo import ZooRecipe, ZooSpec, prepare_zoo, score_baselines, statistics_baseline
from lightning_dws.zoo.cnn_shape import CNNShape
from lightning_dws.zoo.statistics_baseline import QUANTILES, weight_statistics

SHAPE = CNNShape((6, 6), 1, (3, 4), 3, 1, 5)
ARCHITECTURE = NetworkArchitecture.from_module(SHAPE.to_sequential(), (1, 6, 6))


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    """CNNs that have taken one step, whose weights tell how they were initialised."""
    training = ZooRecipe(batch_size=16, steps=(1, 1), init_gain=(0.1, 3.0))
    directory = tmp_path_factory.mktemp("zoo") / "store"
    return prepare_zoo(directory, ZooSpec(Digits(), (2,), 3, 2, training), 150, show_progress=False)


@pytest.fixture
def one_setting(monkeypatch):
    """Of the boosted trees: all of them take seconds."""
    monkeypatch.setattr(statistics_baseline, "LEAVES", (7,))
    monkeypatch.setattr(statistics_baseline, "LEARNING_RATES", (0.1,))


def test_statistics_are_those_of_each_tensor():
    rows = torch.randn(3, ARCHITECTURE.num_parameters, dtype=torch.float64)
    batch = WeightBatch.from_parameters(ARCHITECTURE, rows)
    found = weight_statistics(batch).unflatten(1, (-1, 2 + len(QUANTILES)))
    assert found.shape[1] == len(ARCHITECTURE.tensors)
    for number, tensor in enumerate(batch.tensors):
        for row in range(3):
            own = tensor[row].flatten().sort().values
            mean, variance, *quantiles = found[row, number].tolist()
            assert mean == pytest.approx(float(own.mean()))
            assert variance == pytest.approx(float((own - own.mean()).square().mean()))
            assert quantiles[0] == pytest.approx(float(own[0]))
            assert quantiles[2] == pytest.approx(float(own.quantile(0.5)))
            assert quantiles[4] == pytest.approx(float(own[-1]))


def test_statistics_do_not_see_the_order_of_neurons():
    rows = torch.randn(2, ARCHITECTURE.num_parameters, dtype=torch.float64)
    batch = WeightBatch.from_parameters(ARCHITECTURE, rows)
    order = torch.tensor([2, 0, 1])
    first, bias, second, *rest = batch.tensors
    moved = [first[:, order], bias[:, order], second[:, :, order], *rest]
    permuted = WeightBatch.from_tensors(ARCHITECTURE, moved)
    assert not permuted.parameters.equal(rows)
    torch.testing.assert_close(weight_statistics(permuted), weight_statistics(batch))


def test_what_the_weights_tell_is_predicted(zoo, one_setting):
    found = score_baselines(zoo, "init_gain", [0])
    for score in found.values():
        assert score.kendall_tau[0] > 0.7
        assert score.interval[0] <= score.kendall_tau[0] <= score.interval[1]
    unseen = score_baselines(zoo, "dropout", [0])
    assert all(abs(score.kendall_tau[0]) < 0.6 for score in unseen.values())


def test_the_command_prints_and_writes_the_scores(zoo, one_setting, tmp_path, capsys):
    output = tmp_path / "scores" / "statistics.json"
    words = [str(zoo.directory), "--target=init_gain", "--seeds", "0", f"--output={output}"]
    main(["zoo", "baseline", *words])
    printed = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in printed] == [
        "statistics and linear",
        "statistics and boosting",
    ]
    record = json.loads(output.read_text())
    assert record["num_objects"] == {"train": 120, "val": 15, "test": 15}
    assert f"kendall_tau {record['scores']['linear']['kendall_tau'][0]:.4f}" in printed[0]


def test_a_measure_that_is_not_there_is_named(zoo):
    with pytest.raises(
        DataError, match="knows no 'accuracy' of its networks, only psnr, test_accuracy"
    ):
        score_baselines(INRStore(zoo.directory), "accuracy", [0])
    with pytest.raises(DataError, match="psnr of some train networks is not finite"):
        score_baselines(zoo, "psnr", [0])
