"""A zoo on disk: killed, resumed and extended to the same bytes, and read by everything else."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.func import functional_call, vmap

from lightning_dws.cli import main
from lightning_dws.errors import DataError
from lightning_dws.inrs import Digits, ImageFolder, INRStore
from lightning_dws.zoo import ZooRecipe, ZooSpec, prepare_zoo, zoo_preparation
from lightning_dws.zoo.cnn_training import MEASURES
from lightning_dws.zoo.zoo_spec import split_indices

TRAINING = ZooRecipe(batch_size=16, steps=(1, 3))
SPEC = ZooSpec(Digits(), channels=(2, 3), training=TRAINING)
WORDS = ["--signals=lightning_dws.inrs.Digits", "--channels=[2, 3]", "--training.steps=[1, 3]"]
WORDS += ["--training.batch_size=16", "--num_networks=20"]


def prepare(directory: Path, num_networks: int = 20) -> INRStore:
    return prepare_zoo(directory, SPEC, num_networks, show_progress=False)


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.name != ".lock"}


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(zoo_preparation, "SHARD_SIZE", 8)


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zoo_preparation, "SHARD_SIZE", 8)
        directory = tmp_path_factory.mktemp("zoo") / "straight"
        prepare(directory)
    return directory


@pytest.mark.parametrize("after", [0, 1, 3])
def test_a_kill_between_shards_ends_in_the_same_bytes(tmp_path, straight, monkeypatch, after):
    directory = tmp_path / "killed"
    write, written = zoo_preparation.write_shard, []

    def write_some(*args):
        if len(written) == after:
            raise KeyboardInterrupt
        written.append(args)
        return write(*args)

    monkeypatch.setattr(zoo_preparation, "write_shard", write_some)
    with pytest.raises(KeyboardInterrupt):
        prepare(directory)
    assert not (directory / "dataset.json").exists()
    trained = []
    monkeypatch.setattr(
        zoo_preparation, "write_shard", lambda *args: trained.append(args) or write(*args)
    )
    prepare(directory)
    assert len(trained) == 4 - after
    assert contents(directory) == contents(straight)


def test_a_zoo_grows_to_the_bytes_of_one_made_at_once(tmp_path, straight):
    directory = tmp_path / "grown"
    prepare(directory, 10)
    assert INRStore(directory).num_objects("train") == 8
    prepare(directory)
    assert contents(directory) == contents(straight)
    prepare(directory, 10)  # what is there beyond that stays
    assert contents(directory) == contents(straight)


def test_no_network_is_in_two_splits():
    for count in (10, 23, 1000):
        parts = [split_indices(split, count) for split in ("train", "val", "test")]
        assert torch.cat(parts).sort().values.equal(torch.arange(count))


def test_the_weights_are_those_of_the_measures(straight):
    """What is stored, evaluated by torch as the modules it was read off."""
    store, module = INRStore(straight), SPEC.shape.to_sequential()
    inrs = store.split("train")
    images, label = SPEC.images.test_images, SPEC.images.test_label
    logits = vmap(lambda own, x: functional_call(module, own, (x,)), in_dims=(0, None))(
        inrs.named_parameters(module), images
    )
    accuracy = (logits.argmax(dim=2) == label).float().mean(dim=1)
    found = store.columns(("test_accuracy",), "train")[:, 0]
    torch.testing.assert_close(found, accuracy, atol=2.5 / len(label), rtol=0)
    assert store.header.measures == MEASURES
    assert store.classes == ()
    drawn = TRAINING.draw(0, inrs.object_id)
    for name in ("learning_rate", "steps"):
        assert store.columns((name,), "train")[:, 0].equal(drawn[name])


def test_another_zoo_does_not_go_into_the_folder(straight):
    other = ZooSpec(Digits(), channels=(2, 3), training=TRAINING, seed=1)
    with pytest.raises(DataError, match="a store of another seed: found 0, expected 1"):
        prepare_zoo(straight, other, 20, show_progress=False)


def test_the_command_makes_the_same_zoo(tmp_path, straight, capsys):
    main(["zoo", "fit", *WORDS, f"--root={tmp_path}", "--store=mine"])
    assert str(tmp_path / "mine") in capsys.readouterr().out
    assert contents(tmp_path / "mine") == contents(straight)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--num_networks=5"], "num_networks must be at least 10"),
        (["--channels=[2, 2, 2, 2]"], "leave nothing of an image of 8x8"),
        (["--training.num_classes=[5, 11]"], "num_classes is up to 11, and digits has 10 classes"),
        (["--training.steps=[5, 2]"], "steps must be"),
    ],
)
def test_wrong_options_are_one_line(tmp_path, capsys, words, message):
    with pytest.raises(SystemExit) as stop:
        main(["zoo", "fit", *WORDS, *words, f"--root={tmp_path}"])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_only_images_make_a_zoo(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["zoo", "fit", *WORDS, "--signals=lightning_dws.inrs.Solids"])
    assert stop.value.code == 2
    assert "CNNs are trained on images, and solids" in capsys.readouterr().err


def test_a_folder_of_coloured_images_makes_one(tmp_path):
    draws = np.random.default_rng(0)
    for name in ("light", "dark"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(30):
            pixels = draws.integers(0, 255, (8, 8, 3)) // (1 if name == "light" else 4)
            image = Image.fromarray(pixels.astype(np.uint8))
            image.save(tmp_path / "images" / name / f"{number}.png")
    signals = ImageFolder(str(tmp_path / "images"), size=(8, 8), mode="colour")
    training = ZooRecipe(batch_size=16, steps=(60, 60), num_classes=(2, 2))
    spec = ZooSpec(signals, channels=(3, 3), training=training)
    store = prepare_zoo(tmp_path / "zoo", spec, 10, show_progress=False)
    assert store.architecture.tensors[0].shape == (3, 3, 3, 3)
    assert float(store.columns(("test_accuracy",), "train").median()) > 0.6
