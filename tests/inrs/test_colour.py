"""From colour images to a trained network, through the command line."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from coloured_images import COLOURS, fill
from PIL import Image

from lightning_dws.cli import main
from lightning_dws.figures import save_figure
from lightning_dws.inrs import ImageFolder, INRStore, evaluate_inrs
from lightning_dws.inrs.pictures import draw_reconstructions

CONF = Path(__file__).parents[2] / "conf"
RECIPE = {"steps": 120, "learning_rate": 0.01}


def fit(root, tmp_path, capsys) -> INRStore:
    arguments = [
        "--config",
        str(CONF / "inrs" / "image_folder.yaml"),
        "--root",
        str(tmp_path / "s"),
    ]
    options = [f"--signals.root={root}", "--signals.size=[6,5]", "--architecture.widths=[2,8,8,3]"]
    capsys.readouterr()
    main(["inrs", "fit", *arguments, *options, f"--recipe={yaml.safe_dump(RECIPE)}"])
    return INRStore(capsys.readouterr().out.strip().splitlines()[-1])


def test_colours_reach_the_store_and_its_picture(tmp_path, capsys):
    """Every object is one colour with little noise: its INR has that colour, and so is drawn."""
    root = fill(tmp_path / "images", 10)
    store = fit(root, tmp_path, capsys)
    assert store.header.signals.startswith("images-")
    inrs = store.split("test", views=1)
    signals = ImageFolder(str(root), size=(6, 5), mode="colour")
    assert store.header.signals == signals.name
    means = evaluate_inrs(inrs, signals.coordinates).mean(dim=1) * 255
    expected = torch.tensor([COLOURS[store.classes[label]] for label in inrs.label.tolist()])
    assert (means - expected).abs().max() < 12
    picture = tmp_path / "picture.png"
    save_figure(draw_reconstructions(store, signals, "test", 3), picture)
    assert all(shows(picture, colour) > 2000 for colour in COLOURS.values())
    main(["inrs", "show", str(store.directory), "--output", str(picture), "--split", "test"])
    assert store.header.signals in capsys.readouterr().out.replace("\n", "")
    assert all(shows(picture, colour) > 1000 for colour in COLOURS.values())


def shows(picture, colour) -> int:
    """Count a picture's pixels of about that colour."""
    pixels = np.asarray(Image.open(picture).convert("RGB")).astype(int)
    return int((np.abs(pixels - np.array(colour)).max(axis=2) < 30).sum())


@pytest.mark.parametrize(
    "network",
    [
        ["DWSNet", "hidden_dim=4", "num_hidden=1", "num_heads=2"],
        ["NeuralGraphGNN", "hidden_dim=8", "num_layers=1", "num_probes=4"],
    ],
    ids=lambda network: network[0],
)
def test_networks_train_on_colour_inrs(tmp_path, network):
    root = fill(tmp_path / "images", 10)
    name, *options = network
    main(
        [
            "fit",
            f"--config={CONF / 'data' / 'image_folder.yaml'}",
            f"--data.dataset.signals.root={root}",
            "--data.dataset.signals.size=[6,5]",
            "--data.dataset.architecture.widths=[2,6,5,3]",
            f"--data.dataset.recipe={yaml.safe_dump(RECIPE)}",
            f"--data.root={tmp_path / 'data'}",
            "--data.batch_size=8",
            f"--model.network=lightning_dws.models.{name}",
            *(f"--model.network.init_args.{option}" for option in options),
            f"--trainer.default_root_dir={tmp_path / 'runs'}",
            "--trainer.max_epochs=1",
            "--trainer.accelerator=cpu",
            "--trainer.log_every_n_steps=1",
            "--trainer.enable_progress_bar=false",
            "--trainer.enable_model_summary=false",
        ]
    )
    folder = tmp_path / "runs" / "run" / "version_0"
    assert (folder / "checkpoints" / "last.ckpt").is_file()
    for picture in ("train", "val", "test"):
        path = folder / "pictures" / f"{picture}_inrs.png"
        assert all(shows(path, colour) > 1000 for colour in COLOURS.values())


def test_the_wrong_number_of_outputs_is_explained(tmp_path, capsys):
    root = fill(tmp_path / "images", 10)
    words = ["inrs", "fit", "--config", str(CONF / "inrs" / "image_folder.yaml")]
    words += ["--root", str(tmp_path / "stores"), f"--signals.root={root}"]
    for options, message in (
        (
            ["--signals.mode=grey"],
            "signals must have shape (B, N, 3) for widths (2, 32, 32, 32, 3)",
        ),
        (["--signals.root=/no/where"], "/no/where: no such folder"),
    ):
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main([*words, *options])
        assert stop.value.code == 1
        assert message in capsys.readouterr().err
