import json
import re
import shutil
import sys
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
import yaml
from cnns import cnn_batch
from one_line import fails_in_one_line
from pytorch_lightning.callbacks import ModelCheckpoint
from safetensors.torch import save_file
from saved import save_network
from tiny import FlatMLP as ForeignMLP
from tiny import tiny_spec

from lightning_dws.checkpoints import load_checkpoint as read_checkpoint
from lightning_dws.cli import main
from lightning_dws.data import INRDataModule
from lightning_dws.errors import DataError
from lightning_dws.files import json_sha256
from lightning_dws.inrs import INRStore
from lightning_dws.models import FlatMLP
from lightning_dws.plain_checkpoints import CONFIG_NAME, WEIGHTS_NAME, make_plain, read_plain
from lightning_dws.prediction import TrainedClassifier, load_checkpoint, load_pretrained
from lightning_dws.tasks import ClassificationTask

REPO = "me/network"


@pytest.fixture
def trained(store, tmp_path):
    """The checkpoint of a network that was trained for an epoch of three steps."""
    root = str(store.directory.parent)
    data = INRDataModule(tiny_spec(), root=root, batch_size=8)
    network = FlatMLP(data.architecture, 3, hidden_dim=4, num_hidden=1)
    return train(data, network, tmp_path / "run")


def write_plain(path, folder):
    """Write what would be pushed into a folder; give the weights' file."""
    plain = make_plain(read_checkpoint(path))
    folder.mkdir()
    (folder / WEIGHTS_NAME).write_bytes(plain.weights)
    (folder / CONFIG_NAME).write_text(plain.config_text)
    return folder / WEIGHTS_NAME


def train(data, network, folder):
    """Train for an epoch; give the checkpoint."""
    best = ModelCheckpoint(folder / "checkpoints", "best", monitor="val/accuracy")
    pl.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[best],
    ).fit(ClassificationTask(network, 3), datamodule=data)
    return folder / "checkpoints" / "best.ckpt"


def rewrite_config(folder, **changes):
    """Change what a shared checkpoint says of itself, as somebody might who means harm."""
    config = json.loads((folder / CONFIG_NAME).read_text())
    config["lightning_dws"] |= changes
    del config["sha256"]
    (folder / CONFIG_NAME).write_text(json.dumps({**config, "sha256": json_sha256(config)}))


def test_a_network_predicts_as_it_did_before_it_was_shared(hub, trained, store, tmp_path, capsys):
    main(["push", str(trained.parents[1]), REPO, "--license", "mit"])
    assert f"{hub.endpoint}/{REPO}\n" in capsys.readouterr().out
    files = hub.repositories["models", REPO].files
    assert set(files) == {"README.md", CONFIG_NAME, WEIGHTS_NAME}
    inrs = store.split("test")
    expected = load_checkpoint(trained).predict(inrs).probabilities
    shared = TrainedClassifier.from_pretrained(REPO)
    assert torch.equal(shared.predict(inrs).probabilities, expected)
    assert shared.classes == store.classes
    assert torch.equal(load_pretrained(REPO)(inrs), shared.task(inrs))
    main(["pull", REPO, str(tmp_path / "pulled")])
    pulled = load_checkpoint(tmp_path / "pulled")
    assert torch.equal(pulled.predict(inrs).probabilities, expected)
    assert pulled.record.recipe == load_checkpoint(trained).record.recipe
    assert pulled.push_to_hub("me/again") == f"{hub.endpoint}/me/again"
    again = hub.repositories["models", "me/again"].files
    assert again[WEIGHTS_NAME] == files[WEIGHTS_NAME]
    assert again[CONFIG_NAME] == files[CONFIG_NAME]


def test_a_pulled_network_is_used_on_the_command_line(trained, store, tmp_path, monkeypatch):
    write_plain(trained, tmp_path / "pulled")
    monkeypatch.chdir(tmp_path)
    words = ["--ckpt_path", "pulled", "--data", str(store.directory), "--device", "cpu"]
    main(["predict", *words])
    assert list(tmp_path.glob("predictions_*.csv"))


def test_the_card_says_what_is_stored(hub, trained):
    load_checkpoint(trained).push_to_hub(REPO)
    card = hub.repositories["models", REPO].files["README.md"].decode()
    front = yaml.safe_load(card.split("---\n")[1])
    [metric] = front["model-index"][0]["results"][0]["metrics"]
    score = read_checkpoint(trained)["callbacks"]
    [state] = [state for state in score.values() if "current_score" in state]
    assert metric["name"] == "val/accuracy"
    assert metric["value"] == pytest.approx(float(state["current_score"]), abs=1e-6)
    assert "license" not in front
    for words in (
        "FlatMLP",
        "widths (2, 6, 5, 1), sine, w0 8,",
        "steps 20",
        "left, middle, right",
        "Licence: not stated",
    ):
        assert words in card


def test_nothing_of_this_machine_is_shared(trained, tmp_path):
    plain = make_plain(read_checkpoint(trained))
    assert str(tmp_path) not in plain.config_text
    assert plain.config["lightning_dws"]["settings"] is None


def test_a_network_of_somebody_else_is_not_imported(hub, store, tmp_path, monkeypatch):
    path = save_network(tmp_path / "run.ckpt")
    expected = load_checkpoint(path).predict(store.split("test")).probabilities
    load_checkpoint(path).push_to_hub(REPO)
    message = r"its network is tiny\.FlatMLP, .* pass it as network="
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "tiny", None)  # an import would fail
        with pytest.raises(DataError, match=message):
            TrainedClassifier.from_pretrained(REPO)
    network = ForeignMLP(store.architecture, 3)
    shared = TrainedClassifier.from_pretrained(REPO, network=network)
    assert torch.equal(shared.predict(store.split("test")).probabilities, expected)


def test_tensors_of_a_note_are_shared_as_well(trained, tmp_path):
    """The INR that canonical forms compare with."""
    reference = torch.linspace(0, 1, 7, dtype=torch.float64)
    checkpoint = read_checkpoint(trained)
    record = {"forms": [], "reference": reference}
    checkpoint["lightning_dws"]["canonical"] = record
    checkpoint["INRDataModule"]["canonical_reference"] = reference
    torch.save(checkpoint, trained)
    again = read_plain(write_plain(trained, tmp_path / "pulled"))
    assert torch.equal(again["lightning_dws"]["canonical"]["reference"], reference)
    assert torch.equal(again["INRDataModule"]["canonical_reference"], reference)


@pytest.mark.parametrize(
    "changes",
    [
        {"task_name": "os.path.Task"},
        {"canonical": {"forms": [{"class_path": "os.Form", "init_args": {}}], "reference": None}},
        {"network": {"class_path": "os.Network", "init_args": {}}},
    ],
)
def test_a_shared_file_names_no_class_of_others(changes, trained, tmp_path):
    path = write_plain(trained, tmp_path / "pulled")
    rewrite_config(path.parent, **changes)
    with pytest.raises(DataError, match=r"is not of lightning_dws; nothing that a shared file"):
        load_checkpoint(path)


def test_a_shared_file_leads_to_no_folder_and_no_address(trained, tmp_path):
    path = write_plain(trained, tmp_path / "pulled")
    config = json.loads((path.parent / CONFIG_NAME).read_text())
    record = {**config["lightning_dws"]["inrs"], "store": "s3://elsewhere/secret/store"}
    rewrite_config(path.parent, inrs=record, settings={"data": {"root": "/etc"}})
    note = read_plain(path)["lightning_dws"]
    assert note["settings"] is None
    assert note["inrs"]["store"] == "store"


def test_what_is_damaged_is_refused(trained, tmp_path):
    path = write_plain(trained, tmp_path / "pulled")
    config = path.with_name(CONFIG_NAME)
    whole, text = path.read_bytes(), config.read_text()
    path.write_bytes(whole[:-1] + b"x")
    with pytest.raises(DataError, match="damaged, its SHA-256 is not the one in config"):
        load_checkpoint(path)
    path.write_bytes(whole)
    config.write_text(text.replace("middle", "muddle"))
    with pytest.raises(DataError, match="damaged, its SHA-256 is not the one noted"):
        load_checkpoint(path)
    for content, message in (("[]", "not that of a checkpoint"), ("{", "cannot be read")):
        config.write_text(content)
        with pytest.raises(DataError, match=message):
            load_checkpoint(path)
    save_file({}, path)
    config.unlink()
    with pytest.raises(DataError, match=r"config\.json: is missing"):
        load_checkpoint(path)


def test_what_is_damaged_in_the_cache_is_fetched_again(hub, trained):
    load_checkpoint(trained).push_to_hub(REPO)
    path = TrainedClassifier.from_pretrained(REPO).path
    path.resolve().write_bytes(b"x")
    assert TrainedClassifier.from_pretrained(REPO).classes == ("left", "middle", "right")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"model.ckpt": b"x"}, "found pickled files (model.ckpt), which are never opened"),
        ({"dataset.json": b"x"}, "(there is no config.json and no model.safetensors); found data"),
        ({CONFIG_NAME: b"{}", WEIGHTS_NAME: b"x"}, "not that of a checkpoint of lightning_dws"),
    ],
)
def test_what_is_no_shared_checkpoint_is_one_line(files, message, hub, tmp_path, capsys):
    hub.add("models", REPO, files)
    assert message in fails_in_one_line(["pull", REPO, str(tmp_path / "new")], capsys)
    assert not (tmp_path / "new").exists()


def test_the_kind_is_found_or_asked_for(hub, trained, store, tmp_path, capsys):
    words = ["pull", REPO, str(tmp_path / "new")]
    assert "neither a model nor a dataset" in fails_in_one_line(words, capsys)
    load_checkpoint(trained).push_to_hub(REPO)
    store.push_to_hub(REPO)
    assert "say which by --repo_type" in fails_in_one_line(words, capsys)
    main([*words, "--repo_type", "dataset"])
    assert (tmp_path / "new" / "dataset.json").is_file()


def test_a_training_cannot_go_on_from_a_shared_checkpoint(trained, tmp_path, store):
    path = write_plain(trained, tmp_path / "pulled")
    task = ClassificationTask(FlatMLP(store.architecture, 3, hidden_dim=4, num_hidden=1), 3)
    task.start_from(read_checkpoint(path)["state_dict"], path)  # but a new one may begin with it
    other = ForeignMLP(store.architecture, 3)
    with pytest.raises(DataError, match="not of this network"):
        load_checkpoint(path, network=other)


def test_a_new_training_begins_with_a_pulled_network(trained, tmp_path, store):
    write_plain(trained, tmp_path / "pulled")
    words = ["fit", f"--data.store={store.directory}", f"--trainer.default_root_dir={tmp_path}"]
    words += ["--model.network=lightning_dws.models.FlatMLP", "--model.network.hidden_dim=4"]
    words += ["--model.network.num_hidden=1", "--trainer.max_epochs=1", "--trainer.accelerator=cpu"]
    words += ["--trainer.log_every_n_steps=1"]
    main([*words, f"--init_from={tmp_path / 'pulled'}", "--model.optimizer.lr=0"])
    last = read_checkpoint(tmp_path / "run" / "version_0" / "checkpoints" / "last.ckpt")
    weight = "network.head.weight"
    assert torch.equal(last["state_dict"][weight], read_checkpoint(trained)["state_dict"][weight])


def test_a_pulled_network_that_is_to_be_tested_is_told_what_measures_it(trained, tmp_path, capsys):
    path = write_plain(trained, tmp_path / "pulled")
    said = fails_in_one_line(["test", f"--ckpt_path={path.parent}", "--data.store=x"], capsys)
    assert f"'predict --ckpt_path {path} --data STORE' measures" in said


def test_python_of_the_page_runs(hub, trained, store, tmp_path, monkeypatch, capsys):
    page = (Path(__file__).parents[2] / "docs" / "sharing.md").read_text()
    [code] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    load_checkpoint(trained).push_to_hub("OWNER/NETWORK")
    store.push_to_hub("OWNER/INRS")
    run = tmp_path / "runs" / "quickstart" / "version_0"
    shutil.copytree(trained.parent, run / "checkpoints")
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    assert 0 <= float(capsys.readouterr().out) <= 1
    assert ("models", "OWNER/MINE") in hub.repositories
    assert ("datasets", "OWNER/COPY") in hub.repositories


def test_networks_that_are_no_inrs_are_shared_as_what_they_are(hub, tmp_path):
    cnns = cnn_batch("no_bias", size=30, dtype=torch.float32)
    cnns = cnns.replace(label=torch.arange(30) % 3)
    store = INRStore.write(tmp_path / "cnns", cnns, ("a", "b", "c"))
    data = INRDataModule(store=str(tmp_path / "cnns"), batch_size=8)
    network = FlatMLP(data.architecture, 3, hidden_dim=4, num_hidden=1)
    trained = train(data, network, tmp_path / "run")
    main(["push", str(trained), REPO])
    main(["push", str(tmp_path / "cnns"), "me/cnns"])
    pulled, again = TrainedClassifier.from_pretrained(REPO), INRStore.from_pretrained("me/cnns")
    found, expected = pulled.predict(again.split("test")), load_checkpoint(trained)
    assert torch.equal(found.probabilities, expected.predict(store.split("test")).probabilities)
    cards = [
        hub.repositories[kind, name].files["README.md"].decode()
        for kind, name in (("models", REPO), ("datasets", "me/cnns"))
    ]
    for card in cards:
        assert "implicit" not in card
        assert "INRs" not in card
    assert "trained on the weights of networks of 3 tensors (3, 2, 3, 3)" in cards[0]
    assert "# Networks of " in cards[1]


def test_what_is_not_there_is_not_pushed(tmp_path, capsys):
    said = fails_in_one_line(["push", str(tmp_path / "nothing"), REPO], capsys)
    assert "nothing: no such file or folder; expected a checkpoint, a run or a store" in said
