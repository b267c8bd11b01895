import pytest
import yaml
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from lightning_dws.errors import DataError
from lightning_dws.program import shipped_configs
from lightning_dws.sweep.option_trial import check_space
from lightning_dws.sweep.space import SearchSpace
from lightning_dws.sweep.sweep_config import SweepConfig, read_sweep
from lightning_dws.table.pieces import merge_pieces

RATE, DIM = "model.optimizer.init_args.lr", "model.network.init_args.hidden_dim"


def test_a_space_is_what_optuna_draws_from():
    space = SearchSpace.parse(
        {
            "a": {"choice": [16, "x", None, [1, 2]]},
            "b.lr": {"log": [1e-4, 1e-2]},
            "b.share": {"uniform": [0, 1]},
            "c": {"int": [1, 3]},
            "d": {"log_int": [1, 64]},
        },
        "here",
    )
    assert space.distributions == {
        "a": CategoricalDistribution([16, "x", None, "[1, 2]"]),
        "b.lr": FloatDistribution(1e-4, 1e-2, log=True),
        "b.share": FloatDistribution(0, 1),
        "c": IntDistribution(1, 3),
        "d": IntDistribution(1, 64, log=True),
    }
    params = {"a": "[1, 2]", "b.lr": 1e-3, "b.share": 0.5, "c": 2, "d": 8}
    assert space.pieces(params) == [
        {"a": [1, 2], "b": {"lr": 1e-3, "share": 0.5}, "c": 2, "d": 8},
    ]
    tried = space.corners()
    for name, axis in space.axes.items():
        assert {corner[name] for corner in tried} == set(axis.labels)


def test_files_come_before_options():
    space = SearchSpace.parse({"x": {"int": [1, 2]}, "config": {"choice": ["a.yaml"]}}, "here")
    assert space.pieces({"x": 1, "config": "a.yaml"}) == ["a.yaml", {"x": 1}]


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ([], "expected options and what they are set to, got"),
        ({"a": 3}, "a: expected one of choice, uniform, log, int, log_int, got 3"),
        ({"a": {"choise": [1]}}, "a: got choise, expected .*; did you mean 'choice'"),
        ({"a": {"choice": []}}, r"a: choice must be a list, got \[\]"),
        ({"a": {"choice": [1, 1]}}, "a: choice names a value twice"),
        ({"a": {"log": [0, 1]}}, "log must be two numbers, ascending, both above 0, got"),
        ({"a": {"uniform": [1, 0]}}, "uniform must be two numbers, ascending, got"),
        ({"a": {"uniform": [0, 1, 2]}}, "uniform must be two numbers"),
        ({"a": {"int": [0, 1.5]}}, "int must be two whole numbers"),
        ({"a": {"uniform": [0, float("inf")]}}, "uniform must be two numbers"),
    ],
)
def test_a_bad_space_is_one_line(space, message):
    with pytest.raises(DataError, match=rf"^here: .*{message}"):
        SearchSpace.parse(space, "here: space")


GOOD = {"name": "s", "base": {"name": "x"}, "space": {"a": {"int": [1, 2]}}, "trials": 2}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trials": None}, "trials must be a whole number from 1, got None"),
        ({"trails": 3}, "unknown setting trails; .*; did you mean 'trials'"),
        ({"seed": -1}, "seed must be a whole number from 0, got -1"),
        ({"sampler": "radom"}, "must be tpe or random, got 'radom'; did you mean 'random'"),
        ({"name": "a/b"}, "name must be that of a folder, got 'a/b'"),
        ({"pruning": {"warmup": 3}}, "pruning: unknown setting warmup; known are"),
        ({"pruning": "median"}, "pruning must be settings by name, got 'median'"),
        ({"base": 3}, "base: expected names of config files or settings, got 3"),
        ({"space": {"config": {"int": [1, 2]}}}, "config must be a choice of config files"),
    ],
)
def test_a_bad_sweep_is_one_line(changes, message, tmp_path):
    path = tmp_path / "sweep.yaml"
    path.write_text(yaml.safe_dump({**GOOD, **changes}))
    with pytest.raises(DataError, match=f"sweep.yaml: .*{message}"):
        read_sweep(str(path))


def test_what_is_missing_is_named(tmp_path):
    (tmp_path / "sweep.yaml").write_text("name: s\n")
    with pytest.raises(DataError, match="a sweep needs base, space, trials"):
        read_sweep(str(tmp_path / "sweep.yaml"))


def test_a_sweep_takes_files_beside_it(tmp_path):
    (tmp_path / "base.yaml").write_text("data: {views: 3}\n")
    (tmp_path / "noise.yaml").write_text("data: {batch_size: 7}\n")
    content = {**GOOD, "base": "base.yaml", "space": {"config": {"choice": ["noise.yaml"]}}}
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(content))
    config = read_sweep(str(tmp_path / "sweep.yaml"), trials=5)
    assert config.trials == 5
    [params] = config.space.corners()
    assert merge_pieces(config.pieces(params)) == {"data": {"views": 3, "batch_size": 7}}


def sweep_of(option: str, values: list) -> SweepConfig:
    space = SearchSpace.parse({option: {"choice": values}}, "space")
    return SweepConfig("s", ["conf/model/dwsnet.yaml", {"data": {"store": "x"}}], space, 1)


@pytest.mark.parametrize(
    ("option", "values", "message"),
    [
        (f"{DIM}s", [8], "'hidden_dims' is not accepted; did you mean 'hidden_dim'"),
        ("trainer.max_step", [8], "trainer.max_step=8; did you mean '--trainer.max_steps'"),
        ("data.views", [1, "many"], "data.views: found many, expected int"),
        (f"{RATE}s", [1e-3], "AdamW': Option 'lrs' is not accepted; did you mean 'lr'"),
        (f"{RATE}ate", [1e-3], "'lrate' is not accepted; it takes lr, betas, eps, weight_decay"),
        ("model.optimizer.init_arg.lr", [1e-3], "did you mean '--init_args.lr'"),
        ("model.optimiser.init_args.lr", [1], "did you mean '--model.optimizer.init_args.lr'"),
        ("modl.network", ["x"], "did you mean '--model.network'"),
    ],
)
def test_an_option_that_fit_has_not_is_found_before_any_trial(option, values, message):
    with pytest.raises(DataError, match=f"^s: .*{message}"):
        check_space(sweep_of(option, values))


def test_settings_of_a_recipe_that_are_misspelt_are_found():
    base = ["conf/model/dwsnet.yaml", "conf/data/digits.yaml"]
    space = SearchSpace.parse({"data.dataset.recipe_changes.step": {"int": [1, 2]}}, "space")
    with pytest.raises(DataError, match="did you mean 'steps'") as error:
        check_space(SweepConfig("s", base, space, 1))
    assert str(error.value).count("did you mean") == 1


def test_options_that_fit_has_are_accepted():
    check_space(sweep_of(RATE, [1e-5, 3e-2]))


@pytest.mark.parametrize(
    "path", sorted(shipped_configs().glob("sweep/*.yaml")), ids=lambda p: p.stem
)
def test_every_shipped_sweep_is_understood(path):
    config = read_sweep(str(path))
    check_space(config)
    assert config.name == f"sweep_{path.stem}"  # beside tables, under results


def test_options_are_called_by_as_much_of_their_name_as_is_needed():
    space = SearchSpace.parse({n: {"int": [1, 2]} for n in ("a.b.lr", "a.c.lr", "x.dim")}, "space")
    config = SweepConfig("s", [], space, 1)
    assert config.describe({"a.b.lr": 1, "a.c.lr": 2, "x.dim": 3}) == "b.lr 1, c.lr 2, dim 3"
