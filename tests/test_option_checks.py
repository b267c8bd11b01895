"""Options that no run can have: one line each, before anything is fitted or any folder is made."""

import pytest
import yaml
from test_cli import NETWORK, RUN, TINY, run_folder
from torch import Tensor, nn

from lightning_dws import WeightBatch
from lightning_dws.cli import COMMANDS, main
from lightning_dws.option_checks import seed_of
from lightning_dws.parse_errors import shorten

MIXUP = "trainer: {callbacks+: [{class_path: lightning_dws.mixup.MixUp}]}\n"
ADAM = "--model.optimizer=torch.optim.AdamW"
RATE = "--model.optimizer.init_args.lr"


@pytest.fixture
def refused(tmp_path, capsys):
    """Give what is said of options; nothing may come into being by them."""

    def run(*options: str, status: int = 2) -> str:
        places = [f"--data.root={tmp_path / 'data'}"]
        places.append(f"--trainer.default_root_dir={tmp_path / 'runs'}")
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main(["fit", *TINY, *NETWORK, *RUN, *places, *options])
        assert stop.value.code == status
        assert not (tmp_path / "data").exists()
        assert not list(tmp_path.glob("runs/*/*"))
        printed = capsys.readouterr().err
        assert "Traceback" not in printed
        _, _, error = printed.rpartition("error: ")
        assert error.count("\n") == 1
        return error

    return run


@pytest.mark.parametrize(
    "option",
    [
        "seed_everything=-1",
        "seed_everything=100000000000000000000",
        "trainer.val_check_interval=0",
        "trainer.val_check_interval=-0.5",
        "trainer.check_val_every_n_epoch=0",
        "trainer.accumulate_grad_batches=0",
        "trainer.gradient_clip_val=-1",
        "trainer.max_epochs=-2",
        "trainer.max_steps=-7",
        "trainer.limit_train_batches=1.5",
        "trainer.log_every_n_steps=-1",
        "trainer.num_nodes=0",
        "trainer.num_nodes=100000000000000",
        "trainer.devices=-1",
        "trainer.devices=0.5",
        "data.views=100000000000000",
        "checkpoint.save_top_k=-3",
        "checkpoint.every_n_epochs=-1",
        "data.batch_size=100000000000000000000",
        "data.views=0",
        "model.warmup_steps=-1",
    ],
)
def test_a_number_out_of_its_range_is_named(option, refused):
    name, _, value = option.partition("=")
    error = refused(f"--{option}")
    assert error.startswith(f"{name} must be ")
    assert value in error


@pytest.mark.parametrize("rate", ["-1", "nan", ".inf"])
def test_a_learning_rate_out_of_its_range_is_named(rate, refused):
    assert "model.optimizer" in refused(ADAM, f"{RATE}={rate}")


def test_a_name_with_a_nul_is_refused(refused):
    assert "NUL" in refused("--name=a\0b")


def test_a_network_that_no_memory_holds_is_refused(refused):
    error = refused("--model.network.init_args.hidden_dim=1000000000000")
    assert "allocate" in error


def test_a_metric_that_nothing_measures_is_refused_with_those_there_are(refused):
    error = refused("--checkpoint.monitor=val/acc")
    assert "'val/acc'" in error
    assert "val/accuracy, val/accuracy_macro" in error


def test_two_mixups_are_refused_by_their_files(tmp_path, refused):
    for name in ("first", "second"):
        (tmp_path / f"{name}.yaml").write_text(MIXUP)
    (tmp_path / "other.yaml").write_text("name: other\n")
    files = [str(tmp_path / f"{name}.yaml") for name in ("first", "other", "second")]
    error = refused(*(word for file in files for word in ("--config", file)), status=1)
    assert f"({files[0]}, {files[2]})" in error


def test_a_part_of_a_named_recipe_says_how_it_is_changed(tmp_path, refused):
    (tmp_path / "part.yaml").write_text("data: {dataset: {recipe: {steps: 20}}}\n")
    error = refused("--data.dataset.recipe=fast", "--config", str(tmp_path / "part.yaml"))
    assert error.startswith("data.dataset.recipe: ")
    assert "recipe_changes: {steps: 20}" in error


@pytest.mark.parametrize(
    ("option", "line"),
    [
        ("trainer.max_epochs=x", "trainer.max_epochs: found x, expected int"),
        ("trainer.limit_val_batches=x", "found x, expected int or float"),
        ("data.table=x", "data.table: found x, expected one of auto, device, mapped"),
        ("data.table=devise", "auto, device, mapped; did you mean 'device'?"),
        ("trainer.precision=15", "found 15, expected one of 64, 32, 16, transformer-engine, "),
        (
            "model.compile=auto",
            "expected bool or one of default, reduce-overhead, max-autotune, cuda-graph",
        ),
        ("model.compile=max-autotun", "cuda-graph; did you mean 'max-autotune'?"),
        ("data.dataset.architecture.widths=[2,a,1]", "architecture.widths: found a, expected int"),
        ("trainer.gradient_clip_val=nan", "gradient_clip_val: found nan, expected int or float"),
        ("model.label_smoothing=.nan", "model.label_smoothing must be a number, got nan"),
        ("data.augmentations=3", "data.augmentations: found 3, expected a list"),
        ("trainer.callbacks=[foo]", "Not a valid subclass of Callback"),
        (
            "trainer.callbacks={class_path: lightning_dws.mixup.MixUp, init_args: {alph: 1}}",
            "MixUp': Option 'alph' is not accepted; did you mean 'alpha'?",
        ),
    ],
)
def test_a_value_of_the_wrong_kind_is_one_line(option, line, refused):
    assert line in refused(f"--{option}")


def test_values_of_a_command_without_configs_are_listed_too(capsys):
    with pytest.raises(SystemExit):
        main(["inrs", "import", "--format=nfn", "--source=x", "--output=y", "--axis_order=ji"])
    error = capsys.readouterr().err.splitlines()[-1]
    assert error == "error: axis_order: found ji, expected one of xy, ij; did you mean 'ij'?"


def test_a_short_message_stays_as_it_is():
    assert shorten("unrecognized arguments: --x") == "unrecognized arguments: --x"


def test_a_wrong_command_is_answered_with_all_there_are(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["foo"])
    assert stop.value.code == 2
    assert f"there are {', '.join(COMMANDS)}" in capsys.readouterr().err


def test_the_seed_that_was_left_to_us_is_saved(tmp_path):
    places = [f"--data.root={tmp_path / 'data'}", f"--trainer.default_root_dir={tmp_path / 'runs'}"]
    main(
        ["fit", *TINY, *NETWORK, *RUN, *places, "--seed_everything=true", "--trainer.max_epochs=1"]
    )
    config = yaml.safe_load((run_folder(tmp_path) / "config.yaml").read_text())
    seed = config["seed_everything"]
    assert type(seed) is int
    assert seed == seed_of(True)  # and the datamodule's, which is linked by the same function


class Unannotated(nn.Module):
    """An own network that says nothing of its arguments' types, and may give wrong outputs."""

    def __init__(self, architecture, num_classes, extra_columns: int = 0, flat: bool = False):
        super().__init__()
        self.hidden = architecture.widths[1]  # fails for a dict
        self.head = nn.Linear(architecture.num_parameters, num_classes + extra_columns)
        self.flat = flat

    def forward(self, batch: WeightBatch) -> Tensor:
        logits = self.head(batch.parameters)
        return logits[:, 0] if self.flat else logits


OWN = "--model.network=test_option_checks.Unannotated"


def test_a_share_that_leaves_no_batch_is_one_line(tmp_path, capsys):
    places = [f"--data.root={tmp_path / 'data'}", f"--trainer.default_root_dir={tmp_path / 'runs'}"]
    with pytest.raises(SystemExit) as stop:
        main(["fit", *TINY, *NETWORK, *RUN, *places, "--trainer.limit_val_batches=0.5"])
    assert stop.value.code == 1
    assert "error: You requested to check 0.5 of the `val_dataloader`" in capsys.readouterr().err


def test_an_interval_of_validation_beyond_the_epoch_is_one_line(tmp_path, capsys):
    places = [f"--data.root={tmp_path / 'data'}", f"--trainer.default_root_dir={tmp_path / 'runs'}"]
    with pytest.raises(SystemExit) as stop:
        main(["fit", *TINY, *NETWORK, *RUN, *places, "--trainer.val_check_interval=4"])
    assert stop.value.code == 1
    assert "val_check_interval is 4, and an epoch has 3 batches" in capsys.readouterr().err


def test_an_own_network_gets_an_architecture_without_asking_for_it(tmp_path):
    places = [f"--data.root={tmp_path / 'data'}", f"--trainer.default_root_dir={tmp_path / 'runs'}"]
    main(["fit", *TINY, *RUN, *places, OWN, "--trainer.max_epochs=1"])
    assert (run_folder(tmp_path) / "checkpoints" / "last.ckpt").is_file()


@pytest.mark.parametrize(
    ("wrong", "found"),
    [("extra_columns=1", "(8, 4)"), ("extra_columns=-1", "(8, 2)"), ("flat=true", "(8,)")],
)
def test_wrong_outputs_are_named_with_both_shapes(wrong, found, tmp_path, capsys):
    places = [f"--data.root={tmp_path / 'data'}", f"--trainer.default_root_dir={tmp_path / 'runs'}"]
    words = [OWN, f"--model.network.init_args.{wrong}", "--trainer.num_sanity_val_steps=0"]
    with pytest.raises(SystemExit) as stop:
        main(["fit", *TINY, *RUN, *places, *words])
    assert stop.value.code == 1
    error = capsys.readouterr().err
    assert f"Unannotated gives shape {found}, expected logits of shape (8, 3)" in error


def test_seeds():
    assert seed_of(7) == 7
    assert seed_of(False) == 0
