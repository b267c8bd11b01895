"""Where parts meet: forms and tasks, configs and tables, predictions and pages."""

import csv
import json
import re

import pytest
import torch
from test_cli import NETWORK, RUN, TINY, error_of, run_folder
from tiny import random_batch

from lightning_dws import INRArchitecture, load_checkpoint
from lightning_dws.cli import main
from lightning_dws.errors import DataError
from lightning_dws.inrs import INRStore
from lightning_dws.inrs.store.convention import ImageConvention
from lightning_dws.prediction.predicted_classes import read_predicted_classes

REGRESSION = ["--task=regression", "--model.targets=[psnr]", "--model.network=tiny.FlatMLP"]


@pytest.fixture
def places(tmp_path):
    return [f"--data.root={tmp_path / 'data'}", f"--trainer.default_root_dir={tmp_path / 'runs'}"]


def last_of(tmp_path, name="run") -> str:
    return str(run_folder(tmp_path, name) / "checkpoints" / "last.ckpt")


def test_a_network_of_canonical_inrs_is_not_measured_on_others(tmp_path, places, capsys):
    main(["fit", *TINY, *RUN, *places, *NETWORK, "--data.canonical=[Signs]"])
    wrong = ["test", *TINY, *places, *NETWORK, "--trainer.accelerator=cpu"]
    said = error_of([*wrong, f"--ckpt_path={last_of(tmp_path)}"], capsys)
    assert "trained on INRs in canonical forms (Signs), data.canonical is (none)" in said
    main(["fit", *TINY, *RUN, *places, *NETWORK, f"--init_from={last_of(tmp_path)}"])
    assert "canonical forms (Signs), data.canonical is (none)" in capsys.readouterr().err


def test_a_regression_on_another_scale_takes_the_network_without_its_head(tmp_path, places, capsys):
    main(["fit", *TINY, *RUN, *places, *REGRESSION, "--name=first"])
    again = ["fit", *TINY, *RUN, *places, *REGRESSION, f"--init_from={last_of(tmp_path, 'first')}"]
    capsys.readouterr()
    main([*again, "--name=same"])
    assert "starts anew" not in capsys.readouterr().err
    with pytest.raises(SystemExit):  # for no PSNR is a share
        main([*again, "--name=other", "--model.loss=binary_cross_entropy"])
    assert "its network is taken over but for its head" in capsys.readouterr().err


def test_the_checkpoint_of_a_regression_says_how_it_predicts(tmp_path, places):
    main(["fit", *TINY, *RUN, *places, *REGRESSION])
    with pytest.raises(DataError, match="of the task regression, which names no classes; 'predict"):
        load_checkpoint(last_of(tmp_path))


def test_an_unchanged_run_of_a_config_with_files_is_continued_without_a_word(
    tmp_path, places, capsys
):
    (tmp_path / "inrs.yaml").write_text(
        "{signals: tiny.Blobs, architecture: {widths: [2, 6, 5, 1]}, "
        "recipe: {steps: 10, learning_rate: 0.005}}"
    )
    (tmp_path / "own.yaml").write_text("data: {dataset: inrs.yaml}\n")
    words = ["fit", f"--config={tmp_path / 'own.yaml'}", *RUN, *places, *NETWORK]
    main(words)
    capsys.readouterr()
    main([*words, f"--ckpt_path={last_of(tmp_path)}"])
    assert "other settings" not in capsys.readouterr().err


def test_own_files_include_shipped_configs_and_tables_in_any_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("config: [quickstart.yaml]\ntrainer: {max_epochs: 7}\n")
    with pytest.raises(SystemExit):
        main(["fit", "--config=mine.yaml", "--print_config"])
    assert "max_epochs: 7" in (said := capsys.readouterr().out)
    assert "lightning_dws.inrs.Digits" in said
    (tmp_path / "data.yaml").write_text("data: {dataset: inrs/shapes.yaml}\n")
    by_file = ["--config=mine.yaml", "--config=data.yaml"]
    for words in (by_file, ["--config=mine.yaml", "--data.dataset=inrs/shapes.yaml"]):
        with pytest.raises(SystemExit):
            main(["fit", *words, "--print_config"])
        assert "lightning_dws.inrs.Solids" in capsys.readouterr().out
    (tmp_path / "table.yaml").write_text(
        "config: [conf/table/digits.yaml]\nname: mine\n"
        "models: {GNN: null, MLP: conf/model/mlp.yaml}\n"
    )
    main(["table", "--config=table.yaml", "--dry_run"])
    assert re.search(r"left +none \| MLP \| digits", capsys.readouterr().out)


def test_classes_by_number_are_named_by_the_store(tmp_path):
    path = tmp_path / "predictions.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["object_id", "view", "label", "prediction"], [7, 0, 1, 2]])
    [found] = read_predicted_classes(path, ("left", "middle", "right")).values()
    assert json.dumps(found.name) == '"right"'


def test_inrs_without_classes_are_edited_and_the_edited_ones_are_sound(tmp_path, places, capsys):
    """Few INRs of one class, too."""
    store, edited = tmp_path / "mine", tmp_path / "edited"
    INRStore.write(store, random_batch(size=20).replace(label=torch.zeros(20).long()), ())
    task = ["--task=editing", "--model.network=DWSNet", "--model.network.init_args.hidden_dim=8"]
    given = [*task, "--model.network.init_args.num_hidden=1", f"--data.store={store}"]
    main(["fit", *given, *RUN, *places])
    main(["predict", f"--ckpt_path={last_of(tmp_path)}", f"--edited.path={edited}"])
    main(["inrs", "verify", str(edited)])
    assert "2 INRs verified" in capsys.readouterr().out


def test_edited_inrs_keep_the_convention_of_the_images(tmp_path, places):
    """Their alpha channel, an axis order, what black and white are."""
    convention = ImageConvention("ij", (-1.0, 1.0), has_alpha=True)
    store, edited = tmp_path / "mine", tmp_path / "edited"
    transparent = random_batch(INRArchitecture((2, 5, 2)), size=20)
    INRStore.write(store, transparent, ("one",), convention=convention)
    small = [f"--model.network.init_args.{name}=8" for name in ("hidden_dim", "num_heads")]
    given = ["--task=editing", "--model.network=DWSNet", *small, f"--data.store={store}"]
    main(["fit", *given, *RUN, *places])
    main(["predict", f"--ckpt_path={last_of(tmp_path)}", f"--edited.path={edited}"])
    assert INRStore(edited).header.convention == convention


def test_a_store_that_is_missing_says_what_makes_one(tmp_path, places, capsys):
    config = ["--config=conf/zoo_dws.yaml", "--data.store=none"]
    assert "none: no INR store (there is no dataset.json); 'zoo fit'" in error_of(
        ["fit", *config, *places], capsys
    )
