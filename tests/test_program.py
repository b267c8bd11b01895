"""What the program is called, which configs come with it, and what it says of misspelt words."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from lightning_dws import __version__
from lightning_dws.cli import main
from lightning_dws.program import find_config, program, shipped_configs
from lightning_dws.suggestions import closest

QUICKSTART = ["fit", "--config", "quickstart.yaml"]


def test_help_imports_nothing_that_takes_seconds():
    code = (
        "import sys; from lightning_dws.cli import main; main(['--help']); "
        "print(sorted({'torch', 'pytorch_lightning', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "usage: python main.py COMMAND" in done.stdout
    assert done.stdout.endswith("[]\n")


def test_the_installed_command_is_called_by_its_name(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["/usr/bin/lightning-dws", "--help"])
    assert program() == "lightning-dws"
    main()
    assert "lightning-dws fit --config conf/quickstart.yaml" in capsys.readouterr().out
    main(["--version"])
    assert capsys.readouterr().out == f"lightning-dws {__version__}\n"


def test_a_shipped_config_is_found_in_any_folder_and_ones_own_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shipped = str(shipped_configs() / "inrs" / "digits.yaml")
    assert find_config("inrs/digits.yaml") == shipped
    assert find_config("conf/inrs/digits.yaml") == shipped
    assert find_config("nothing.yaml") == "nothing.yaml"
    assert find_config("../conf/quickstart.yaml") == "../conf/quickstart.yaml"
    own = tmp_path / "conf" / "inrs" / "digits.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("views: 2\n")
    assert find_config("conf/inrs/digits.yaml") == "conf/inrs/digits.yaml"


def test_a_run_by_a_shipped_config_s_name_is_that_of_its_path(tmp_path, monkeypatch, capsys):
    words = ["--print_config", "--trainer.max_epochs=3"]
    with pytest.raises(SystemExit):
        main(["fit", "--config", str(shipped_configs() / "quickstart.yaml"), *words])
    expected = capsys.readouterr().out
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        main([*QUICKSTART, *words])
    assert capsys.readouterr().out == expected
    assert "lightning_dws.models.DWSNet" in expected


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["fitt"], "fit"),
        (["inrs", "shwo"], "show"),
        (["table", "--confg", "x"], "--config"),
        (["predict", "--ckpt_path=.", "--data=X", "--outpt=Y"], "--output"),
        ([*QUICKSTART, "--trainer.max_epoch=3"], "--trainer.max_epochs"),
        ([*QUICKSTART, "--max_steps=3"], "--trainer.max_steps"),
        ([*QUICKSTART, "--seed=3"], "--seed_everything"),
        ([*QUICKSTART, "--epochs=3"], "--trainer.max_epochs"),
        (["inrs", "fit", "--config=inrs/digits.yaml", "--output=X"], "--root"),
        ([*QUICKSTART, "--data.dataset=inrs/digitz.yaml"], "inrs/digits.yaml"),
        ([*QUICKSTART, "--model.network=DWSNett"], "DWSNet"),
        ([*QUICKSTART, "--model.network=lightning_dws.models.DWSnet"], "DWSNet"),
        ([*QUICKSTART, "--model.network.init_args.hiden_dim=3"], "hidden_dim"),
        ([*QUICKSTART, "--data.dataset.recipe=fastt"], "fast"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[-1],
)
def test_a_misspelt_word_is_answered_with_what_was_meant(words, meant, capsys):
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.endswith(f"; did you mean {meant!r}?")


def test_a_misspelt_setting_of_a_file_too(tmp_path, capsys):
    Path(tmp_path / "own.yaml").write_text("trainer: {max_epoch: 3}\n")
    with pytest.raises(SystemExit):
        main([*QUICKSTART, "--config", str(tmp_path / "own.yaml")])
    assert "did you mean 'trainer.max_epochs'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (
            [*QUICKSTART, "--trainer.help"],
            "; --help lists the options that begin with '--trainer.'",
        ),
        (
            ["inrs", "show", "X", "--signals.root=Y"],
            r"one by --signals CLASS \(ArrayFolder, Audio.*",
        ),
    ],
)
def test_an_option_that_needs_another_one_says_so(words, answer, capsys):
    with pytest.raises(SystemExit):
        main(words)
    assert re.search(f"{answer}$", capsys.readouterr().err.splitlines()[-1])


@pytest.mark.parametrize(
    ("command", "config", "meant"),
    [
        ("inrs fit", "zoo/digits.yaml", "zoo fit"),
        ("zoo fit", "inrs/digits.yaml", "inrs fit"),
        ("inrs fit", "data/digits.yaml", "fit"),
        ("fit", "inrs/digits.yaml", "inrs fit"),
        ("fit", "table/digits.yaml", "table"),
        ("fit", "sweep/digits_dws.yaml", "sweep"),
    ],
)
def test_a_config_of_another_command_is_answered_with_its_name(command, config, meant, capsys):
    with pytest.raises(SystemExit):
        main([*command.split(), "--config", config])
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.endswith(f"; the config is one of '{program()} {meant}'")
    if not config.startswith("table"):  # whose rows have names that no option has
        assert said.startswith(f"error: '{command}' does not accept option '")


def test_nothing_is_suggested_for_what_resembles_nothing():
    assert closest("zebra", ["fit", "test"]) == ""


def test_help_of_fit_names_the_networks_and_no_other_modules(capsys):
    with pytest.raises(SystemExit):
        main(["fit", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    networks = said.partition("<class 'Module'>, such as: ")[2].partition(")")[0].split(", ")
    names = [f"lightning_dws.models.{name}" for name in ("DWSNet", "FlatMLP", "NeuralGraphGNN")]
    assert set(names) <= set(networks)
    assert not any(name.startswith("torch.") for name in networks)


def test_help_of_predict_says_that_there_are_two_kinds(capsys):
    with pytest.raises(SystemExit):
        main(["predict", "--help"])
    assert "predict --ckpt_path PATH --data FOLDER" in capsys.readouterr().out
